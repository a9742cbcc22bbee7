"""Official clients are told of channels that no rule names."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from socketcluster import ChannelRule
from support import require

JS = Path(__file__).parent / "js"


@pytest.mark.parametrize("client", ["client14", "client16", "client17", "client19", "client20"])
async def test_official_clients_are_refused(make_server: Any, client: str) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    server = await make_server(
        protocol_version=1 if client == "client14" else 2,
        channels=[ChannelRule("room/{room}")],
        channels_default="refuse",
    )
    process = await asyncio.create_subprocess_exec(
        "node", "rules.js", client, str(server.source_port), cwd=JS, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    reason = "the secret channel: no rule or handler of the server names it"
    name = "InvalidActionError"
    assert json.loads(output) == {
        "subscribe": {"name": name, "message": f"Clients cannot subscribe to {reason}"},
        "publish": {"name": name, "message": f"Clients cannot publish to {reason}"},
        "data": "Hello",
        "state": "unsubscribed",
    }
