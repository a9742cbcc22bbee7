"""The opening of a socket: upgrade, '#handshake', and what comes before and beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster import AGAction, AGServer
from support import AnswerError, Running, connected, soon, until
from transports import Refused, dial


async def test_handshake_answers_id_ping_timeout_and_auth_state(make_server: Any) -> None:
    server = await make_server()
    async with connected(server, handshake=False) as client:
        status = await client.handshake()
        assert status == {"id": status["id"], "pingTimeout": 20000, "isAuthenticated": False}
        assert len(status["id"]) == 20
        assert list(server.clients) == [status["id"]]
        assert (server.clients_count, server.pending_clients_count) == (1, 0)
        assert server.clients[status["id"]].state == "open"
    await until(lambda: server.clients_count == 0)


async def test_socket_is_pending_until_its_handshake(make_server: Any) -> None:
    server = await make_server()
    handshake = server.listener("handshake").create_consumer()
    async with connected(server, handshake=False) as client:
        socket = (await soon(handshake.next())).value.socket
        assert socket.state == "connecting"
        assert server.pending_clients == {socket.id: socket}
        assert server.clients_count == 0
        handshake.return_()
        await client.handshake()
        assert server.pending_clients_count == 0


async def test_a_socket_and_the_server_tell_of_a_connection(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    heard: dict[str, list[Any]] = {}

    async def listen() -> None:
        async for event in server.listener("handshake"):
            socket = event.socket
            assert socket.exchange is server.exchange
            for name in ("connect", "connectAbort", "disconnect", "close"):
                heard[name] = running.collect(socket.listener(name))

    running.start(listen())
    connections = running.collect(server.listener("connection"))
    await asyncio.sleep(0)
    async with connected(server) as client:
        await until(lambda: len(connections) == len(heard["connect"]) == 1)
        for event in (connections[0], heard["connect"][0]):
            assert event.id == connections[0].socket.id
            assert (event.ping_timeout, event.is_authenticated) == (server.ping_timeout, False)
            assert event.auth_error is None
        await client.ws.close(4444, "Bye")
    await until(lambda: bool(heard["close"]))
    assert (heard["close"][0].code, heard["close"][0].reason) == (4444, "Bye")
    assert (len(heard["disconnect"]), len(heard["connectAbort"])) == (1, 0)
    async with connected(server, handshake=False):
        await until(lambda: server.pending_clients_count == 1)
    await until(lambda: bool(heard["close"]) and heard["close"][0].code == 1000)
    assert (len(heard["disconnect"]), len(heard["connectAbort"])) == (0, 1)
    assert len(connections) == 1


@pytest.mark.parametrize(
    "message",
    ['{"event":"x","data":1}', '{"event":"x","cid":1}', "", "nonsense", "[]]", '{"rid":1}', "5"],
)
async def test_anything_before_the_handshake_closes_with_4009(
    make_server: Any, running: Running, message: str
) -> None:
    server = await make_server()
    aborts = running.collect(server.listener("connectionAbort"))
    async with connected(server, handshake=False) as client:
        await client.send(message)
        assert (await client.closed())[0] == 4009
    await until(lambda: len(aborts) == 1)
    assert aborts[0].code == 4009
    assert aborts[0].reason == "Server received a message before the client handshake"
    assert server.pending_clients_count == 0


async def test_handshake_without_cid_closes_with_4008(make_server: Any, running: Running) -> None:
    server = await make_server()
    warnings = running.collect(server.listener("warning"))
    async with connected(server, handshake=False) as client:
        await client.send({"event": "#handshake", "data": {}})
        assert (await client.closed())[0] == 4008
    await until(lambda: len(warnings) == 2)
    assert str(warnings[0].warning) == "Handshake request was malformatted"


async def test_handshake_that_does_not_come_closes_with_4005(make_server: Any) -> None:
    server = await make_server(handshake_timeout=20)
    async with connected(server, handshake=False) as client:
        assert (await client.closed())[0] == 4005


async def test_hung_handshake_middleware_is_ended_by_the_timeout(make_server: Any) -> None:
    server = AGServer(handshake_timeout=50, drain_timeout=100)

    async def hang(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.HANDSHAKE_WS:
                action.allow()
            else:
                kept.append(action)

    kept: list[Any] = []
    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, hang)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        await client.send({"event": "#handshake", "data": {}, "cid": 1})
        assert (await client.closed())[0] == 4005
    assert server.pending_clients_count == 0


async def test_handshake_may_not_be_repeated(make_server: Any, running: Running) -> None:
    server = await make_server()
    connections = running.collect(server.listener("connection"))
    async with connected(server) as client:
        for _ in range(3):
            with pytest.raises(AnswerError, match="already been completed"):
                await client.handshake()
        assert server.clients_count == 1
    assert len(connections) == 1


async def test_not_strict_a_call_before_the_handshake_is_refused(make_server: Any) -> None:
    server = await make_server(strict_handshake=False)
    async with connected(server, handshake=False) as client:
        with pytest.raises(AnswerError, match="before the handshake"):
            await client.call("#subscribe", {"channel": "a"})
        await client.handshake()
        assert server.exchange._index.channels == {}


async def test_block_of_handshake_ws_answers_401(make_server: Any) -> None:
    server = AGServer(drain_timeout=100)

    async def block(stream: Any) -> None:
        async for action in stream:
            assert action.request.url == "/socketcluster/?a=1"
            action.block(ValueError("Not you"))

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, block)
    await make_server(server)
    with pytest.raises(Refused) as refused:
        await dial(server, "?a=1")
    assert refused.value.status == 401
    assert refused.value.body == b"Not you"


@pytest.mark.parametrize(("status", "code"), [(None, 4008), (4501, 4501), (99, 4008)])
async def test_block_of_handshake_sc_closes_with_its_status_code(
    make_server: Any, running: Running, status: int | None, code: int
) -> None:
    server = AGServer(drain_timeout=100)
    aborts = running.collect(server.listener("connectionAbort"))
    disconnections = running.collect(server.listener("disconnection"))
    warnings = running.collect(server.listener("warning"))

    class NotNowError(Exception):
        status_code = status

    async def block(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.HANDSHAKE_SC:
                action.block(NotNowError("Later"))
            else:
                action.allow()

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, block)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        with pytest.raises(AnswerError) as blocked:
            await client.handshake()
        assert blocked.value.wire["name"] == "NotNowError"
        assert blocked.value.wire["message"] == "Later"
        assert blocked.value.wire["statusCode"] == code
        assert (await client.closed())[0] == code
    await until(lambda: len(aborts) == 1 and len(warnings) == 2)
    assert aborts[0].code == code
    assert [type(event.warning).__name__ for event in warnings] == [
        "NotNowError",
        "SocketProtocolError",
    ]
    assert disconnections == []


async def test_too_many_pending_sockets_are_refused_with_503(make_server: Any) -> None:
    server = await make_server(max_pending_clients=2)
    async with connected(server, handshake=False), connected(server, handshake=False):
        await until(lambda: server.pending_clients_count == 2)
        with pytest.raises(Refused) as refused:
            await dial(server)
        assert refused.value.status == 503


async def test_wrong_origin_answers_403_and_warns(make_server: Any, running: Running) -> None:
    server = await make_server(origins="example.com:*")
    warnings = running.collect(server.listener("warning"))
    with pytest.raises(Refused) as refused:
        await dial(server, origin="http://evil.net")
    assert refused.value.status == 403
    text = "Failed to authorize socket handshake - Invalid origin: http://evil.net"
    assert refused.value.body == text.encode()
    await until(lambda: len(warnings) == 1)
    assert str(warnings[0].warning) == text
    async with connected(server, origin="https://example.com"):
        assert server.clients_count == 1


async def test_sub_protocol(make_server: Any) -> None:
    first = await make_server()
    async with connected(first, subprotocols=["b", "a"]) as client:
        assert client.ws.subprotocol == "b"
    chosen = await make_server(handle_protocols=lambda offered, request: "a")
    async with connected(chosen, subprotocols=["b", "a"]) as client:
        assert client.ws.subprotocol == "a"


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("engine", ["picows", "asgi"])
async def test_a_choice_that_fails_is_this_sides_fault(
    make_server: Any, running: Running, engine: str, middleware: bool
) -> None:
    def choose(offered: Any, request: Any) -> str:
        raise KeyError("secret")

    at_work: list[Any] = []

    async def admit(stream: Any) -> None:
        at_work.append(stream)
        try:
            async for action in stream:
                action.allow()
        finally:
            at_work.remove(stream)

    server = AGServer(handle_protocols=choose, ws_engine=engine)
    if middleware:
        server.set_middleware("handshake", admit)
    await make_server(server)
    errors = running.collect(server.listener("error"))
    with pytest.raises(Refused) as refused:
        await dial(server, subprotocols=["a"])
    assert (refused.value.status, refused.value.body) == (500, b"Internal Server Error")
    await until(lambda: len(errors) == 1)
    assert isinstance(errors[0].error, KeyError)
    await until(lambda: not at_work)
    async with connected(server):
        assert server.clients_count == 1


async def test_request_is_exposed(make_server: Any) -> None:
    server = await make_server()
    headers = {"X-Forwarded-For": "10.1.2.3, 10.9.9.9", "X-Mine": "yes"}
    async with connected(server, additional_headers=headers):
        (socket,) = server.clients.values()
        assert socket.request.path == "/socketcluster/"
        assert socket.request.url == "/socketcluster/"
        assert socket.request.headers["x-mine"] == "yes"
        assert socket.request.scope["type"] == "websocket"
        assert socket.remote_address == "127.0.0.1"
        assert socket.remote_family == "IPv4"
        assert isinstance(socket.remote_port, int)
        assert socket.forwarded_for_address == "10.1.2.3"


async def test_pings_and_missing_pongs(make_server: Any) -> None:
    server = await make_server(ping_interval=20, ping_timeout=200)
    async with connected(server) as client:
        await until(lambda: client.pings >= 5)
        assert server.clients_count == 1
        client._pong = "{}"  # Any message counts as a sign of life.
        pings = client.pings
        await until(lambda: client.pings >= pings + 15)
        assert server.clients_count == 1
        client._ping = "never"
        client.ws.close_timeout = 1
        assert (await client.closed())[0] == 4001


async def test_ping_timeout_disabled(make_server: Any, running: Running) -> None:
    server = await make_server(ping_interval=10, ping_timeout=20, ping_timeout_disabled=True)
    async with connected(server) as client:
        ticks = 0

        def tick(now: float) -> None:
            nonlocal ticks
            ticks += 1
            original(now)

        original, server.ticker.on_tick = server.ticker.on_tick, tick
        await until(lambda: ticks > 10)
        assert client.pings == 0
        assert server.clients_count == 1


async def test_protocol_version_1_pings_with_numbers(make_server: Any) -> None:
    server = await make_server(ping_interval=10, protocol_version=1)
    async with connected(server) as client:
        await until(lambda: client.pings >= 3)
        assert "#1" in client.messages
        (socket,) = server.clients.values()
        assert socket.protocol_version == 1


async def test_everybody_hears_of_a_socket_in_order(make_server: Any, running: Running) -> None:
    server = await make_server()
    heard: list[str] = []

    def hear(name: str) -> None:
        consumer = server.listener(name).create_consumer()

        async def loop() -> None:
            async for _ in consumer:
                heard.append(name)

        running.start(loop())

    for name in ("handshake", "connection", "disconnection", "closure", "connectionAbort"):
        hear(name)
    async with connected(server):
        await until(lambda: len(heard) == 2)
    await until(lambda: len(heard) == 4)
    await asyncio.sleep(0)
    assert heard == ["handshake", "connection", "disconnection", "closure"]
