"""Environment variables: SOCKETCLUSTER_PING_INTERVAL is the option `ping_interval`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from socketcluster.config.conversion import FILE_SUFFIX, Variable
from socketcluster.config.toml_file import KeyPath

PREFIX = "SOCKETCLUSTER_"
SEPARATOR = "__"
"""SOCKETCLUSTER_ASYNCAPI__TOKEN is the field `token` of the option `asyncapi`."""

OTHER_VARIABLES: frozenset[str] = frozenset(
    {
        "broker",
        "broker_required",
        "collect_metrics",
        "config",
        "demo_client",
        "fd",
        "host",
        "log_config",
        "log_format",
        "log_level",
        "metrics_port",
        "port",
        "reuse_port",
        "rolling",
        "ssl_certfile",
        "ssl_keyfile",
        "target",
        "token",
        "uds",
        "url",
        "watchdog",
        "workers",
    }
)
"""The variables of the command line: with the prefix, and no options of a server."""

_KUBERNETES = re.compile(
    r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_.+)?)"
)
_KUBERNETES_VALUE = re.compile(r"(?:tcp|udp|sctp)://")


def variables(environment: Mapping[str, str]) -> Iterator[tuple[str, Variable]]:
    """Yield (option, text) of each variable with the prefix that is not empty.

    Kubernetes sets variables for each Service. For one that is called "socketcluster" they have the
    same prefix, and SOCKETCLUSTER_PORT is "tcp://10.0.0.1:80". These are left out.
    """
    for name, text in environment.items():
        if not name.startswith(PREFIX) or not text:
            continue
        if _KUBERNETES.fullmatch(name) or _KUBERNETES_VALUE.match(text):
            continue
        yield name.removeprefix(PREFIX).lower(), Variable.of(name, text)


def environment_table(
    environment: Mapping[str, str], names: Collection[str], renamed: Mapping[str, str]
) -> dict[str, Any]:
    """Return the variables of some options as a table, as a file would have them.

    `renamed` has the option of each variable whose name is another.
    """
    table: dict[str, Any] = {}
    nested: list[tuple[KeyPath, Variable]] = []
    for lowered, text in variables(environment):
        base = lowered.removesuffix(FILE_SUFFIX)
        suffix = lowered.removeprefix(base)
        base = renamed.get(base, base)
        option = base + suffix
        head, *rest = option.split(SEPARATOR)
        if option in names or base in names:
            table[option] = text
        elif rest and head in names:
            nested.append(((head, *rest), text))
    for keys, text in nested:
        put(table, keys, text)
    return table


def put(table: dict[str, Any], keys: KeyPath, value: Any) -> None:
    """Set a value inside of nested tables."""
    *outer, last = map(str, keys)
    for key in outer:
        inner = table.get(key)
        if not isinstance(inner, dict):
            inner = table[key] = {}
        table = inner
    table[last] = value


def unknown_variables(environment: Mapping[str, str], names: Collection[str]) -> Iterator[str]:
    """Yield a warning about each variable with the prefix that is no option."""
    for option, text in variables(environment):
        head = option.split(SEPARATOR)[0]
        if option in names or option.removesuffix(FILE_SUFFIX) in names or head in names:
            continue
        near = difflib.get_close_matches(option, names, 1)
        hint = f" (nearest: {PREFIX}{near[0].upper()})" if near else ""
        yield f"The environment variable {text.name} is no option{hint}"
