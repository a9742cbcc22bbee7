"""The demo page: two windows talk, and one loses its line; TypeScript checks its script."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from interop.test_describe import TSC, require_package, run_node
from socketcluster import demo
from socketcluster.demo import create_demo_server
from socketcluster.demo.pages import CLIENT_VARIABLE
from socketcluster.describe.api import Api
from socketcluster.describe.declarations import declarations
from socketcluster.history import javascript
from support import require

JS = Path(__file__).parent / "js"
TYPESCRIPT = str(JS / "node_modules" / "typescript" / "bin" / "tsc")
PAGE = Path(demo.__file__).parent
BUNDLE = JS / "node_modules" / "client20" / "socketcluster-client.min.js"


async def test_two_windows_exchange_messages_and_one_loses_its_line(
    make_server: Any, monkeypatch: Any
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    require(shutil.which("node") is not None, "Node.js")
    require(BUNDLE.is_file(), "the npm packages: npm install --prefix tests/interop/js")
    require(chromium is not None, "Chromium: apt-get install chromium")
    assert chromium is not None
    monkeypatch.setenv(CLIENT_VARIABLE, str(BUNDLE))
    server = await make_server(create_demo_server(drain_timeout=100))
    process = await asyncio.create_subprocess_exec(
        "node",
        "demo.js",
        f"http://127.0.0.1:{server.source_port}/",
        chromium,
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == {
        "line": "AliceHello, window two",
        "missed": ["AliceAre you there?", "AliceBob?"],
        "counted": "2",
        "left": "Alice",
        "faults": [],
    }


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("", "", ""),
        (
            "api.publish(room.name, text)",
            "api.publish(room.name, 5)",
            "'number' is not assignable to",
        ),
        ("{ name: input", "{ nick: input", "'nick' does not exist in type 'Login'"),
        ("message.text", "message.txt", "Property 'txt' does not exist on type 'Message'"),
    ],
)
async def test_its_script_fits_the_server(
    right: str, wrong: str, error: str, tmp_path: Path
) -> None:
    require_package("typescript")
    (tmp_path / "node_modules").symlink_to(JS / "node_modules")
    script = (PAGE / "app.js").read_text()
    assert right in script
    (tmp_path / "app.js").write_text(script.replace(right, wrong, 1))
    (tmp_path / "api.d.ts").write_text(declarations(Api.of(create_demo_server().handlers)))
    (tmp_path / "recovering.d.ts").write_text(javascript.types())
    client = 'export * from "socketcluster-client";\n'
    (tmp_path / "socketcluster-client.d.ts").write_text(client)
    status, out = await run_node(TYPESCRIPT, *TSC, "--checkJs", "app.js", cwd=tmp_path)
    assert (status == 0, error in out) == (not error, True), out
