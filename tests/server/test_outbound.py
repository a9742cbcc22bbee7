"""What leaves a socket keeps the order it was sent in, however publishes are collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from support import Client, connected, until


@asynccontextmanager
async def subscribed(server: AGServer, *channels: str) -> AsyncIterator[tuple[Client, Any]]:
    """A client of channels, and its socket."""
    async with connected(server) as client:
        for channel in channels or ("c",):
            await client.call("#subscribe", {"channel": channel})
        yield client, list(server.clients.values())[-1]


async def told(client: Client, count: int) -> list[Any]:
    """The next events, each as its data or that of its publish."""
    packets = [await client.event() for _ in range(count)]
    return [p["data"]["data"] if p["event"] == "#publish" else p["data"] for p in packets]


async def slowly(stream: Any) -> None:
    async for action in stream:
        await asyncio.sleep(0)
        action.allow()


def transmit(socket: AGServerSocket, data: Any) -> None:
    socket.transmit("t", data)


def send(socket: AGServerSocket, data: Any) -> None:
    socket.send(json.dumps({"event": "t", "data": data}))


@pytest.mark.parametrize("speak", [transmit, send])
async def test_order_with_outbound_middleware(
    make_server: Any, speak: Callable[[AGServerSocket, Any], None]
) -> None:
    server = AGServer()
    server.set_middleware("outbound", slowly)
    await make_server(server)
    async with subscribed(server) as (client, socket):
        server.exchange.transmit_publish("c", 1)
        speak(socket, 2)
        server.exchange.transmit_publish("c", 3)
        speak(socket, 4)
        server.exchange.transmit_publish("c", 5)
        assert await told(client, 5) == [1, 2, 3, 4, 5]


async def test_order_in_a_batch(make_server: Any) -> None:
    server = await make_server()
    async with subscribed(server) as (client, socket):
        socket.start_batch()
        socket.transmit("t", 1)
        server.exchange.transmit_publish("c", 2)
        socket.transmit("t", 3)
        server.exchange.transmit_publish("c", 4)
        socket.flush_batch()
        socket.transmit("t", 5)
        assert await told(client, 5) == [1, 2, 3, 4, 5]


async def test_a_batch_of_more_than_half_the_limit_is_sent(make_server: Any) -> None:
    server = await make_server(max_outbound_buffer=200_000)
    async with subscribed(server) as (client, socket):
        socket.start_batch()
        socket.transmit("t", "x" * 150_000)
        socket.flush_batch()
        assert await told(client, 1) == ["x" * 150_000]
        assert socket.state == "open"


async def test_a_cancelled_batch_drops_what_was_published_during_it(make_server: Any) -> None:
    server = await make_server()
    async with subscribed(server) as (client, socket):
        socket.start_batch()
        server.exchange.transmit_publish("c", "dropped")
        socket.cancel_batch()
        server.exchange.transmit_publish("c", "kept")
        assert await told(client, 1) == ["kept"]


@pytest.mark.parametrize("batch", [False, True])
async def test_what_was_published_before_leaving_is_sent(make_server: Any, batch: bool) -> None:
    server = await make_server()
    async with subscribed(server) as (client, socket):
        if batch:
            socket.start_batch()
        socket.transmit("t", 1)
        server.exchange.transmit_publish("c", 2)
        socket.disconnect(4001)
        assert (await client.closed())[0] == 4001
        assert await told(client, 2) == [1, 2]


async def test_what_was_published_before_the_server_closes_is_sent(make_server: Any) -> None:
    server = await make_server()
    async with subscribed(server) as (client, _):
        server.exchange.transmit_publish("c", 1)
        await server.close()
        assert await told(client, 1) == [1]


@pytest.mark.parametrize("middleware", [False, True])
async def test_order_over_several_channels_and_a_leaving_one(
    make_server: Any, middleware: bool
) -> None:
    server = AGServer()
    if middleware:
        server.set_middleware("outbound", slowly)
    await make_server(server)
    async with subscribed(server, "a", "b") as (client, socket):
        for n in range(0, 200, 4):
            server.exchange.transmit_publish("a", n)
            server.exchange.transmit_publish("a", n + 1)
            server.exchange.transmit_publish("b", n + 2)
            socket.transmit("t", n + 3)
        server.exchange.transmit_publish("a", 200)
        await socket.kick_out("a")
        server.exchange.transmit_publish("a", 201)
        server.exchange.transmit_publish("b", 202)
        packets = [await client.event() for _ in range(203)]
        kicked = [n for n, packet in enumerate(packets) if packet["event"] == "#kickOut"]
        assert kicked == [201]
        del packets[201]
        told = [p["data"]["data"] if p["event"] == "#publish" else p["data"] for p in packets]
        assert told == [*range(201), 202]


async def test_middleware_that_is_removed_keeps_the_order(make_server: Any) -> None:
    server = AGServer()
    server.set_middleware("outbound", slowly)
    await make_server(server)
    async with subscribed(server) as (client, _):
        for n in range(100):
            server.exchange.transmit_publish("c", n)
        await asyncio.sleep(0)
        server.remove_middleware("outbound")
        for n in range(100, 110):
            server.exchange.transmit_publish("c", n)
        assert await told(client, 110) == list(range(110))


async def test_a_connection_that_cannot_be_written_to_harms_no_other(
    make_server: Any, monkeypatch: Any, caplog: Any
) -> None:
    server = await make_server()

    class Broken:
        def write(self, frames: Any) -> int:
            raise OSError("broken")

    async with subscribed(server) as (_, socket), subscribed(server) as (second, _):
        monkeypatch.setattr(socket.outbound, "_connection", Broken())
        server.exchange.transmit_publish("c", 1)
        assert await told(second, 1) == [1]
        monkeypatch.undo()
        assert socket.state == "closed"
    assert [record.getMessage() for record in caplog.records] == ["Unexpected OSError: broken"]


async def test_what_middleware_lets_through_is_counted_once(make_server: Any) -> None:
    server = AGServer(max_outbound_buffer=200_000)
    allowing = asyncio.Event()

    async def hold(stream: Any) -> None:
        async for action in stream:
            await allowing.wait()
            action.allow()

    server.set_middleware("outbound", hold)
    await make_server(server)
    async with subscribed(server) as (client, socket):
        for n in range(30):
            server.exchange.transmit_publish("c", [n, "x" * 6000])
        await until(lambda: socket.get_outbound_buffer_size() > 180_000)
        allowing.set()
        assert [n for n, _ in await told(client, 30)] == list(range(30))
        assert socket.get_outbound_buffer_size() == 0


async def test_a_socket_that_overflows_while_middleware_decides_counts_nothing(
    make_server: Any,
) -> None:
    server = AGServer(max_outbound_buffer=20_000)

    async def grow(stream: Any) -> None:
        async for action in stream:
            await asyncio.sleep(0)
            action.allow("x" * 15_000)

    server.set_middleware("outbound", grow)
    await make_server(server)
    async with subscribed(server) as (client, socket):
        client.ws.transport.pause_reading()
        while socket.state == "open":
            server.exchange.transmit_publish("c", 1)
            await asyncio.sleep(0)
        client.ws.transport.resume_reading()
        assert socket.get_outbound_backpressure() == 0
        assert socket.get_outbound_buffer_size() == 0


async def test_leaving_sends_what_waits_on_a_droppable_channel(make_server: Any) -> None:
    server = await make_server(droppable_channels={"c"})
    async with subscribed(server) as (client, socket):
        client.ws.transport.pause_reading()
        transport, text = socket.connection, "x" * 20_000
        published = 0
        while transport.get_write_buffer_size() <= 64 * 1024:
            server.exchange.transmit_publish("c", text)
            published += 1
            await asyncio.sleep(0)
        server.exchange.transmit_publish("c", text)
        published += 1
        await until(lambda: socket.get_outbound_buffer_size() > 80_000)
        socket.transmit("t", "last")
        socket.disconnect(4001)
        client.ws.transport.resume_reading()
        assert (await told(client, published + 1))[-1] == "last"
        assert (await client.closed())[0] == 4001
