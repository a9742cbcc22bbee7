"""Guarantee 2: messages received before a client left are carried out, in order, before
'disconnect'; and where that stops."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, Literal

import pytest
from websockets.frames import Close, Frame, Opcode

from socketcluster import AGAction, AGServer, AGServerSocket
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BadConnectionError
from socketcluster.literals import MiddlewareType
from support import Client, Running, connected, soon, until
from transports import MemoryWebSocket, WebSocket, send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
LINES = pytest.mark.parametrize("line", ["inbound", "inboundRaw"])
CODES = {"close frame": 1000, "line breaks": 1006}
WAYS = pytest.mark.parametrize("way", ["close frame", "line breaks"])

PACKETS: list[Any] = [
    {"event": "#publish", "data": {"channel": "c", "data": 1}},
    {"event": "#publish", "data": {"channel": "c", "data": 2}, "cid": 2},
    {"event": "r", "data": 3},
    {"event": "p", "data": 4, "cid": 4},
    [{"event": "r", "data": 5}, {"event": "p", "data": 6, "cid": 6}],
    {"event": "unknown", "data": 7, "cid": 7},
    {"event": "#publish", "data": {"channel": "c", "data": 8}},
]


def made(**options: Any) -> AGServer:
    return AGServer(**{"auth_key": "k" * 32, "drain_timeout": 100, **options})


async def slow(stream: Any) -> None:
    """Middleware that takes its time, as a look-up in a database does."""
    async for action in stream:
        await asyncio.sleep(0.02)
        action.allow()


def has_left(socket: AGServerSocket) -> bool:
    return socket.state == "closed"


async def leave(ws: WebSocket, messages: list[Any], way: str) -> None:
    """Send messages, and leave at once."""
    texts = [m if isinstance(m, str) else json.dumps(m) for m in messages]
    if isinstance(ws, MemoryWebSocket):
        send_at_once(ws, texts)
        if way == "close frame":
            ws.transport.close(1000, "")
        else:
            while ws.transport.get_write_buffer_size():  # noqa: ASYNC110
                await asyncio.sleep(0)
            ws.transport.abort()
        return
    frames = [Frame(Opcode.TEXT, text.encode()) for text in texts]
    if way == "close frame":
        frames.append(Frame(Opcode.CLOSE, Close(1000, "").serialize()))
    ws.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
    if way == "line breaks":
        ws.transport.close()  # After what was written, without a close frame.


class Heard:
    """Everything that arrives of a client, in order."""

    def __init__(self, server: AGServer, running: Running) -> None:
        self.values: list[Any] = []
        self.sockets: list[AGServerSocket] = []
        running.start(self._channel(server.exchange.subscribe("c").create_consumer()))
        running.on_connection(server, self._connected)

    async def _channel(self, consumer: Any) -> None:
        async for value in consumer:
            self.values.append(value)

    async def _connected(self, socket: AGServerSocket) -> None:
        self.sockets.append(socket)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(socket))
            group.create_task(self._answer(socket))

    async def _receive(self, socket: AGServerSocket) -> None:
        async for value in socket.receiver("r"):
            self.values.append(value)

    async def _answer(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            self.values.append(request.data)
            request.end(request.data)


@pytest.mark.parametrize("version", [1, 2])
@LINES
@WAYS
@EVERYWHERE
async def test_last_words_pass_middleware_and_arrive(
    make_server: Any, running: Running, way: str, line: MiddlewareType, version: int
) -> None:
    server = made(socket_stream_cleanup_mode="close", protocol_version=version)
    server.set_middleware(line, slow)
    heard = Heard(server, running)
    await make_server(server)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        await leave(client.ws, PACKETS, way)
        await until(lambda: bool(closures))
        assert sorted(heard.values) == [1, 2, 3, 4, 5, 6, 8]
        published = [v for v in heard.values if v in (1, 2, 8)]
        assert published == [1, 2, 8]
        assert [v for v in heard.values if v in (3, 5)] == [3, 5]
        assert closures[0].code == CODES[way]
        assert not server.clients
        assert heard.sockets[0].state == "closed"


@WAYS
@EVERYWHERE
async def test_disconnect_comes_after_the_last_words(
    make_server: Any, running: Running, way: str
) -> None:
    server = made()
    order: list[str] = []

    async def see(stream: Any) -> None:
        async for action in stream:
            await asyncio.sleep(0)
            order.append(action.type)
            assert action.socket.id in server.clients
            action.allow()

    server.set_middleware("inbound", see)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()

        async def gone() -> None:
            event = await socket.listener("disconnect").once()
            order.append("disconnect")
            assert event.code == CODES[way]

        task = running.start(gone())
        await asyncio.sleep(0)
        await leave(client.ws, PACKETS[:3], way)
        await soon(task)
        assert order == ["publishIn", "publishIn", "transmit", "disconnect"]


@pytest.mark.parametrize("handshake_listener", [False, True])
@pytest.mark.parametrize("with_token", [False, True])
@pytest.mark.parametrize("middleware", [False, True])
@WAYS
@EVERYWHERE
async def test_handshake_publish_and_close_at_once(
    make_server: Any,
    running: Running,
    way: str,
    middleware: bool,
    with_token: bool,
    handshake_listener: bool,
) -> None:
    server = made(socket_stream_cleanup_mode="close")
    if middleware and not with_token:  # A token would have to be decided on.
        server.set_middleware("inbound", slow)
    heard = Heard(server, running)
    if handshake_listener:
        running.collect(server.listener("handshake"))
    await make_server(server)
    order = running.collect(server.listener("connection"))
    closures = running.collect(server.listener("closure"))
    token = server.auth.sign_token({}, server.signature_key, {}) if with_token else None
    handshake = {"event": "#handshake", "data": {"authToken": token}, "cid": 1}
    async with connected(server, handshake=False) as client:
        await leave(client.ws, [handshake, *PACKETS], way)
        await until(lambda: bool(closures))
        assert sorted(heard.values) == [1, 2, 3, 4, 5, 6, 8]
        assert len(order) == 1
        assert order[0].is_authenticated == with_token


@pytest.mark.parametrize("what", ["token", "handshake", "inbound"])
@WAYS
@EVERYWHERE
async def test_an_undecided_handshake_is_aborted_and_the_rest_dropped(
    make_server: Any, running: Running, way: str, what: MiddlewareType | Literal["token"]
) -> None:
    class Slow:
        async def verify_token(self, *args: Any) -> dict[str, Any]:
            asked.set()
            await asyncio.Event().wait()
            return {}

        def sign_token(self, *args: Any) -> str:
            return ""

    async def never(stream: Any) -> None:
        async for action in stream:
            if action.type in (AGAction.HANDSHAKE_SC, AGAction.AUTHENTICATE):
                asked.set()
                await asyncio.Event().wait()
            action.allow()

    asked = asyncio.Event()
    server = made(**({"auth_engine": Slow()} if what == "token" else {}))
    if what != "token":
        server.set_middleware(what, never)
    heard = Heard(server, running)
    await make_server(server)
    aborts = running.collect(server.listener("connectionAbort"))
    token = server.auth.sign_token({}, server.signature_key, {})
    handshake = {"event": "#handshake", "data": {"authToken": token}, "cid": 1}
    async with connected(server, handshake=False) as client:
        await leave(client.ws, [handshake, *PACKETS], way)
        await until(lambda: len(aborts) == 1)
        assert not server.pending_clients
        assert not server.clients
        assert heard.values == []


@EVERYWHERE
async def test_a_subscription_is_not_carried_out_and_nothing_is_delivered(
    make_server: Any, running: Running
) -> None:
    server = made()
    server.set_middleware("inbound", slow)
    outbound: list[Any] = []

    async def out(stream: Any) -> None:
        async for action in stream:
            outbound.append(action.data)
            action.allow()

    server.set_middleware("outbound", out)
    await make_server(server)
    subscriptions = running.collect(server.listener("subscription"))
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        packets = [
            {"event": "#subscribe", "data": {"channel": "d"}, "cid": 5},
            {"event": "#publish", "data": {"channel": "c", "data": 1}},
            {"event": "#publish", "data": {"channel": "d", "data": 2}},
        ]
        await leave(client.ws, packets, "close frame")
        await until(lambda: bool(closures))
        assert [event.channel for event in subscriptions] == ["c"]
        assert outbound == []


async def test_last_words_have_a_time_limit(make_server: Any, running: Running) -> None:
    server = made(last_words_timeout=50)

    async def never(stream: Any) -> None:
        async for _action in stream:
            await asyncio.Event().wait()

    server.set_middleware("inbound", never)
    await make_server(server)
    warnings = running.collect(server.listener("warning"))
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        await leave(client.ws, PACKETS[:3], "close frame")
        await until(lambda: bool(closures))
        assert closures[0].code == 1000
        assert any("last_words_timeout" in str(event.warning) for event in warnings)
        assert not server.clients


@pytest.mark.parametrize("how", ["disconnect", "terminate", "kill_input"])
async def test_the_server_ends_last_words(make_server: Any, running: Running, how: str) -> None:
    """Guarantee 6: nothing takes effect after this side closed the socket."""
    server = made()
    seen: list[Any] = []

    async def close(stream: Any) -> None:
        async for action in stream:
            seen.append(action.data)
            await until(partial(has_left, action.socket))
            getattr(action.socket, how)()
            action.allow()

    server.set_middleware("inbound", close)
    heard = Heard(server, running)
    await make_server(server)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        await leave(client.ws, PACKETS, "close frame")
        await until(lambda: bool(closures))
        assert seen == [1]
        assert heard.values == []


async def test_nothing_can_be_sent_to_a_client_that_left(
    make_server: Any, running: Running
) -> None:
    server = made()
    caught: list[BaseException] = []

    async def see(stream: Any) -> None:
        async for action in stream:
            await until(partial(has_left, action.socket))
            try:
                await action.socket.invoke("x")
            except BadConnectionError as error:
                caught.append(error)
            action.socket.transmit("x")
            action.allow()

    server.set_middleware("inbound", see)
    await make_server(server)
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        waiting = asyncio.create_task(socket.invoke("never"))
        await client.event()
        await leave(client.ws, [PACKETS[0]], "close frame")
        with pytest.raises(BadConnectionError):
            await soon(waiting)
        await until(lambda: not server.clients)
        assert len(caught) == 1
        told = [str(event.warning) for event in warnings]
        assert any("Socket transmit x event was aborted" in text for text in told)


async def test_who_logs_in_with_the_last_words_is_logged_in(
    make_server: Any, running: Running
) -> None:
    server = made()
    states: list[tuple[str, str]] = []

    async def see(stream: Any) -> None:
        async for action in stream:
            await asyncio.sleep(0.02)
            states.append((action.type, action.socket.auth_state))
            action.allow()

    server.set_middleware("inbound", see)
    await make_server(server)
    token = server.auth.sign_token({}, server.signature_key, {})
    async with connected(server) as client:
        login = {"event": "#authenticate", "data": token, "cid": 9}
        await leave(client.ws, [login, PACKETS[0]], "close frame")
        await until(lambda: not server.clients)
        assert states == [("authenticate", "unauthenticated"), ("publishIn", "authenticated")]


async def test_closing_the_server_waits_for_last_words(make_server: Any, running: Running) -> None:
    server = made(drain_timeout=5000)
    server.set_middleware("inbound", slow)
    heard = Heard(server, running)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await leave(client.ws, PACKETS, "close frame")
        await until(lambda: socket.state == "closed")
        await soon(server.close())
        await asyncio.sleep(0)  # The loop over the channel takes what close() waited for.
        assert [v for v in heard.values if v in (1, 2, 8)] == [1, 2, 8]


# Answers overtake what waits for them


ANSWERS = [
    '{"rid":%d,"data":1}',
    '{"data":1,"error":null,"rid":%d}',
    '{ "data" : 1, "rid" : %d }',
    '\n{\n  "rid": %d,\n  "data": 1\n}',
    '[{"rid":%d,"data":1}]',
    '[{"event":"r","data":1},{"rid":%d,"data":1}]',
]


@pytest.mark.parametrize("answer", ANSWERS)
@LINES
async def test_answers_overtake_what_waits_for_them(
    make_server: Any, running: Running, line: MiddlewareType, answer: str
) -> None:
    """Guarantee 2: middleware can call the client."""
    server = made()
    answers: list[Any] = []

    async def ask(stream: Any) -> None:
        async for action in stream:
            if action.socket.state == "open" and len(answers) < 2:
                answers.append(await action.socket.invoke("question"))
            action.allow()

    async def respond(client: Client) -> None:
        while True:
            packet = await client.event()
            await client.send(answer % packet["cid"])

    server.set_middleware(line, ask)
    await make_server(server)
    running.procedure(server, "p")
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("r"))
        running.start(respond(client))
        assert await client.call("p", "x") == "x"
        assert await client.call("p", "y") == "y"
        assert answers == [1, 1]
        await until(lambda: socket.get_inbound_backpressure() == 0)
        if '"r"' in answer:
            await until(lambda: received == [1, 1])


@pytest.mark.parametrize("answer", ANSWERS)
async def test_closing_takes_answers_in_every_form(
    make_server: Any, running: Running, answer: str
) -> None:
    server = made(drain_timeout=60_000)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        call = running.start(socket.invoke("question"))
        packet = await client.event()
        closing = running.start(server.close())
        await asyncio.sleep(0)
        await client.send(answer % packet["cid"])
        assert await soon(call) == 1
        await soon(closing)


@EVERYWHERE
async def test_last_words_do_not_wait_for_a_pending_subscription(
    make_server: Any, running: Running
) -> None:
    class Hangs(SimpleBroker):
        def subscribe(self, channel: str) -> Any:
            return asyncio.Event().wait() if channel == "hangs" else super().subscribe(channel)

    server = made(broker_engine=Hangs(), last_words_timeout=60_000)
    heard = Heard(server, running)
    await make_server(server)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        pending = {"event": "#subscribe", "data": {"channel": "hangs"}, "cid": 9}
        await leave(client.ws, [pending, PACKETS[0]], "close frame")
        await until(lambda: bool(closures))
        assert heard.values == [1]
