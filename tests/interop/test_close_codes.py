"""How the official clients react to the closes of a server: the table of docs/deployment.md."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServer
from support import Running, require, soon

JS = Path(__file__).parent / "js"
CLIENTS = ["client14", "client16", "client17", "client19", "client20"]
EVERY_CLIENT = pytest.mark.parametrize("client", CLIENTS)


@asynccontextmanager
async def official(client: str, port: int) -> AsyncIterator[asyncio.StreamReader]:
    """An official client in a process of its own, and the lines of its reports."""
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    process = await asyncio.create_subprocess_exec(
        "node", "close_codes.js", client, str(port), cwd=JS, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


def version(client: str) -> Any:
    return 1 if client == "client14" else 2


@EVERY_CLIENT
async def test_the_delay_after_each_close_code(make_server: Any, client: str) -> None:
    server: AGServer = await make_server(protocol_version=version(client))
    connections = server.listener("connection").create_consumer()
    found = {}
    async with official(client, server.source_port or 0) as reports:
        for code in (1000, 1001, None, 1011, 1012, 4000, 4001, 4500):
            event = await soon(anext(connections))
            event.socket.disconnect(code)
            report = json.loads(await soon(reports.readline()))
            delay = report["delay"]
            kind = "never" if delay is None else "at once" if delay == 0 else "later"
            assert kind != "later" or 10_000 <= delay <= 20_000
            found[report["code"]] = (kind, bool(report["errors"]))
    assert found == {
        1000: ("never", False),
        1001: ("later", False),
        1005: ("at once", client != "client14"),
        1011: ("later", True),
        1012: ("later", True),
        4000: ("at once", True),
        4001: ("at once", True),
        4500: ("never", True),
    }


@EVERY_CLIENT
async def test_clients_of_a_drained_server_come_back_at_once(
    make_server: Any, running: Running, client: str
) -> None:
    """Two servers share a port, as two workers do. The drain moves the client to the other one."""
    first = AGServer(protocol_version=version(client))
    second = AGServer(protocol_version=version(client))
    connections: asyncio.Queue[AGServer] = asyncio.Queue()
    try:
        await first.listen(0, reuse_port=True)
        await second.listen(first.source_port or 0, reuse_port=True)
        for server in (first, second):
            server.lifecycle.add_peers(lambda: True)
            consumer = server.listener("connection").create_consumer()

            async def take(server: AGServer, consumer: Any) -> None:
                async for _ in consumer:
                    connections.put_nowait(server)

            running.start(take(server, consumer))
        async with official(client, first.source_port or 0) as reports:
            drained = await soon(connections.get())
            closing = asyncio.create_task(drained.close())
            report = json.loads(await soon(reports.readline()))
            assert (report["code"], report["delay"]) == (1005, 0)
            other = await soon(connections.get())
            assert other is not drained
            await soon(closing)
    finally:
        await first.close()
        await second.close()
