"""The layers: a module imports only lower levels, or its own folder."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "socketcluster"
MODULES = sorted(SOURCE.rglob("*.py"))
LEVELS = {
    "close_codes": 0,
    "error_text": 0,
    "errors": 0,
    "events": 0,
    "runtime": 1,
    "options": 0,
    "codecs": 1,
    "streams": 2,
    "protocol": 2,
    "auth": 2,
    "middleware": 3,
    "engines.base": 3,
    "brokers.base": 3,
    "engines": 4,
    "brokers": 4,
    "sockets": 5,
    "pubsub": 6,
    "server": 7,
    "client": 7,
    "testing": 8,
    "demo": 9,
    "cli": 10,
    "__init__": 8,
    "__main__": 11,
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def level(module: str) -> int:
    return LEVELS.get(module, LEVELS.get(module.split(".")[0], -1))


def is_module(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()


def runtime_imports(tree: ast.Module) -> list[str]:
    """What a module imports when it runs; not what only a type checker sees."""
    found: list[str] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += (
                [f"{module}.{alias.name}" for alias in node.names if is_module(alias.name)]
                if module == "socketcluster"
                else []
            ) or [module]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        todo += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    own = name_of(path)
    assert ast.get_docstring(tree), "a module says what it is"
    assert text.count("\n") <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno <= 250, node.name
    imports = runtime_imports(tree)
    if own.startswith("protocol"):
        assert "asyncio" not in imports
    for imported in imports:
        if not imported.startswith("socketcluster"):
            continue
        target = imported.removeprefix("socketcluster").removeprefix(".") or "__init__"
        same_folder = target.split(".")[0] == own.split(".")[0]
        side_by_side = "." not in own + target and level(target) == level(own)
        assert level(own) >= 0
        assert same_folder or side_by_side or level(target) < level(own), imported


def test_private_names_of_picows_are_in_one_file_and_its_versions_are_bounded() -> None:
    users = [
        name_of(p) for p in MODULES if "picows.picows" in runtime_imports(ast.parse(p.read_text()))
    ]
    assert users == ["engines.picows_parser"]
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    for package in ("picows", "uvicorn"):
        (wanted,) = (d for d in project["project"]["dependencies"] if d.startswith(package))
        assert ">=" in wanted
        assert ",<" in wanted, "a later version may lack a private name"
