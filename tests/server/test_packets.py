"""Packets whose data has no value, at every stage; and what waits behind outbound middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from support import AnswerError, Client, Running, connected, soon, until


async def allow(stream: Any) -> None:
    async for action in stream:
        action.allow()


async def refused(client: Client, event: str, data: str) -> str:
    """Send a call whose data is JSON text; return the name of the error in its answer."""
    packet = client.packet(event)
    answer = client.answer(packet)
    await client.send(f'{{"event":"{event}","cid":{packet["cid"]},"data":{data}}}')
    with pytest.raises(AnswerError) as raised:
        await soon(answer)
    name: str = raised.value.wire["name"]
    return name


@pytest.mark.parametrize("size", [0, 1000, 300_000])
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("event", ["x", "#publish", "#subscribe", "#unsubscribe", "#authenticate"])
async def test_a_call_whose_data_has_no_value_is_answered_with_an_error(
    make_server: Any, running: Running, event: str, middleware: bool, size: int
) -> None:
    server = AGServer()
    running.procedure(server, "x")
    if middleware:
        server.set_middleware("inbound", allow)
    await make_server(server)
    async with connected(server) as client:
        data = f'{{"channel":"c","data":[1e999,"{"x" * size}"]}}'
        assert await refused(client, event, data) == "InvalidMessageError"
        await client.call("#subscribe", {"channel": "d"})
        (socket,) = server.clients.values()
        assert socket.subscriptions() == ["d"]


async def test_a_handshake_whose_data_has_no_value_is_none(make_server: Any) -> None:
    """The socket is closed, as after any other message before the handshake."""
    server = await make_server()
    async with connected(server, handshake=False) as client:
        await client.send('{"event":"#handshake","cid":1,"data":{"authToken":[1e999]}}')
        assert (await client.closed())[0] == 4009


@asynccontextmanager
async def held(
    make_server: Any, running: Running
) -> AsyncIterator[tuple[AGServer, Client, AGServerSocket, asyncio.Event]]:
    """A client of the channel "c", whose publish of 1 middleware holds until the event is set."""
    server = AGServer()
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold(stream: Any) -> None:
        async for action in stream:
            asked.set()
            await go.wait()
            action.allow()

    server.set_middleware("outbound", hold)
    await make_server(server)
    running.procedure(server, "echo")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        (socket,) = server.clients.values()
        server.exchange.transmit_publish("c", 1)
        await soon(asked.wait())
        yield server, client, socket, go


async def test_an_answer_waits_behind_a_publish_that_middleware_holds(
    make_server: Any, running: Running
) -> None:
    async with held(make_server, running) as (_, client, socket, go):
        before = socket.get_outbound_buffer_size()
        packet = client.packet("echo", "answered")
        answer = client.answer(packet)
        await client.send(packet)
        await until(lambda: socket.get_outbound_buffer_size() > before)
        assert not answer.done()
        go.set()
        assert await soon(answer) == "answered"
        assert (await client.event())["data"] == {"channel": "c", "data": 1}


async def test_a_batch_begun_while_middleware_decides_keeps_the_order(
    make_server: Any, running: Running
) -> None:
    async with held(make_server, running) as (server, client, socket, go):
        socket.start_batch()
        socket.transmit("t", 2)
        server.exchange.transmit_publish("c", 3)
        socket.send('{"event":"raw","data":0}')
        go.set()
        await until(lambda: socket.get_outbound_backpressure() == 0)
        socket.flush_batch()
        packets = [await client.event() for _ in range(4)]
        order = [p["data"]["data"] if p["event"] == "#publish" else p["data"] for p in packets]
        assert [each for each in order if each] == [1, 2, 3]


async def test_a_socket_that_closes_while_middleware_decides_sends_nothing_more(
    make_server: Any, running: Running
) -> None:
    async with held(make_server, running) as (server, client, socket, go):
        socket.disconnect(4100)
        server.exchange.transmit_publish("c", 2)
        go.set()
        assert (await client.closed())[0] == 4100
        assert socket.get_outbound_backpressure() == 0
