"""Guarantee 2: the last words of the official clients arrive, whatever middleware waits for."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServerSocket
from support import Running, require, until

JS = Path(__file__).parent / "js"
COUNT = 20


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("client", ["client14", "client16", "client17", "client19", "client20"])
async def test_last_words_of_official_clients_arrive(
    make_server: Any, running: Running, client: str, early: bool
) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    version = 1 if client == "client14" else 2
    server = await make_server(protocol_version=version, socket_stream_cleanup_mode="close")

    async def slow(stream: Any) -> None:
        async for action in stream:
            await asyncio.sleep(0.02)  # As a look-up in a database.
            action.allow()

    server.set_middleware("inbound", slow)
    published = running.collect(server.exchange.subscribe("room"))
    noted: list[int] = []

    async def take(socket: AGServerSocket) -> None:
        async for number in socket.receiver("note"):
            noted.append(number)

    running.on_connection(server, take)
    arguments = [client, str(server.source_port), str(COUNT), *(["early"] if early else [])]
    process = await asyncio.create_subprocess_exec("node", "leave.js", *arguments, cwd=JS)
    try:
        await until(lambda: len(published) == len(noted) == COUNT)
        await until(lambda: not server.clients)
    finally:
        if process.returncode is None:  # The older clients keep a timer that holds them.
            process.kill()
            await process.wait()
    assert sorted(published) == sorted(noted) == list(range(COUNT))
