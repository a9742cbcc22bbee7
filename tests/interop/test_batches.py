"""Guarantee 4: the limits of batches let official clients come back with all their channels."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServer
from support import require, soon

JS = Path(__file__).parent / "js"
CHANNELS = 3000


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_an_official_client_that_batches_comes_back_with_3000_channels(
    make_server: Any,
) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / "client20").is_dir(), "the npm packages: make interop-clients")
    server: AGServer = await make_server(socket_channel_limit=5000)
    process = await asyncio.create_subprocess_exec(
        "node",
        "resubscribe.js",
        str(server.source_port),
        str(CHANNELS),
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await soon(process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = [json.loads(line) for line in output.splitlines()]
    done = [line for line in said if "subscribed" in line]
    assert done == [
        {"connected": 1, "subscribed": CHANNELS},
        {"connected": 2, "subscribed": CHANNELS},
    ]
    assert not [line for line in said if line.get("code") == 1009]
