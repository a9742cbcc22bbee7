"""Official clients recover with a getter in the data of their subscription: each publish once."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from recovering import history, publish, server_with
from socketcluster import AGServer
from support import require, until

JS = Path(__file__).parent / "js"
COUNT = 400
CUTS = 6


@pytest.mark.parametrize("client", ["client14", "client16", "client17", "client19", "client20"])
async def test_an_official_client_receives_each_publish_once(make_server: Any, client: str) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    version = 1 if client == "client14" else 2
    server: AGServer = await make_server(
        server_with(history(size=1000), protocol_version=version, auth_key=None)
    )
    process = await asyncio.create_subprocess_exec(
        "node",
        "recover.js",
        client,
        str(server.source_port),
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await until(lambda: _subscribed(server))
        cuts = set(random.Random(client).sample(range(COUNT), CUTS))
        for number in range(COUNT):
            await publish(server, number)
            await asyncio.sleep(0.003)
            if number in cuts:
                for socket in list(server.clients.values()):
                    socket.terminate()
        await publish(server, "end")
        output = await asyncio.wait_for(process.stdout.read(), 30)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    received = [json.loads(line) for line in output.splitlines()]
    assert received == [*range(COUNT), "end"]
    assert set(server._context.counts.recoveries) == {"recovered"}


def _subscribed(server: AGServer) -> bool:
    return any(socket.is_subscribed("c/1") for socket in server.clients.values())
