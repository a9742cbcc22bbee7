"""The four middleware lines: what they see, change and block, and that they fail closed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from socketcluster import AGAction, AGServer
from socketcluster.errors import InvalidActionError, InvalidArgumentsError
from socketcluster.middleware import MiddlewareStream
from support import AnswerError, Running, connected, soon, until
from transports import Refused, dial


def made(**options: Any) -> AGServer:
    return AGServer(drain_timeout=100, **options)


def test_types_and_setting_twice() -> None:
    server = made()

    async def allow(stream: Any) -> None:
        async for action in stream:
            action.allow()

    with pytest.raises(InvalidArgumentsError, match="Middleware x type is not supported"):
        server.set_middleware("x", allow)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentsError):
        server.set_middleware("inbound", 5)  # type: ignore[arg-type]
    server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    assert server.has_middleware("inbound")
    with pytest.raises(InvalidActionError, match="has already been set"):
        server.set_middleware("inbound", allow)
    server.remove_middleware("inbound", made)  # type: ignore[arg-type]
    assert server.has_middleware("inbound")
    server.remove_middleware("inbound", allow)
    assert not server.has_middleware("inbound")


async def test_every_action_type_with_its_properties(make_server: Any, running: Running) -> None:
    server = made()
    seen: list[AGAction] = []

    async def see(stream: Any) -> None:
        async for action in stream:
            seen.append(action)
            action.allow()

    for line in ("handshake", "inboundRaw", "inbound", "outbound"):
        server.set_middleware(line, see)
    await make_server(server)
    running.procedure(server, "p")
    token = server.auth.sign_token({"u": 1}, server.signature_key, {"algorithm": "HS256"})
    async with connected(server, token=str(token)) as client:
        (socket,) = server.clients.values()
        assert socket.auth_state == "authenticated"
        await client.call("p", 1)
        await client.transmit("r", 2)
        await client.call("#subscribe", {"channel": "c", "data": 3})
        await client.call("#publish", {"channel": "c", "data": 4})
        await client.event()
    by_type = {action.type: action for action in seen}
    assert set(by_type) == {
        "handshakeWS",
        "handshakeSC",
        "message",
        "authenticate",
        "invoke",
        "transmit",
        "subscribe",
        "publishIn",
        "publishOut",
    }
    assert by_type["handshakeWS"].request.path == "/socketcluster/"
    assert by_type["handshakeSC"].data.auth_token["u"] == 1
    assert by_type["handshakeSC"].socket is socket
    assert by_type["authenticate"].signed_auth_token == token
    assert (by_type["authenticate"].auth_token or {})["u"] == 1
    assert (by_type["invoke"].procedure, by_type["invoke"].data) == ("p", 1)
    assert (by_type["transmit"].receiver, by_type["transmit"].data) == ("r", 2)
    assert (by_type["subscribe"].channel, by_type["subscribe"].data) == ("c", 3)
    assert (by_type["publishIn"].channel, by_type["publishIn"].data) == ("c", 4)
    assert (by_type["publishOut"].channel, by_type["publishOut"].data) == ("c", 4)
    assert all(action.outcome == "allowed" for action in seen)


async def test_allow_replaces_the_data(make_server: Any, running: Running) -> None:
    server = made()

    async def double(stream: Any) -> None:
        async for action in stream:
            action.allow(data=action.data * 2)

    server.set_middleware("inbound", double)
    await make_server(server)
    running.procedure(server, "p")
    channel = running.collect(server.exchange.subscribe("c"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("r"))
        assert await client.call("p", 1) == 2
        await client.transmit("r", "ab")
        await client.call("#publish", {"channel": "c", "data": [1]})
        await client.transmit("#publish", {"channel": "c", "data": [2]})
        await until(lambda: received == ["abab"] and channel == [[1, 1], [2, 2]])


async def test_backpressure_goes_up_and_down_with_middleware(make_server: Any) -> None:
    server = made()
    seen: list[tuple[int, int]] = []
    gate = asyncio.Event()

    async def raw(stream: Any) -> None:
        async for action in stream:
            socket = action.socket
            seen.append((socket.get_inbound_backpressure(), socket.get_backpressure()))
            action.allow()

    async def delay(stream: Any) -> None:
        async for action in stream:
            assert action.type != AGAction.AUTHENTICATE  # There is no token.
            if action.data == 2:
                await gate.wait()
            action.allow()

    server.set_middleware("inboundRaw", raw)
    server.set_middleware("inbound", delay)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        for number in range(6):
            await client.transmit("#publish", {"channel": "c", "data": number})
            await until(lambda number=number: len(seen) == number + 2)  # type: ignore[misc]
        # Raw middleware sees what comes in while an earlier message is held up.
        assert seen == [(n, n) for n in (1, 1, 1, 1, 1, 2, 3)]
        assert socket.get_inbound_backpressure() == 3
        gate.set()
        await until(lambda: socket.get_inbound_backpressure() == 0)
        await client.transmit("#publish", {"channel": "c", "data": 6})
        await until(lambda: len(seen) == 8)
        assert seen[-1] == (1, 1)


async def test_raw_middleware_that_is_slow_or_removed_keeps_the_order(
    make_server: Any, running: Running
) -> None:
    server = made(max_inbound_backlog=10)
    gate = asyncio.Event()

    async def raw(stream: Any) -> None:
        async for action in stream:
            await gate.wait()
            if "odd" in action.data:
                action.block()
            else:
                action.allow()

    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("r"))
        server.set_middleware("inboundRaw", raw)
        for number in range(30):
            await client.transmit("r", number)
            await client.transmit("r", "odd")
        await until(lambda: socket.get_inbound_backpressure() > 10)
        gate.set()
        await until(lambda: len(received) >= 5)
        server.remove_middleware("inboundRaw")
        await client.transmit("r", "last")
        await until(lambda: received[-1:] == ["last"])
        assert [item for item in received if isinstance(item, int)] == list(range(30))
        assert socket.get_inbound_backpressure() == 0


async def test_block_with_an_error_or_silently(make_server: Any, running: Running) -> None:
    server = made()

    class HushError(Exception):
        silent = True

    async def block(stream: Any) -> None:
        async for action in stream:
            if action.data == "allow":
                action.allow()
            else:
                action.block(
                    {
                        "error": ValueError("Bad"),
                        "none": None,
                        "hush": HushError("psst"),
                        "text": "Just text",
                    }[action.data]
                )
                with pytest.raises(InvalidActionError, match="has already been blocked"):
                    action.allow()

    server.set_middleware("inbound", block)
    await make_server(server)
    running.procedure(server, "p")
    warnings = running.collect(server.listener("warning"))
    silently = {
        "name": "SilentMiddlewareBlockedError",
        "message": "The invoke AGAction was blocked by inbound middleware",
        "type": "inbound",
    }
    async with connected(server) as client:
        for data, wire in (
            ("error", {"name": "ValueError", "message": "Bad"}),
            ("none", silently),
            ("hush", silently),
            ("text", {"name": "MiddlewareError", "message": "Just text"}),
        ):
            with pytest.raises(AnswerError) as blocked:
                await client.call("p", data)
            assert blocked.value.wire == wire
        assert await client.call("p", "allow") == "allow"
        await until(lambda: len(warnings) == 4)
        assert str(warnings[2].warning) == "psst"


async def test_emit_failures_can_be_turned_off(make_server: Any, running: Running) -> None:
    server = made(middleware_emit_failures=False)

    async def block(stream: Any) -> None:
        async for action in stream:
            action.block()

    server.set_middleware("inbound", block)
    await make_server(server)
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("p")
    await asyncio.sleep(0)
    assert warnings == []


async def test_raw_line_replaces_and_blocks_messages(make_server: Any, running: Running) -> None:
    server = made()
    counts: list[int] = []

    async def raw(stream: Any) -> None:
        async for action in stream:
            counts.append(action.socket.get_inbound_backpressure())
            if "secret" in action.data:
                action.block()
            else:
                action.allow(action.data.replace("cat", "dog"))

    server.set_middleware("inboundRaw", raw)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("r"))
        await client.transmit("r", "secret")
        await client.transmit("r", "cat")
        await until(lambda: received == ["dog"])
    assert counts[0] == 1


async def test_outbound_line_is_per_socket_and_keeps_order(
    make_server: Any, running: Running
) -> None:
    server = made()

    async def personal(stream: Any) -> None:
        async for action in stream:
            await asyncio.sleep(0)
            action.data["to"] = action.socket.id
            if action.data.get("n") == 2:
                action.block()
            else:
                action.allow()

    server.set_middleware("outbound", personal)
    await make_server(server)
    running.procedure(server, "p")
    async with connected(server) as alice, connected(server) as bob:
        for client in (alice, bob):
            await client.call("#subscribe", {"channel": "c"})
        for n in range(4):
            server.exchange.transmit_publish("c", {"n": n})
        for socket in server.clients.values():
            assert socket.get_outbound_backpressure() == 4
            socket.transmit("after", 1)
            assert socket.get_outbound_backpressure() == 5
        for client, socket in zip((alice, bob), server.clients.values(), strict=True):
            for n in (0, 1, 3):
                packet = await client.event()
                assert packet["data"]["data"] == {"n": n, "to": socket.id}
            assert (await client.event())["event"] == "after"
            assert socket.get_outbound_backpressure() == 0


@pytest.mark.parametrize("way", ["raise", "return", "cancel", "drop"])
async def test_a_function_that_ends_blocks_everything(
    make_server: Any, running: Running, way: str, caplog: Any
) -> None:
    server = made()

    async def failing(stream: Any) -> None:
        async for action in stream:
            if action.data == "fine":
                action.allow()
            elif way == "raise":
                raise ValueError("oops")
            elif way == "return":
                return
            elif way == "cancel":
                raise asyncio.CancelledError
            else:
                del action
                gc.collect()

    server.set_middleware("inbound", failing)
    await make_server(server)
    running.procedure(server, "p")
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        assert await client.call("p", "fine") == "fine"
        for _ in range(2):
            with pytest.raises(AnswerError) as blocked:
                await client.call("p", "x")
            assert blocked.value.wire["name"] == "SilentMiddlewareBlockedError"
        if way != "drop":
            with pytest.raises(AnswerError):
                await client.call("p", "fine")
        assert server.clients_count == 1
    await until(lambda: len(warnings) >= 1)
    expected = {
        "raise": "raised ValueError: oops",
        "return": "returned",
        "cancel": "was cancelled",
        "drop": "neither allowed nor blocked",
    }
    assert expected[way] in str(warnings[0].warning)
    assert caplog.text.count("Traceback") == (way == "raise")


async def test_middleware_may_call_the_client(make_server: Any, running: Running) -> None:
    server = made()

    async def ask(stream: Any) -> None:
        async for action in stream:
            action.allow(await action.socket.invoke("really", action.data))

    server.set_middleware("inbound", ask)
    await make_server(server)
    running.procedure(server, "p")
    async with connected(server) as client:
        packet = client.packet("p", "x")
        answer = client.answer(packet)
        await client.send(packet)
        asked = await client.event()
        await client.send({"rid": asked["cid"], "data": "yes"})
        assert await soon(answer) == "yes"


def fail(way: str) -> Any:
    """A middleware function that fails with the first action for which `when` holds."""

    def function(when: Callable[[AGAction], bool]) -> Any:
        async def failing(stream: Any) -> None:
            async for action in stream:
                if not when(action):
                    action.allow()
                elif way == "raise":
                    raise ValueError("oops")
                elif way == "return":
                    return
                elif way == "cancel":
                    raise asyncio.CancelledError
                elif way == "block":
                    action.block()
                elif way == "block with an error":
                    action.block(PermissionError("no"))
                else:
                    del action
                    gc.collect()

        return failing

    return function


FAILURES = ["raise", "return", "cancel", "drop", "block", "block with an error"]
ENDED = ("raise", "return", "cancel")


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("kind", ["handshakeWS", "handshakeSC"])
async def test_every_way_to_fail_in_the_handshake(make_server: Any, kind: str, way: str) -> None:
    """Guarantee 5: it fails closed."""
    server = made()
    server.set_middleware("handshake", fail(way)(lambda action: action.type == kind))
    await make_server(server)
    if kind == "handshakeWS":
        with pytest.raises(Refused) as refused:
            await soon(dial(server))
        assert refused.value.status == 401
    else:
        async with connected(server, handshake=False) as client:
            with pytest.raises(AnswerError):
                await client.handshake()
            assert (await client.closed())[0] == 4008
    assert not server.clients
    await until(lambda: not server.pending_clients)


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("kind", ["message", "transmit", "invoke", "subscribe", "publishIn"])
async def test_every_way_to_fail_of_what_a_client_sends(
    make_server: Any, running: Running, kind: str, way: str
) -> None:
    """Guarantee 5: it is blocked, answered if it is a call, and holds nothing back."""
    server = made()
    data = {"message": "x", "transmit": "x", "invoke": "x", "subscribe": None, "publishIn": "x"}
    packets: dict[str, tuple[str, Any]] = {
        "message": ("p", "x"),
        "transmit": ("r", "x"),
        "invoke": ("p", "x"),
        "subscribe": ("#subscribe", {"channel": "bad"}),
        "publishIn": ("#publish", {"channel": "bad", "data": "x"}),
    }

    def bad(action: AGAction) -> bool:
        if action.type == "message":
            return '"x"' in action.data
        return action.type == kind and (action.channel == "bad" or action.data == data[kind])

    server.set_middleware("inboundRaw" if kind == "message" else "inbound", fail(way)(bad))
    await make_server(server)
    running.procedure(server, "p")
    published = running.collect(server.exchange.subscribe("bad"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("r"))
        event, value = packets[kind]
        if kind in ("message", "transmit"):
            await client.transmit(event, value)
        else:
            with pytest.raises(AnswerError):
                await client.call(event, value)
        if kind == "message" and way in ENDED:
            await client.transmit("p", "fine")  # Nothing more is carried out or answered.
            await soon(await client.ws.ping())
        elif way in ENDED:
            with pytest.raises(AnswerError):
                await client.call("p", "fine")
        else:
            assert await client.call("p", "fine") == "fine"
        assert received == []
        assert published == []
        assert socket.subscriptions() == []


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("where", ["#handshake", "#authenticate"])
async def test_every_way_to_fail_of_a_log_in(
    make_server: Any, running: Running, where: str, way: str
) -> None:
    """Guarantee 5: the socket has no token, and what it sends later is carried out."""
    server = made(auth_key="k" * 32)
    server.set_middleware("inbound", fail(way)(lambda action: action.type == "authenticate"))
    await make_server(server)
    running.procedure(server, "p")
    token = server.auth.sign_token({}, server.signature_key, {})
    async with connected(server, handshake=False) as client:
        status = await client.handshake(str(token) if where == "#handshake" else None)
        if where == "#authenticate":
            status = await client.call("#authenticate", token)
        assert status["isAuthenticated"] is False
        assert status["authError"]
        (socket,) = server.clients.values()
        assert socket.auth_state == "unauthenticated"
        if way in ENDED:
            with pytest.raises(AnswerError):
                await client.call("p", "fine")
        else:
            assert await client.call("p", "fine") == "fine"


@pytest.mark.parametrize("way", FAILURES)
async def test_every_way_to_fail_of_a_publish_to_a_subscriber(
    make_server: Any, running: Running, way: str
) -> None:
    """Guarantee 5: it is not delivered, and holds nothing back."""
    server = made()
    server.set_middleware("outbound", fail(way)(lambda action: action.data == "bad"))
    await make_server(server)
    running.procedure(server, "p")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "c"})
        for data in ("bad", "fine"):
            server.exchange.transmit_publish("c", data)
        if way not in ENDED:
            assert (await client.event())["data"]["data"] == "fine"
        assert await client.call("p", "x") == "x"
        assert client.events.empty()


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unusual(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("way", ["raises", "raises an unusual one", "blocks"])
async def test_an_error_that_cannot_be_shown_hangs_nothing(
    make_server: Any, running: Running, way: str
) -> None:
    """Guarantee 5."""
    server = made()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)  # asyncio's own word on the unusual one.

    async def fail_once(stream: Any) -> None:
        async for action in stream:
            if action.data != "bad":
                action.allow()
            elif way == "blocks":
                action.block(Unshowable())
            else:
                raise Unshowable if way == "raises" else Unusual

    server.set_middleware("inbound", fail_once)
    await make_server(server)
    running.procedure(server, "p")
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("p", "bad")
        if way == "blocks":
            assert await client.call("p", "good") == "good"
        else:
            with pytest.raises(AnswerError):
                await client.call("p", "good")


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("kind", ["same", "in place", "another", "copy"])
async def test_a_publish_carries_what_middleware_made_of_it(
    make_server: Any, running: Running, size: int, kind: str
) -> None:
    """Also bytes that it puts where the text was that msgspec would make of them."""
    server = await make_server()

    async def change(stream: Any) -> None:
        async for action in stream:
            if action.type != AGAction.PUBLISH_IN or kind == "same":
                action.allow()
            elif kind == "in place":
                action.data["x"] = b"x"
                action.allow()
            else:
                action.allow(data=dict(action.data) if kind == "copy" else [b"x"])

    server.set_middleware(server.MIDDLEWARE_INBOUND, change)
    consumer = server.exchange.subscribe("c").create_consumer()
    data = {"x": "eA==", "rest": "a" * size}
    async with connected(server) as client:
        await client.call("#publish", {"channel": "c", "data": data})
    encoded = {"base64": True, "data": "eA=="}
    changed = {"in place": {**data, "x": encoded}, "another": [encoded]}.get(kind, data)
    assert (await soon(consumer.next())).value == changed


async def test_once_takes_one_action_and_loses_none_when_it_is_cancelled() -> None:
    stream = MiddlewareStream("inbound")
    assert repr(stream) == "<MiddlewareStream 'inbound' backlog=0>"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.once(), 0.01)
    stream.write(AGAction("transmit", receiver="a"))
    action = await stream.once()
    assert repr(action) == "<AGAction transmit 'a' undecided>"
    action.allow()
    assert repr(action) == "<AGAction transmit 'a' allowed>"
    stream.close()
    assert repr(stream) == "<MiddlewareStream 'inbound' closed backlog=0>"
    with pytest.raises(StopAsyncIteration):
        await stream.once()
