"""The house: which module may import which, type-only imports included, and how long they may be.

ARCHITECTURE.md draws the floors and says why.
"""

from __future__ import annotations

import ast
import graphlib
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "socketcluster"

MAX_MODULE_LINES = 400
MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 60

FLOORS = (
    ("close_codes", "error_fields", "error_text", "generics", "literals", "position"),
    ("errors", "events"),
    ("auth", "codecs", "options", "patterns"),
    ("config", "jwks", "logs", "protocol", "runtime"),
    ("brokers", "engines", "middleware", "streams"),
    ("history", "presence"),
    ("handlers",),
    ("sockets",),
    ("describe", "metrics", "nodes", "pubsub", "tracing"),
    ("client", "server"),
    ("__init__", "testing"),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""The rooms of the package, from the bottom up. A module imports lower floors, or its own room."""

SERVER_FLOORS = (
    (
        "background",
        "batch_limit",
        "console",
        "limits",
        "listening",
        "middleware",
        "origins",
        "recovery",
        "reporting",
        "signals",
        "ticker",
    ),
    ("option_types",),
    ("options",),
    (
        "admission",
        "channel_backlog",
        "channel_names",
        "channel_policy",
        "configured",
        "nodes",
        "option_warnings",
        "parts",
        "socket_server",
    ),
    ("context", "option_methods", "token_methods"),
    ("socket",),
    ("events", "packets", "users", "watchdog"),
    (
        "call_spans",
        "histories",
        "history_check",
        "hub",
        "listeners",
        "sessions",
        "survey",
        "tracing",
    ),
    ("drain", "presence"),
    ("handler", "lifecycle", "memory_limit"),
    ("handling", "metering"),
    ("endpoint", "health", "keepalive"),
    ("asgi",),
    ("serving",),
    ("server",),
)

CLIENT_FLOORS = (
    ("reconnect", "recovery", "reporting", "token_store"),
    ("listeners", "option_types"),
    ("options",),
    ("flow_control", "settings", "writer"),
    ("keepalive", "outbox"),
    ("connection", "messaging"),
    ("authentication", "call_spans", "handling", "responder", "subscriptions", "tracing"),
    ("channels", "decorators", "history", "recovering"),
    ("dispatch",),
    ("lifecycle",),
    ("socket",),
)

PRIVATE_NAMES = {
    # nats-py's queue of what is to be written; its own flush costs a task for each message.
    "brokers.nats_parser": {
        *("_flush_queue", "_flusher_task", "_pending", "_pending_data_size", "_ps"),
    },
    # Python documents this function, and has no other way to the frames of a thread.
    "runtime.exit_limit": {"_current_frames"},
    # The clock takes the place of the event loop's own.
    "testing.clock": {"_clock_resolution", "_scheduled"},
}
"""The private names of others that a module touches: on hot paths, or where a library offers no
other way."""


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports_of(module: str) -> set[str]:
    """The modules of the package that a module imports, anywhere in it and for whatever reason."""
    found: set[str] = set()
    for node in ast.walk(tree_of(module)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {_module_of(name) for name in names if name.split(".")[0] == "socketcluster"}
    return found - {module}


def _module_of(name: str) -> str:
    """The module that an imported name is in, or is."""
    inside = name.removeprefix("socketcluster").removeprefix(".")
    while inside not in MODULES:
        inside = inside.rpartition(".")[0] or "__init__"
    return inside


def floor_of(module: str, floors: tuple[tuple[str, ...], ...]) -> tuple[int, str]:
    """The floor of a module's room, and the room."""
    room = module.split(".")[0]
    return next((number, room) for number, rooms in enumerate(floors) if room in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_upward(module: str) -> None:
    own_floor, own_room = floor_of(module, FLOORS)
    for imported in imports_of(module):
        floor, room = floor_of(imported, FLOORS)
        assert room == own_room or floor < own_floor, imported
    if own_room == "protocol":
        assert "asyncio" not in MODULES[module].read_text().split('"""', 2)[2]


@pytest.mark.parametrize(("side", "floors"), [("server", SERVER_FLOORS), ("client", CLIENT_FLOORS)])
def test_nothing_imports_upward_inside_a_side(
    side: str, floors: tuple[tuple[str, ...], ...]
) -> None:
    inside = [module for module in MODULES if module.startswith(f"{side}.")]
    for module in inside:
        own_floor, own_room = floor_of(module.removeprefix(f"{side}."), floors)
        for imported in imports_of(module):
            if imported in inside:
                floor, room = floor_of(imported.removeprefix(f"{side}."), floors)
                assert room == own_room or floor < own_floor, f"{module} imports {imported}"


def test_there_are_no_circles() -> None:
    graph = {module: imports_of(module) for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_everything_is_short(module: str) -> None:
    assert ast.get_docstring(tree_of(module)), "a module says what it holds"
    assert len(MODULES[module].read_text().splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(tree_of(module)):
        lines = (getattr(node, "end_lineno", None) or 0) - getattr(node, "lineno", 0) + 1
        if isinstance(node, ast.ClassDef):
            assert lines <= MAX_CLASS_LINES, node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert lines <= MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_of_another_module_is_touched(module: str) -> None:
    own = set(_private_names_defined(module))
    touched = {name for name in _private_names_touched(module) if name not in own}
    assert touched == PRIVATE_NAMES.get(module, set())


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _private_names_defined(module: str) -> Iterator[str]:
    for node in ast.walk(tree_of(module)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                yield name
            case ast.Constant(value=str(name)):  # A slot.
                yield name


def _private_names_touched(module: str) -> Iterator[str]:
    for node in ast.walk(tree_of(module)):
        match node:
            case ast.Attribute(value=ast.Name(id="os")):
                pass  # Documented all the same: os._exit.
            case ast.Attribute(attr=name) if _is_private(name):
                yield name
            case ast.ImportFrom(module=source, names=names) if source != "__future__":
                yield from (alias.name for alias in names if _is_private(alias.name))


def test_private_names_of_picows_are_in_one_file_and_its_versions_are_bounded() -> None:
    users = [
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Import) and node.names[0].name == "picows.picows"
    ]
    assert users == ["engines.picows_parser"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    for package in ("picows", "uvicorn"):
        (wanted,) = (d for d in project["project"]["dependencies"] if d.startswith(package))
        assert ">=" in wanted
        assert ",<" in wanted, "a later version may lack a private name"
