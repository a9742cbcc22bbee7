"""Clients in memory: connected, refused, lost, slow, and all that takes time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

import socketcluster
from socketcluster import AGServer, ReconnectOptionsDict, testing
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    BadConnectionError,
    InvalidActionError,
    InvalidOptionsError,
    SocketProtocolError,
)
from socketcluster.events import DisconnectEvent
from support import Running, soon, until


async def test_calls_and_channels_without_a_port(running: Running) -> None:
    async with AGServer() as server:
        running.procedure(server, "echo")
        async with testing.connect(server) as first, testing.connect(server) as second:
            assert server.is_ready
            assert server.source_port is None
            assert server.clients_count == 2
            assert await first.invoke("echo", {"n": 1}) == {"n": 1}
            channel = second.subscribe("news")
            await channel.listener("subscribe").once(10_000)
            heard = channel.create_consumer()
            await first.invoke_publish("news", "hello")
            assert (await soon(heard.next())).value == "hello"
        assert server.clients_count == 0
        assert (first.state, second.state) == ("closed", "closed")


@pytest.mark.parametrize(
    "options", [{"protocol_version": 1}, {"path": "/x/"}, {"codec_engine": MinBinCodec()}]
)
async def test_the_server_s_options_are_the_defaults(
    running: Running, options: dict[str, Any]
) -> None:
    async with AGServer(**options) as server:
        running.procedure(server, "echo")
        async with testing.connect(server) as socket:
            assert await socket.invoke("echo", "é") == "é"


async def test_options_of_the_client_reach_the_server() -> None:
    async with AGServer() as server:
        headers = {"X-Mine": "yes"}
        async with testing.connect(server, query={"a": 1}, ws_options={"headers": headers}):
            (socket,) = server.clients.values()
            assert socket.request.url == "/socketcluster/?a=1"
            assert socket.request.headers["x-mine"] == "yes"
            assert socket.remote_address == "127.0.0.1"
        with pytest.raises(InvalidOptionsError, match="nonsense"):
            testing.create(server, nonsense=1)  # type: ignore[call-arg]


async def test_a_refusal_is_an_error_with_its_status() -> None:
    async with AGServer() as server:

        async def block(stream: Any) -> None:
            async for action in stream:
                action.block(ValueError("Not you"))

        server.set_middleware(server.MIDDLEWARE_HANDSHAKE, block)
        with pytest.raises(BadConnectionError) as failed:
            async with testing.connect(server):
                pytest.fail("Connected")
        assert isinstance(failed.value.__cause__, SocketProtocolError)
        assert str(failed.value.__cause__).endswith("could not be opened: HTTP 401: Not you")
        server.remove_middleware(server.MIDDLEWARE_HANDSHAKE)
        with pytest.raises(BadConnectionError) as lost:
            async with testing.connect(server, path="/elsewhere/"):
                pytest.fail("Connected")
        assert "HTTP 404" in str(lost.value.__cause__)
    socket = testing.create(server, auto_connect=False)
    with pytest.raises(BadConnectionError) as late:
        await socket.__aenter__()
    assert "HTTP 503: The server is closing" in str(late.value.__cause__)


async def test_a_fault_of_the_endpoint_is_reported_and_answered_with_500(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def decide(endpoint: Any, request: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("socketcluster.server.endpoint.ServerEndpoint._decide", decide)
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with AGServer() as server:
        with pytest.raises(BadConnectionError) as failed:
            async with testing.connect(server):
                pytest.fail("Connected")
        assert "HTTP 500" in str(failed.value.__cause__)
        assert len(faults) == 1


async def test_a_lost_client_backs_off_and_comes_back_in_no_time() -> None:
    started = time.perf_counter()
    options: ReconnectOptionsDict = {"initial_delay": 60_000, "randomness": 0, "max_delay": 600_000}
    async with (
        testing.clock() as clock,
        AGServer() as server,
        testing.connect(server, auto_reconnect_options=options) as socket,
    ):
        heard = socket.listener("disconnect").create_consumer()
        channel = socket.subscribe("news")
        await clock.settle()
        assert channel.state == "subscribed"
        for attempt in range(3):
            await server.close()
            await clock.settle()
            assert socket.state == "closed"
            assert socket.pending_reconnect_timeout == 60_000
            assert (await heard.next()).value == DisconnectEvent(1001, "The server is closing")
            await clock.advance(59.999)
            assert socket.state == "closed"
            await server.start()
            await clock.advance(0.001)
            assert (socket.state, channel.state) == ("open", "subscribed"), attempt
    assert time.perf_counter() - started < 60


async def test_pings_timeouts_and_expiry_follow_the_clock() -> None:
    async with (
        testing.clock() as clock,
        AGServer(auth_key="k" * 32) as server,
        testing.connect(server) as socket,
    ):
        (there,) = server.clients.values()
        await there.set_auth_token({"name": "alice"}, expires_in=3600)
        kept = socket.procedure("never answered").create_consumer()
        call = asyncio.ensure_future(there.invoke("never answered"))
        await clock.advance(9.999)
        assert kept.get_backpressure() == 1
        assert not call.done()
        await clock.advance(0.001)
        with pytest.raises(socketcluster.errors.TimeoutError):
            await call
        await clock.advance(timedelta(minutes=59, seconds=49))
        assert [there.auth_state, socket.auth_state] == ["authenticated"] * 2
        await clock.advance(3)
        assert there.auth_state == socket.auth_state == "unauthenticated"
        assert socket.state == "open"


async def test_a_client_that_hears_nothing_closes() -> None:
    async with (
        testing.clock() as clock,
        AGServer(ping_timeout=20_000) as server,
        testing.connect(server, auto_reconnect=False) as socket,
    ):
        closed = socket.listener("close").create_consumer()
        with testing.paused(socket):
            await clock.advance(19)
            assert socket.get_state() == "open"
            await clock.advance(5)
            assert socket.get_state() == "closed"
            event = (await closed.next()).value
            assert event is not None
            assert event.code == 4000
            assert server.clients_count == 0


async def test_a_slow_reader_is_seen_and_closed_and_others_are_not() -> None:
    async with (
        AGServer(max_outbound_buffer=100_000) as server,
        testing.connect(server, auto_reconnect=False) as slow,
        testing.connect(server) as quick,
    ):
        assert slow.id is not None
        there = server.clients[slow.id]
        heard = []
        for socket in (slow, quick):
            channel = socket.subscribe("c")
            await channel.listener("subscribe").once(10_000)
            heard.append(channel.create_consumer())
        with testing.paused(slow):
            server.exchange.transmit_publish("c", "x" * 60_000)
            await soon(heard[1].next())
            assert there.get_outbound_buffer_size() > 60_000
            assert heard[0].get_backpressure() == 0
        await soon(heard[0].next())
        assert there.get_outbound_buffer_size() == 0
        closed = slow.listener("close").create_consumer()
        closures = server.listener("closure").create_consumer()
        with testing.paused(slow):
            for _ in range(2):
                server.exchange.transmit_publish("c", "x" * 60_000)
                await soon(heard[1].next())
            assert there.state == "closed"
            assert quick.state == "open"
        assert (await soon(closures.next())).value.code == 1008
        assert (await soon(closed.next())).value.code == 1006


async def test_a_server_that_does_not_read_pushes_back(running: Running) -> None:
    async with AGServer() as server, testing.connect(server) as socket:
        (there,) = server.clients.values()
        received = running.collect(there.receiver("n"))
        with testing.paused(there):
            socket.transmit("n", "x" * 1000)
            for _ in range(5):
                await asyncio.sleep(0)
            assert received == []
        await until(lambda: len(received) == 1)


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_line_that_is_cut_loses_what_is_on_its_way_and_the_client_comes_back(
    end: str,
) -> None:
    async with (
        testing.clock() as clock,
        AGServer() as server,
        testing.connect(server) as client,
    ):
        (there,) = server.clients.values()
        heard = client.receiver("news").create_consumer()
        disconnects = client.listener("disconnect").create_consumer()
        disconnections = server.listener("disconnection").create_consumer()
        if end == "client":
            there.transmit("news", "lost")
        testing.cut(client if end == "client" else there)
        for ends in (disconnects, disconnections):
            event = (await ends.next()).value
            assert event is not None
            assert event.code == 1006
        assert server.clients_count == 0
        assert heard.get_backpressure() == 0
        await clock.advance(9)
        assert client.get_state() == "closed"
        await clock.advance(12)
        assert client.get_state() == "open"
        testing.cut(client)
        await clock.settle()
        client.connect()
        await client.listener("connect").once()
        assert server.clients_count == 1


async def test_only_sockets_in_memory_can_be_paused_or_cut() -> None:
    elsewhere = socketcluster.create(auto_connect=False)
    async with AGServer() as server:
        for socket in (elsewhere, testing.create(server, auto_connect=False)):
            with pytest.raises(InvalidActionError, match="paused or cut"):
                testing.cut(socket)
            with (
                pytest.raises(InvalidActionError, match="connected in memory"),
                testing.paused(socket),
            ):
                pytest.fail("Paused")


async def test_leaving_while_connecting_leaves_nothing() -> None:
    gate = asyncio.Event()
    async with AGServer() as server:

        async def wait(stream: Any) -> None:
            async for action in stream:
                await gate.wait()
                action.allow()

        server.set_middleware(server.MIDDLEWARE_HANDSHAKE, wait)
        socket = testing.create(server)
        for _ in range(3):
            await asyncio.sleep(0)
        socket.disconnect()
        await soon(socket.wait_closed())
        assert (server.clients_count, server.pending_clients_count) == (0, 0)
