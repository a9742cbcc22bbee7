"""The errors that docs/typing.md shows are those of the checkers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from interop.test_describe import JS, TSC, require_package, run_node
from socketcluster import AGServer
from socketcluster.describe.api import Api
from socketcluster.describe.declarations import declarations
from socketcluster.testing import connect
from type_checking.test_programs import BIN, ROOT, run

PAGE = (ROOT / "docs" / "typing.md").read_text()
ROW = re.compile(r"^\| (mypy|pyright|tsc) \| `(.*)` \| `(.*)` \|$", re.MULTILINE)
SHOWN = {checker: (call, error) for checker, call, error in ROW.findall(PAGE)}

PYTHON = """\
from msgspec import Struct

from socketcluster import AGServer, AGClientSocket

server = AGServer()


class Add(Struct):
    a: int
    b: int


@server.procedure()
def add(data: Add) -> int:
    return data.a + data.b


async def call(socket: AGClientSocket) -> None:
    CALL
"""
TYPESCRIPT = """\
import { create } from "socketcluster-client";
import { typed } from "./api.js";

const api = typed(create());
CALL;
export {};
"""


def mypy(folder: Path) -> str:
    cache = ("--cache-dir", folder / "cache")
    return run(sys.executable, "-m", "mypy", "--strict", *cache, folder / "main.py")[1]


def pyright(folder: Path) -> str:
    settings = {"extraPaths": [str(ROOT / "src")], "include": ["main.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return run(BIN / "basedpyright", "-p", folder, "--pythonpath", sys.executable)[1]


def a_server() -> AGServer:
    made: dict[str, Any] = {}
    exec(PYTHON.replace("CALL", "pass"), made)
    server = made["server"]
    assert isinstance(server, AGServer)
    return server


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_python(checker: Any, tmp_path: Path) -> None:
    call, error = SHOWN[checker.__name__]
    right = call.replace('"2"', "2")
    (tmp_path / "main.py").write_text(PYTHON.replace("CALL", right))
    assert error not in checker(tmp_path)
    (tmp_path / "main.py").write_text(PYTHON.replace("CALL", call))
    found = checker(tmp_path)
    assert "main.py:19" in found
    assert error in found


async def test_typescript(tmp_path: Path) -> None:
    require_package("typescript")
    call, error = SHOWN["tsc"]
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "api.d.ts").write_text(declarations(Api.of(a_server().handlers)))
    tsc = str(JS / "node_modules" / "typescript" / "bin" / "tsc")
    (tmp_path / "main.ts").write_text(TYPESCRIPT.replace("CALL", call.replace('"2"', "2")))
    assert await run_node(tsc, *TSC, "main.ts", cwd=tmp_path) == (0, "")
    (tmp_path / "main.ts").write_text(TYPESCRIPT.replace("CALL", call))
    status, out = await run_node(tsc, *TSC, "main.ts", cwd=tmp_path)
    assert (status != 0, out.startswith("main.ts(5,"), error in out) == (True, True, True), out


async def test_at_run_time() -> None:
    (error,) = re.findall(r"answers the call with ``(.*?) ``", PAGE)
    async with connect(a_server()) as socket:
        with pytest.raises(Exception, match=re.escape(error)):
            await socket.invoke("add", {"a": 1, "b": "2"})
