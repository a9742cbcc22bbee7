"""Handlers of the server's events."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, get_args

import pytest

from socketcluster import AGServer, AGServerSocket, ChannelRule, Presence
from socketcluster.errors import AuthTokenInvalidError, SocketClusterError
from socketcluster.literals import ServerEventName
from support import Running, connected, soon, until
from transports import dial, send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


@pytest.mark.parametrize("waits", [False, True])
@EVERYWHERE
async def test_every_event_has_handlers(make_server: Any, waits: bool) -> None:
    rules = [ChannelRule("a", presence=Presence(leave_delay=0))]
    server = AGServer(handshake_timeout=10_000, channels=rules)
    seen: list[tuple[str, Any, Any]] = []

    def declare(name: str) -> None:
        def plain(event: Any, socket: AGServerSocket | None = None) -> None:
            assert socket is getattr(event, "socket", None)
            seen.append((name, event, socket))

        async def waiting(event: Any, socket: AGServerSocket | None = None) -> None:
            await asyncio.sleep(0)
            plain(event, socket)

        for _ in range(2):
            server.on(name)(waiting if waits else plain)

    names = get_args(ServerEventName)
    for name in names:
        declare(name)

    @server.procedure("log in and out")
    async def log_in_and_out(socket: AGServerSocket) -> None:
        await socket.set_auth_token({"name": "ann"})
        await socket.deauthenticate()

    await make_server(server)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "a"})
        await client.call("#unsubscribe", "a")
        await client.call("log in and out")
        with pytest.raises(Exception, match="oken"):
            await client.call("#authenticate", "no token")
        server.emit_error(AuthTokenInvalidError("bad"))
    ws = await dial(server)
    await ws.close()
    await until(lambda: {name for name, *_ in seen} == set(names))
    await until(lambda: all(sum(n == name for n, *_ in seen) % 2 == 0 for name in names))


@pytest.mark.parametrize("waits", [False, True])
async def test_loops_see_an_event_after_a_plain_handler(
    make_server: Any, running: Running, waits: bool
) -> None:
    server = AGServer()
    seen: list[str] = []

    @server.on("connection")
    def handle() -> None:
        seen.append("handler")

    async def loop() -> None:
        async for _ in server.listener("connection"):
            seen.append("loop")

    running.start(loop())
    await asyncio.sleep(0)
    await make_server(server)
    async with connected(server):
        await until(lambda: len(seen) == 2)
    assert seen == ["handler", "loop"]


async def test_handlers_of_errors_and_warnings_are_listeners(make_server: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    server = AGServer()
    seen: list[Any] = []
    await make_server(server)
    caplog.clear()
    server.emit_error(SocketClusterError("first"))
    server.emit_warning(SocketClusterError("first"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.DEBUG]
    caplog.clear()
    server.on("error")(lambda event: seen.append(event.error))
    server.on("warning")(lambda event: seen.append(event.warning))
    errors = [SocketClusterError("second"), SocketClusterError("third")]
    server.emit_error(errors[0])
    server.emit_warning(errors[1])
    assert seen == errors
    assert not caplog.records
    assert server.has_listener("error")
    assert not server.has_listener("ready")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_that_fails_disturbs_nothing(
    make_server: Any, waits: bool, caplog: Any
) -> None:
    server = AGServer()
    seen: list[Any] = []

    def plain() -> None:
        raise KeyError("bug")

    async def waiting() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    for event in ("connection", "handshake", "error"):
        server.on(event)(waiting if waits else plain)
    server.on("connection")(lambda event: seen.append(event))
    server.procedure("a")(lambda: 5)
    await make_server(server)
    async with connected(server) as client:
        assert await client.call("a") == 5
        assert len(seen) == 1
        server.emit_error(SocketClusterError("x"))
        await until(lambda: len(caplog.records) == 3)
    assert all("The handler of the event" in record.message for record in caplog.records)


@pytest.mark.parametrize("event", ["handshake", "connection"])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("in_task", [False, True])
@EVERYWHERE
async def test_nothing_is_missed_at_set_up(
    make_server: Any, running: Running, event: str, waits: bool, in_task: bool
) -> None:
    server = AGServer()
    received: list[Any] = []

    async def answer(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            received.append(request.data)
            request.end(request.data)

    async def set_up(socket: AGServerSocket) -> None:
        running.start(answer(socket))

    def plain(socket: AGServerSocket) -> None:
        running.start(set_up(socket) if in_task else answer(socket))

    async def waiting(socket: AGServerSocket) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        plain(socket)

    server.on(event)(waiting if waits else plain)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        packets = [client.packet("#handshake", {})]
        packets += [client.packet("p", number) for number in range(100)]
        answers = [client.answer(packet) for packet in packets]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        assert (await soon(asyncio.gather(*answers)))[1:] == list(range(100))
        assert received == list(range(100))


@EVERYWHERE
async def test_handlers_of_the_end_run_to_their_end_when_the_server_closes(
    make_server: Any,
) -> None:
    server = AGServer(drain_timeout=60_000)
    seen: list[str] = []

    @server.on("ready")
    async def forever() -> None:
        await asyncio.Event().wait()

    @server.on("disconnection")
    async def save() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append("saved")

    await make_server(server)
    async with connected(server):
        await soon(server.close())
        assert seen == ["saved"]
    assert not server._context.handling.running(())


async def test_a_handler_of_the_end_that_does_not_end_is_cancelled(make_server: Any) -> None:
    server = AGServer(drain_timeout=10)
    seen: list[str] = []

    @server.on("disconnection")
    async def stay() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    await make_server(server)
    async with connected(server):
        await soon(server.close())
    assert seen == ["cancelled"]


async def test_events_of_the_application_have_handlers_too(make_server: Any) -> None:
    server = AGServer()
    seen: list[Any] = []

    @server.on("own")
    def handle(event: Any) -> None:
        seen.append(event)

    await make_server(server)
    server.emit("own", 5)
    assert seen == [5]
