"""The demo page in a real browser: two windows exchange a message."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from socketcluster.demo import create_demo_server
from socketcluster.demo.pages import CLIENT_VARIABLE
from support import require

JS = Path(__file__).parent / "js"
BUNDLE = JS / "node_modules" / "client20" / "socketcluster-client.min.js"


async def test_two_windows_exchange_a_message(make_server: Any, monkeypatch: Any) -> None:
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
    assert json.loads(out) == {"line": "AliceHello, window two", "faults": []}
