"""Guarantee 4, with a server behind the engine: one client's flood does not delay the others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from conformance.floods import Raw, Turns, masked, packet
from socketcluster import AGServer
from support import Running, connected, until

ENGINES = ("picows", "asgi")
MESSAGES = 256
BYTES = 64 * 1024

FLOODS = {
    "calls": [packet(event="add", data=[1, 2], cid=5)],
    "calls that wait": [packet(event="slow", data=[1, 2], cid=5)],
    "transmits": [packet(event="hello", data="x" * 20)],
    "pongs": [""],
    "answers": ['{"rid":1}'],
    "handshakes": [packet(event="#handshake", cid=7)],
    "publishes": [packet(event="#publish", data={"channel": "a", "data": 1}, cid=3)],
    "subscribes": [packet(event="#subscribe", data={"channel": "a"}, cid=3)],
    "malformed": ["[1,"],
    "batches": ["[" + ",".join([packet(event="hello", data=1)] * 32) + "]"],
    "batches of calls": ["[" + ",".join([packet(event="add", data=1, cid=9)] * 20) + "]"],
    "long batches": ["[" + ",".join([packet(event="hello", data=1)] * 900) + "]"],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_are_carried_out_a_share_per_turn(
    engine: str, kind: str, make_server: Any, running: Running
) -> None:
    """Guarantee 4: whatever it is that a client sends without end, others get their turns."""
    dispatched = [0]
    server: AGServer = await make_server(
        ws_engine=engine, max_malformed_messages=10**9, socket_channel_limit=10_000
    )
    _count_packets(server, dispatched)
    running.procedure(server, "add")
    running.on_connection(server, _receive)
    client = Raw()
    assert server.source_port is not None
    await client.open(server.source_port)
    draining = asyncio.ensure_future(client.drain())
    client.send(masked(packet(event="#handshake", data={}, cid=1)))
    await until(lambda: server.clients_count == 1)
    (socket,) = server.clients.values()
    message = FLOODS[kind][0]
    count = max(20, 50_000 // (len(message) + 6))
    before = socket.inbound.received
    with (
        Turns(lambda: dispatched[0]) as packets,
        Turns(lambda: socket.inbound.processed) as processed,
        Turns(lambda: socket.connection.get_bytes_received()) as sizes,
    ):
        client.send(masked(message) * count)
        await until(lambda: socket.inbound.received == before + count and not socket.inbound.busy)
    assert dispatched[0] >= 1, "the handshake at least is counted"
    assert packets.most <= MESSAGES
    assert processed.most <= MESSAGES
    assert sizes.most <= BYTES + len(message)
    await client.close()
    await draining


def _count_packets(server: AGServer, counted: list[int]) -> None:
    """Count the packets that a server carries out."""
    context = server._context
    dispatch = context.dispatch

    def counting(*args: Any) -> Any:
        counted[0] += 1
        return dispatch(*args)

    context.dispatch = counting


async def _receive(socket: Any) -> None:
    async for _ in socket.receiver("hello"):
        pass


async def test_others_are_answered_during_a_flood(make_server: Any, running: Running) -> None:
    """Guarantee 4: a call beside a flood of 20,000 takes a few turns, not all of them."""
    server: AGServer = await make_server()
    running.procedure(server, "add")
    flooder = Raw()
    assert server.source_port is not None
    async with connected(server) as other:
        await flooder.open(server.source_port)
        draining = asyncio.ensure_future(flooder.drain())
        flooder.send(masked(packet(event="#handshake", data={}, cid=1)))
        await until(lambda: server.clients_count == 2)
        (flooding,) = [s for s in server.clients.values() if s.id != next(iter(server.clients))]
        flooder.send(masked(packet(event="hello", data=1)) * 100_000)
        await until(lambda: flooding.inbound.received > 1000)
        before = flooding.inbound.received
        assert await other.call("add", 1) == 1
        assert flooding.inbound.received - before < 10_000
        await flooder.close()
        await draining


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", ["close", "abort"])
async def test_a_client_that_leaves_with_answers_outstanding_is_no_warning(
    engine: str, way: str, make_server: Any, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server(ws_engine=engine)
    running.procedure(server, "add")
    client = Raw()
    assert server.source_port is not None
    await client.open(server.source_port)
    client.send(masked(packet(event="#handshake", data={}, cid=1)))
    await until(lambda: server.clients_count == 1)
    client.send(*(masked(packet(event="add", data=1, cid=cid)) for cid in range(2, 502)))
    await until(lambda: client.writer.transport.get_write_buffer_size() == 0)
    getattr(client.writer.transport, way)()
    await until(lambda: server.clients_count == 0)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
