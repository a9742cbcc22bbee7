"""Guarantee 10: your own bugs are loud, and what a client does is not."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import AuthTokenError
from socketcluster.literals import MiddlewareType
from socketcluster.server import watchdog
from support import AnswerError, Running, connected, soon, until
from transports import Refused, dial

LOUD = logging.WARNING


def loud(caplog: Any) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= LOUD]


async def add(socket: AGServerSocket) -> None:
    async for request in socket.procedure("add"):
        with request:
            request.end(sum(request.data))


async def test_a_client_cannot_fill_the_log(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()
    running.on_connection(server, add)
    async with connected(server) as client:
        packets = [client.packet("add", "x") for _ in range(1000)]
        answers = [client.answer(packet) for packet in packets]
        await client.send(packets)
        for answer in answers:
            with pytest.raises(AnswerError, match="InternalServerError"):
                await soon(answer)
        assert await client.call("add", [1, 2]) == 3
    await server.close()
    assert caplog.text.count("Traceback") == 1
    first, count = loud(caplog)
    assert first == "The handler of 'add' failed"
    assert count == ("… and 999 more of this kind in the last second: The handler of 'add' failed")


async def test_the_count_comes_when_the_flood_stops(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()
    running.on_connection(server, add)
    async with connected(server) as client:
        for _ in range(2):
            with pytest.raises(AnswerError):
                await client.call("add", "x")
        await until(lambda: len(loud(caplog)) == 2)


@pytest.mark.parametrize("data", ["x" * 900_000, "line\nforged line", "\x1b[31m"])
async def test_what_a_client_sent_makes_no_line_of_the_log(
    make_server: Any, running: Running, caplog: Any, data: str
) -> None:
    caplog.set_level(logging.DEBUG, "socketcluster")
    server = await make_server()

    async def convert(socket: AGServerSocket) -> None:
        async for request in socket.procedure("convert"):
            with request:
                raise LookupError(request.data)

    running.on_connection(server, convert)
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("convert", data)
        await client.send(data)
        await client.transmit("#unsubscribe", data)
        for event in ("#subscribe", "#publish", "#unsubscribe", data):
            with suppress(AnswerError):
                await client.call(event, None if event == data else {"channel": data})
    assert "LookupError: " in caplog.text
    assert all(len(line.encode()) < 1024 for line in caplog.text.splitlines())
    assert not [line for line in caplog.text.splitlines() if line.startswith("forged")]
    assert "\x1b" not in caplog.text


async def test_what_a_client_does_wrong_is_logged_at_debug_and_limited(
    make_server: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG, "socketcluster")
    server = await make_server(max_malformed_messages=10_000)
    async with connected(server) as client:
        for _ in range(500):
            await client.send("{")
        await client.call("#subscribe", {"channel": "c"})
    await server.close()
    assert len([r for r in caplog.records if "InvalidMessageError" in r.getMessage()]) == 2
    assert not loud(caplog)


async def test_a_handler_that_forgets_to_answer(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()

    async def forget(socket: AGServerSocket) -> None:
        async for request in socket.procedure("forget"):
            del request

    running.on_connection(server, forget)
    async with connected(server) as client:
        for _ in range(3):
            with pytest.raises(AnswerError, match="InternalServerError"):
                await client.call("forget")
    await server.close()
    first, count = loud(caplog)
    assert first.startswith("A call of 'forget' was dropped unanswered")
    assert "and 2 more" in count


async def test_calls_that_nobody_took_before_the_client_left_are_no_bug(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()
    held = asyncio.Event()

    async def stuck(socket: AGServerSocket) -> None:
        async for request in socket.procedure("stuck"):
            await held.wait()
            request.end()

    running.on_connection(server, stuck)
    async with connected(server) as client:
        for _ in range(3):
            await client.send(client.packet("stuck"))
        await until(lambda: any(len(s.messaging.unanswered) == 3 for s in server.clients.values()))
    await until(lambda: not server.clients)
    held.set()
    await server.close()
    assert not loud(caplog)


MIDDLEWARE = ["handshake", "inboundRaw", "inbound", "outbound"]


@pytest.mark.parametrize("line", MIDDLEWARE)
async def test_an_action_that_middleware_forgets(
    make_server: Any, line: MiddlewareType, caplog: Any
) -> None:
    server = AGServer(drain_timeout=100, handshake_timeout=1000, middleware_emit_failures=False)
    forgets = line == "handshake"

    async def forget(stream: Any) -> None:
        async for action in stream:
            if not forgets:
                action.allow()
            del action

    server.set_middleware(line, forget)
    await make_server(server)
    if line == "handshake":
        with pytest.raises(Exception, match="401"):
            async with connected(server):
                """It is refused."""
    else:
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "c"})
            forgets = True
            await client.transmit("#publish", {"channel": "c", "data": 1})
            await until(lambda: loud(caplog) != [])
    (told,) = loud(caplog)
    assert "neither allowed nor blocked" in told
    assert f"forget ({__file__}:{forget.__code__.co_firstlineno})" in told


async def test_middleware_that_fails_often_is_logged_once(make_server: Any, caplog: Any) -> None:
    server = AGServer(drain_timeout=100)

    async def fail(stream: Any) -> None:
        raise KeyError("oops")

    server.set_middleware("inbound", fail)
    await make_server(server)
    for _ in range(3):
        async with connected(server) as client:
            with pytest.raises(AnswerError):
                await client.call("x")
    await server.close()
    assert caplog.text.count("Traceback") == 1
    assert "and 2 more" in loud(caplog)[-1]


IN_MEMORY = pytest.mark.parametrize("make_server", ["memory"], indirect=True)


@IN_MEMORY
async def test_a_call_that_is_held(make_server: Any, running: Running, caplog: Any) -> None:
    server = await make_server(ack_timeout=3000)
    held: list[Any] = []

    async def hold(socket: AGServerSocket) -> None:
        async for request in socket.procedure("hold"):
            held.append(request)

    running.on_connection(server, hold)
    async with connected(server) as client, connected(server) as other:
        packets = [client.packet("hold"), client.packet("hold"), other.packet("hold")]
        for sender, packet in zip((client, client, other), packets, strict=True):
            await sender.send(packet)
        await asyncio.sleep(2.5)
        assert not loud(caplog)
        await asyncio.sleep(10)
        (told,) = loud(caplog)
        assert "A call of 'hold' by socket" in told
        assert "has no answer after ack_timeout" in told
        assert any(s.id in told for s in server.clients.values())
        for request in held:
            request.end()


@IN_MEMORY
async def test_a_call_that_an_async_handler_holds(make_server: Any, caplog: Any) -> None:
    server = AGServer(ack_timeout=3000)
    released = asyncio.Event()

    @server.procedure("hold")
    async def hold() -> int:
        await released.wait()
        return 1

    await make_server(server)
    async with connected(server) as client:
        packet = client.packet("hold")
        answer = client.answer(packet)
        await client.send(packet)
        await asyncio.sleep(10)
        (told,) = loud(caplog)
        assert "A call of 'hold' by socket" in told
        assert "its handler must return, or in a loop call request.end()" in told
        released.set()
        assert await soon(answer) == 1


@IN_MEMORY
async def test_calls_that_are_answered_in_time_are_no_bug(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server(ack_timeout=3000)

    async def answer(request: Any) -> None:
        await asyncio.sleep(2)
        request.end()

    async def slow(socket: AGServerSocket) -> None:
        async for request in socket.procedure("slow"):
            running.start(answer(request))

    running.on_connection(server, slow)
    async with connected(server) as client:
        calls = []
        for _ in range(12):  # There is always one without an answer, but never the same for long.
            calls.append(asyncio.create_task(client.call("slow")))
            await asyncio.sleep(1)
        await asyncio.gather(*calls)
    assert not loud(caplog)


@IN_MEMORY
@pytest.mark.parametrize("line", ["inboundRaw", "inbound", "outbound"])
async def test_an_action_that_is_held(make_server: Any, caplog: Any, line: MiddlewareType) -> None:
    server = AGServer(drain_timeout=100, ack_timeout=3000)
    held: list[Any] = []
    holds = False

    async def hold(stream: Any) -> None:
        async for action in stream:
            if holds:
                held.append(action)
            else:
                action.allow()

    server.set_middleware(line, hold)
    await make_server(server)
    async with connected(server) as client, connected(server) as other:
        for each in (client, other):
            await each.call("#subscribe", {"channel": "c"})
        holds = True
        for each in (client, other):
            await each.transmit("#publish", {"channel": "c", "data": 1})
        await asyncio.sleep(10)
        (told,) = loud(caplog)
        assert f"hold ({__file__}:{hold.__code__.co_firstlineno})" in told
        assert "has neither allowed nor blocked" in told
        assert "within ack_timeout" in told


@IN_MEMORY
@pytest.mark.parametrize("kind", ["handshakeWS", "handshakeSC"])
async def test_a_handshake_that_is_held(make_server: Any, caplog: Any, kind: str) -> None:
    server = AGServer(drain_timeout=100, handshake_timeout=2000)
    held: list[Any] = []

    async def hold(stream: Any) -> None:
        async for action in stream:
            if action.type == kind:
                held.append(action)
            else:
                action.allow()

    server.set_middleware("handshake", hold)
    await make_server(server)
    if kind == "handshakeWS":
        with pytest.raises(Refused, match="401"):
            await dial(server)
    else:
        async with connected(server, handshake=False) as client:
            await client.send(client.packet("#handshake", {}))
            assert (await client.closed())[0] == 4005
    (told,) = loud(caplog)
    assert f"nor blocked an action of type '{kind}' within handshake_timeout" in told
    assert "hold (" in told


@IN_MEMORY
async def test_an_auth_engine_that_does_not_answer(make_server: Any, caplog: Any) -> None:
    class Engine:
        async def verify_token(self, token: Any, key: Any, options: Any) -> Any:
            await asyncio.Event().wait()

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            return "signed"

    server = await make_server(auth_engine=Engine(), handshake_timeout=2000, auth_key="k" * 32)
    async with connected(server, handshake=False) as client:
        await client.send(client.packet("#handshake", {"authToken": "x"}))
        assert (await client.closed())[0] == 4005
    async with connected(server, handshake=False) as client:  # Which is the client's fault.
        assert (await client.closed())[0] == 4005
    (told,) = loud(caplog)
    assert told.startswith("A handshake was not done within handshake_timeout")


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_a_blocked_event_loop(
    make_server: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LATE_SECONDS", 0.5)
    server: AGServer = await make_server(ping_interval=50, ping_timeout=10_000)
    for _ in range(3):
        last = server.ticker.time
        await until(lambda last=last: server.ticker.time > last)  # type: ignore[misc]
    time.sleep(0.7)  # noqa: ASYNC251  What a handler should not do.
    await until(lambda: "The event loop was blocked for 0." in caplog.text)


@pytest.mark.parametrize("in_handshake", [False, True])
@pytest.mark.parametrize("how", [OSError("No route to 10.1.2.3"), AuthTokenError("Revoked")])
async def test_an_auth_engine_that_fails(
    make_server: Any, caplog: Any, how: Exception, in_handshake: bool
) -> None:
    class Engine:
        async def verify_token(self, token: Any, key: Any, options: Any) -> Any:
            raise how

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            return "signed"

    server = await make_server(auth_engine=Engine(), auth_key="k" * 32)
    async with connected(server, token="x" if in_handshake else None) as client:
        if not in_handshake:
            with pytest.raises(AnswerError):
                await client.call("#authenticate", "x")
    if isinstance(how, OSError):
        assert loud(caplog) == ["The auth engine failed to verify a token"]
        assert "No route to 10.1.2.3" in caplog.text
        assert "in verify_token" in caplog.text
    else:  # Which is about the client's token.
        assert loud(caplog) == []


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_error_that_cannot_be_shown_is_reported(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()
    errors = running.collect(server.listener("error"))

    async def answer(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            request.error(Unshowable())

    running.on_connection(server, answer)

    async def fail() -> None:
        raise Unshowable

    async with connected(server) as client:
        await soon(server.spawn(fail()))
        await until(lambda: len(errors) == 1)
        assert "Unshowable" in caplog.text
        for _ in range(2):
            with pytest.raises(AnswerError) as answered:
                await client.call("p")
            assert "cannot be shown" in answered.value.wire["message"]
