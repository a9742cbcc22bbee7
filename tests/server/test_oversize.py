"""Messages that are larger than the whole buffer of a socket: refused, and nobody is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import InternalServerError, ResourceLimitError
from support import AnswerError, Client, Running, connected, soon, until

LIMIT = 20_000
LARGE = "x" * (LIMIT + 1)


@asynccontextmanager
async def one(server: AGServer) -> AsyncIterator[tuple[Client, AGServerSocket]]:
    """A client and its socket, which lives on: it receives a last event after all others."""
    async with connected(server) as client:
        socket = next(iter(server.clients.values()))
        yield client, socket
        socket.transmit("last", 1)
        assert await soon(client.event()) == {"event": "last", "data": 1}
        assert socket.state == "open"


async def transmit(socket: AGServerSocket) -> None:
    socket.transmit("e", LARGE)


async def invoke(socket: AGServerSocket) -> None:
    await socket.invoke("e", LARGE)


async def send(socket: AGServerSocket) -> None:
    socket.send(LARGE)


@pytest.mark.parametrize("speak", [transmit, invoke, send])
async def test_the_call_fails_and_the_socket_lives_on(
    make_server: Any, speak: Callable[[AGServerSocket], Any]
) -> None:
    server = await make_server(max_outbound_buffer=LIMIT)
    async with one(server) as (_, socket):
        counted = socket.outbound_prepared_message_count
        for _ in range(2):
            with pytest.raises(ResourceLimitError, match=f"holds {LIMIT} .max_outbound_buffer"):
                await soon(speak(socket))
        assert socket.outbound_prepared_message_count == counted
        assert socket.get_outbound_buffer_size() == 0


@pytest.mark.parametrize("speak", [transmit, invoke])
async def test_a_batch_keeps_what_fits(
    make_server: Any, speak: Callable[[AGServerSocket], Any]
) -> None:
    server = await make_server(max_outbound_buffer=LIMIT)
    async with one(server) as (client, socket):
        socket.start_batch()
        socket.transmit("e", "before")
        with pytest.raises(ResourceLimitError, match="max_outbound_buffer"):
            await soon(speak(socket))
        socket.flush_batch()
        assert (await soon(client.event()))["data"] == "before"


@pytest.mark.parametrize("speak", [transmit, invoke, send])
async def test_what_middleware_decides_on_meanwhile_is_kept(
    make_server: Any, speak: Callable[[AGServerSocket], Any]
) -> None:
    server, deciding = AGServer(max_outbound_buffer=LIMIT), asyncio.Event()

    async def hold(stream: Any) -> None:
        async for action in stream:
            await deciding.wait()
            action.allow()

    server.set_middleware("outbound", hold)
    await make_server(server)
    async with one(server) as (client, socket):
        await client.call("#subscribe", {"channel": "c"})
        server.exchange.transmit_publish("c", 1)
        await asyncio.sleep(0)
        with pytest.raises(ResourceLimitError, match="max_outbound_buffer"):
            await soon(speak(socket))
        deciding.set()
        assert (await soon(client.event()))["data"]["data"] == 1


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("droppable", [[], ["c"]], ids=["ordinary", "droppable"])
async def test_a_publish_that_middleware_makes_too_large_is_dropped_for_that_socket(
    make_server: Any, running: Running, droppable: list[str], batch: bool
) -> None:
    server = AGServer(max_outbound_buffer=LIMIT, droppable_channels=droppable)

    async def grow(stream: Any) -> None:
        async for action in stream:
            action.allow(LARGE if action.data == "grow" else action.data)

    server.set_middleware("outbound", grow)
    await make_server(server)
    warnings = running.collect(server.listener("warning"))
    async with one(server) as (client, socket):
        await client.call("#subscribe", {"channel": "c"})
        if batch:
            socket.start_batch()
        for data in ("grow", "next"):
            await soon(server.exchange.invoke_publish("c", data))
        await until(lambda: len(warnings) == 1)
        await until(lambda: socket.outbound_prepared_message_count == 2)
        socket.flush_batch()
        assert (await soon(client.event()))["data"]["data"] == "next"
    assert [type(event.warning) for event in warnings] == [ResourceLimitError]


def plain(data: Any) -> Any:
    return LARGE if data == "large" else data


async def waiting(data: Any) -> Any:
    await asyncio.sleep(0)
    return plain(data)


def untyped(data: Any, socket: AGServerSocket) -> Any:
    return plain(data)


def failing(data: Any) -> Any:
    if data == "large":
        raise ResourceLimitError(LARGE)
    return data


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize("handler", [plain, waiting, untyped])
async def test_an_answer_is_an_error_for_the_caller_and_in_the_log(
    make_server: Any, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    server = AGServer(max_outbound_buffer=LIMIT)
    server.procedure("p")(handler)
    await make_server(server)
    async with one(server) as (client, _):
        for _ in range(2):
            with pytest.raises(AnswerError, match=r"max_outbound_.*'ResourceLimitE"):
                await client.call("p", "large")
        assert await client.call("p", "small") == "small"
    assert texts(caplog)
    assert all("The handler of 'p' failed" in text for text in texts(caplog))
    assert "max_outbound_buffer" in caplog.text


async def test_an_error_that_is_too_large_is_replaced_and_emitted(
    make_server: Any, running: Running
) -> None:
    server = AGServer(max_outbound_buffer=LIMIT)
    server.procedure("p")(failing)
    await make_server(server)
    warnings = running.collect(server.listener("warning"))
    async with one(server) as (client, _):
        with pytest.raises(AnswerError, match="InternalServerError"):
            await client.call("p", "large")
        assert await client.call("p", "small") == "small"
    assert [type(event.warning) for event in warnings] == [ResourceLimitError]


async def test_a_loop_may_answer_otherwise(
    make_server: Any, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server(max_outbound_buffer=LIMIT)

    async def answer(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            with request:
                request.end(plain(request.data))

    running.on_connection(server, answer)
    async with one(server) as (client, _):
        with pytest.raises(AnswerError, match=r"max_outbound_.*'ResourceLimitE"):
            await client.call("p", "large")
        assert await client.call("p", "small") == "small"
    assert len(texts(caplog)) == 1
    assert "The handler of 'p' failed" in texts(caplog)[0]


async def test_a_message_of_just_the_limit_is_sent(make_server: Any) -> None:
    server = await make_server(max_outbound_buffer=LIMIT)
    async with one(server) as (client, socket):
        size = LIMIT - len('....{"event":"e","data":""}')  # The frame's header has four bytes.
        with pytest.raises(ResourceLimitError):
            socket.transmit("e", "x" * (size + 1))
        socket.transmit("e", "x" * size)
        assert (await soon(client.event()))["data"] == "x" * size


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_an_answer_of_the_client_is_an_error_for_the_server_and_in_the_log(
    make_server: Any, make_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = await make_server()
    client = make_client(server, max_outbound_buffer=LIMIT)
    client.procedure("p")(plain)
    client.procedure("q")(failing)
    socket = (await soon(server.listener("connection").once())).socket
    with pytest.raises(ResourceLimitError, match="max_outbound_buffer"):
        await soon(socket.invoke("p", "large"))
    assert texts(caplog)
    assert "The handler of 'p' failed" in texts(caplog)[0]
    with pytest.raises(InternalServerError):
        await soon(socket.invoke("q", "large"))
    assert await soon(socket.invoke("p", "small")) == "small"
