"""`flush` waits until the NATS server has processed all earlier publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from socketcluster.brokers.nats_parser import flush
from support import soon


@asynccontextmanager
async def connected(lines: list[bytes], answers: bool = True) -> AsyncIterator[Client]:
    """A client of a server that records the lines it receives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        while line := await reader.readline():
            lines.append(line)
            if line == b"PING\r\n" and (answers or lines.count(line) == 1):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client()
    await soon(client.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False))
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


async def test_a_ping_does_not_overtake_what_it_asks_about() -> None:
    lines: list[bytes] = []
    async with connected(lines) as client:
        async with asyncio.timeout(5):  # In one task: another turn of the loop would hide it.
            await client.publish("a", b"1")
            await flush(client, 5)
        assert lines[-3:] == [b"PUB a  1\r\n", b"1\r\n", b"PING\r\n"]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_it_can_be_cancelled_whatever_it_waits_for(turns: int) -> None:
    async with connected([], answers=False) as client:
        await client.publish("a", b"1")
        waiting = asyncio.create_task(flush(client, 5))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=2)
        assert waiting.cancelled()
