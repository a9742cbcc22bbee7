"""Each TypedDict of options agrees with what it describes: names, types and defaults."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from socketcluster import (
    AGClientSocket,
    ClientOptions,
    ClientOptionsDict,
    DeflateOptionsDict,
    ReconnectOptions,
    ReconnectOptionsDict,
    ServerOptions,
    ServerOptionsDict,
    SubscribeOptionsDict,
    WsOptions,
)
from socketcluster.engines.base import DeflateOptions

PAIRS: list[tuple[Any, Any]] = [
    (ServerOptions, ServerOptionsDict),
    (ClientOptions, ClientOptionsDict),
    (ReconnectOptions, ReconnectOptionsDict),
    (DeflateOptions, DeflateOptionsDict),
]
SIZES = {
    "max_payload",
    "max_subscription_data",
    "max_inbound_backlog_bytes",
    "max_channel_backlog_bytes",
    "max_outbound_buffer",
    "max_buffered",
    "history_memory",
}
"""The options that are numbers of bytes."""

DEFAULT = re.compile(r"Default: (.+?)(?:, .*)?\.$")


def documented_defaults(kind: type) -> dict[str, Any]:
    """Read the defaults from the docstring below each key."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    (body,) = (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind.__name__)
    found = {}
    for key, text in zip(body[1::2], body[2::2], strict=True):
        assert isinstance(key, ast.AnnAssign)
        assert isinstance(key.target, ast.Name)
        assert isinstance(text, ast.Expr)
        sentence = DEFAULT.search(" ".join(ast.literal_eval(text.value).split()))
        assert sentence is not None, key.target.id
        value = sentence[1].replace(" MiB", " * 1024 * 1024")
        found[key.target.id] = eval(value, {"ReconnectOptions": ReconnectOptions})
    return found


def default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@pytest.mark.parametrize(("kind", "options"), PAIRS)
def test_names_and_types_are_the_same(kind: Any, options: Any) -> None:
    assert get_type_hints(options) == get_type_hints(kind)
    assert not options.__required_keys__


@pytest.mark.parametrize(("kind", "options"), PAIRS)
def test_the_defaults_are_documented(kind: Any, options: Any) -> None:
    fields = dataclasses.fields(kind)
    assert documented_defaults(options) == {field.name: default_of(field) for field in fields}


def test_the_options_of_a_subscription() -> None:
    parameters = inspect.signature(AGClientSocket.subscribe).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert documented_defaults(SubscribeOptionsDict) == keywords
    hints = get_type_hints(AGClientSocket.subscribe)
    assert get_type_hints(SubscribeOptionsDict) == {name: hints[name] for name in keywords}


def test_the_options_of_the_connection() -> None:
    assert set(documented_defaults(WsOptions)) == {"ssl", "headers", "proxy", "per_message_deflate"}


def shown_default(field: Any) -> str:
    """The default of an option, as the configuration page shows it."""
    value = default_of(field)
    if value in (None, (), {}):
        return "none"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, bool):
        return str(value).lower()
    is_duration = timedelta in get_args(get_type_hints(ServerOptions)[field.name])
    unit = " ms" if is_duration else {"auth_default_expiry": " s"}.get(field.name, "")
    return f"{value}{' bytes' if field.name in SIZES else unit}"


def test_every_option_is_in_the_table_of_the_configuration_page() -> None:
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", text, re.MULTILINE))
    defaults = {field.name: shown_default(field) for field in dataclasses.fields(ServerOptions)}
    assert rows == defaults, "the rows are `| `option` | type of its value | default, with unit |`"
