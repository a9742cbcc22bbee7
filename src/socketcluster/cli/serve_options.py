"""The options of `serve`: from its arguments, environment variables and the table [serve]."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from socketcluster.brokers.registry import BROKER_VARIABLE, REQUIRED_VARIABLE, create_broker
from socketcluster.config.conversion import FILE_SUFFIX, Variable
from socketcluster.config.defaults import defaults
from socketcluster.config.environment import environment_table
from socketcluster.config.layers import Layers, merge
from socketcluster.config.toml_file import TomlFile
from socketcluster.engines.registry import resolve_engine
from socketcluster.errors import InvalidOptionsError
from socketcluster.options import invalid_option
from socketcluster.server.configured import (
    SERVE_TABLE,
    checked_options,
    configured,
    option_kinds,
)
from socketcluster.server.metering import COLLECT_VARIABLE

PORT_VARIABLE = "PORT"
"""Set by platforms such as Heroku and Cloud Run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of `serve` that arguments, variables and a file can set.

    The arguments of the command describe them.
    """

    target: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    workers: int = 1
    rolling: int | None = None
    watchdog: float = 30.0
    reuse_port: bool = False
    fd: int | None = None
    broker: str | None = None
    broker_required: bool = False
    metrics_port: str | None = None
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_config: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise invalid_option("port", "an integer from 0 to 65535", self.port)
        if self.fd is not None and self.fd < 0:
            raise invalid_option("fd", "an integer of at least 0", self.fd)
        for name in ("workers", "rolling"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise invalid_option(name, "an integer of at least 1", value)
        if self.metrics_port is not None:
            split_metrics_port(self.metrics_port)
        if not 0 <= self.watchdog < math.inf:
            raise invalid_option("watchdog", "a number of seconds of at least 0", self.watchdog)


def split_metrics_port(text: str) -> tuple[str, int]:
    """Return the host and the port of "[HOST:]PORT".

    Raises:
        InvalidOptionsError: it is no port.
    """
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        expected = "a port such as 9100, or 0.0.0.0:9100 for other machines"
        raise invalid_option("metrics_port", expected, text)
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def serve_options(arguments: Mapping[str, Any], config: str | None) -> ServeOptions:
    """Return the options of `serve`, and make those of the file the defaults of every AGServer.

    `arguments` are those of the command line; one that is None was not used.

    Raises:
        InvalidOptionsError: the file or a variable is wrong; the error names the place.
    """
    file = None if config is None else TomlFile.read(config)
    _check_tables(file)
    names = {field.name for field in fields(ServeOptions)}
    used = {n: value for n, value in arguments.items() if n in names and value is not None}
    layers = _serve_layers(file, used)
    try:
        options = ServeOptions(**{**layers.values, **used})
    except InvalidOptionsError as error:
        raise layers.located(error) from None
    defaults.file = file
    servers = configured({}, file)
    checked_options({}, servers)
    _check_engine(servers)
    broker = _checked_broker(options.broker, layers, servers)
    if broker is not None:  # For the supervisor and its workers.
        os.environ[BROKER_VARIABLE] = broker
        os.environ.pop(BROKER_VARIABLE + FILE_SUFFIX.upper(), None)
    if options.metrics_port is not None:
        os.environ[COLLECT_VARIABLE] = "1"
    if options.broker_required:
        os.environ[REQUIRED_VARIABLE] = "1"
    return options


def _check_engine(servers: Layers) -> None:
    engine = servers.values.get("ws_engine")
    if engine is not None and ":" not in engine:  # Others import a module of the application.
        try:
            resolve_engine(engine, {})
        except InvalidOptionsError as error:
            raise servers.located(error) from None


def _checked_broker(url: str | None, layers: Layers, servers: Layers) -> str | None:
    """Return the URL of an argument, a variable or the file; `layers` are those of `serve`."""
    broker: str | None = url or servers.values.get("broker_engine")
    if broker is not None:
        try:
            create_broker(broker)
        except InvalidOptionsError as error:
            if url is None:
                raise servers.located(error) from None
            raise layers.located(InvalidOptionsError(str(error), "broker")) from None
    return broker


def _serve_layers(file: TomlFile | None, used: Mapping[str, Any]) -> Layers:
    kinds = get_type_hints(ServeOptions)
    table = {} if file is None else file.data.get(SERVE_TABLE, {})
    if file is not None and not isinstance(table, dict):
        place = file.place((SERVE_TABLE,))
        raise InvalidOptionsError(f"{place}: {SERVE_TABLE!r} must be a table", SERVE_TABLE)
    variables = environment_table(os.environ, kinds, {})
    if "port" not in variables and os.environ.get(PORT_VARIABLE):
        variables["port"] = Variable.of(PORT_VARIABLE, os.environ[PORT_VARIABLE])
    raw = merge(table, variables)
    # An argument replaces a wrong variable, but a file has to be right.
    raw = {k: v for k, v in raw.items() if not (k in used and isinstance(v, Variable))}
    return Layers.of(raw, kinds, file, (SERVE_TABLE,))


def _check_tables(file: TomlFile | None) -> None:
    """Say where an option belongs that is in the wrong table."""
    if file is None:
        return
    of_serve = {field.name for field in fields(ServeOptions)}
    of_servers = option_kinds()
    for key in file.data:
        if key in of_serve and key not in of_servers:
            text = f"the option {key!r} belongs into the table [{SERVE_TABLE}]"
            raise InvalidOptionsError(f"{file.place((key,))}: {text}", key)
    table = file.data.get(SERVE_TABLE)
    for key in table if isinstance(table, dict) else ():
        if key in of_servers and key not in of_serve:
            text = f"the option {key!r} belongs above the table [{SERVE_TABLE}]"
            raise InvalidOptionsError(f"{file.place((SERVE_TABLE, key))}: {text}", key)
