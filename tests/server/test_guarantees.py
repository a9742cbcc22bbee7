"""The guarantees, each with a test of its name."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from socketcluster import AGServer, AGServerSocket
from socketcluster.errors import AuthError, TimeoutError
from support import AnswerError, Client, Running, connected, soon, until
from transports import Refused, dial, more_than_fits, send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
UNREACHABLE = (ConnectionRefusedError, Refused)


@pytest.mark.parametrize("event", ["handshake", "connection"])
@pytest.mark.parametrize("in_task", [False, True])
@EVERYWHERE
async def test_nothing_is_missed_at_set_up(
    make_server: Any, running: Running, event: str, in_task: bool
) -> None:
    server = AGServer(auth_key="k" * 32, drain_timeout=100)
    token = server.auth.sign_token({}, server.signature_key, {})
    received: list[Any] = []
    heard: list[str] = []

    async def consume(stream: Any, into: list[Any], value: Any = None) -> None:
        async for item in stream:
            into.append(item if value is None else value)

    async def set_up(socket: AGServerSocket) -> None:
        running.start(consume(socket.receiver("n"), received))
        for name in ("authenticate", "authStateChange"):
            running.start(consume(socket.listener(name), heard, name))

    async def handle(events: Any) -> None:
        async for found in events:
            if in_task:
                running.start(set_up(found.socket))
            else:
                await asyncio.sleep(0)
                await set_up(found.socket)

    running.start(handle(server.listener(event)))
    await asyncio.sleep(0)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        handshake = {"event": "#handshake", "data": {"authToken": token}, "cid": 1}
        packets = [handshake, *({"event": "n", "data": n} for n in range(100))]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        await until(lambda: len(received) == 100)
        assert received == list(range(100))
        await until(lambda: sorted(heard) == ["authStateChange", "authenticate"])


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
@pytest.mark.parametrize("event", ["handshake", "connection"])
async def test_not_even_behind_the_upgrade_request_in_one_segment(
    make_server: Any, running: Running, event: str
) -> None:
    server = AGServer(drain_timeout=100)
    called: list[Any] = []

    async def answer(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            called.append(request.data)
            request.end(request.data)

    async def handle() -> None:
        async for found in server.listener(event):
            running.start(answer(found.socket))

    running.start(handle())
    await asyncio.sleep(0)
    await make_server(server)
    packets: list[dict[str, Any]] = [{"event": "#handshake", "data": {}, "cid": 1}]
    packets += [{"event": "p", "data": n, "cid": n + 2} for n in range(100)]
    segment = (
        f"GET {server.path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    for packet in packets:
        frame = Frame(Opcode.TEXT, json.dumps(packet).encode())
        segment += frame.serialize(mask=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
    writer.write(segment)
    await soon(reader.readuntil(b'{"rid":101,"data":99}'))
    assert called == list(range(100))
    writer.close()
    await writer.wait_closed()


async def test_a_handler_that_stays_in_its_loop_holds_nobody_up(
    make_server: Any, running: Running
) -> None:
    server = AGServer(drain_timeout=100)

    async def handle() -> None:
        async for event in server.listener("connection"):
            async for request in event.socket.procedure("echo"):
                request.end(request.data)

    running.start(handle())
    await asyncio.sleep(0)
    await make_server(server)
    async with connected(server) as client:
        assert await client.call("echo", 1) == 1


async def test_order_is_kept(make_server: Any, running: Running) -> None:
    server = AGServer(drain_timeout=100)

    async def slow_at_times(stream: Any) -> None:
        number = 0
        async for action in stream:
            number += 1
            if number % 3 == 0:
                await asyncio.sleep(0)
            action.allow()

    server.set_middleware("inbound", slow_at_times)
    await make_server(server)
    handled: list[int] = []

    def handle(data: int) -> int:
        handled.append(data)
        return data

    running.procedure(server, "p", handle)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#subscribe", {"channel": "c"})
        packets = [client.packet("p", n) for n in range(60)]
        answers = [client.answer(p) for p in packets]
        for packet in packets:
            await client.send(packet)
        assert await soon(asyncio.gather(*answers)) == list(range(60)) == handled
        client.messages.clear()
        for n in range(10):
            socket.transmit("t", n)
            server.exchange.transmit_publish("c", n)
            socket.messaging.respond(n, n, None)
        await until(lambda: len(client.messages) == 30)
        kinds = [json.loads(m) for m in client.messages]
        for n in range(10):
            transmitted, published, answered = kinds[3 * n : 3 * n + 3]
            assert transmitted == {"event": "t", "data": n}
            assert published["data"] == {"channel": "c", "data": n}
            assert answered == {"rid": n, "data": n}


async def test_leaving_a_loop_cleans_up(make_server: Any) -> None:
    server = await make_server()

    class Value:
        pass

    value = Value()
    held = weakref.ref(value)
    stream = server.listener("x")

    async def leave_by(how: str) -> None:
        async for _ in stream:
            if how == "break":
                break
            if how == "return":
                return
            if how == "raise":
                raise KeyError
            await asyncio.Event().wait()

    for how in ("break", "return", "raise", "cancel"):
        task = asyncio.create_task(leave_by(how))
        await asyncio.sleep(0)
        assert server.get_listener_consumer_count("x") == 1
        server.emit("x", 0)
        server.emit("x", value)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if how == "cancel":
            task.cancel()
        await asyncio.wait({task})
        if how == "raise":
            assert isinstance(task.exception(), KeyError)
        del task
        assert server.get_listener_consumer_count("x") == 0
    del value
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("mode", ["kill", "close"])
async def test_a_loop_begun_on_a_lost_socket_ends(make_server: Any, mode: str) -> None:
    server = await make_server(socket_stream_cleanup_mode=mode)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        consumer = socket.receiver("x").create_consumer()
        socket.disconnect()
        await client.closed()
    assert (await soon(consumer.next())).done
    for stream in (socket.receiver("x"), socket.procedure("x"), socket.listener("error"), consumer):
        async with asyncio.timeout(5):
            async for _ in stream:
                pytest.fail("Nothing is written")
    gone = weakref.ref(socket)
    del socket, consumer, stream
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


@EVERYWHERE
async def test_max_payload_bounds_a_message(make_server: Any) -> None:
    server = await make_server(max_payload=1000)
    async with connected(server) as client:
        await client.transmit("x", "y" * 900)
        await client.transmit("x", "y" * 1000)
        assert (await client.closed())[0] == 1009


async def test_max_batch_items_bounds_a_batch(make_server: Any) -> None:
    server = await make_server(max_batch_items=10)
    async with connected(server) as client:
        await client.send([{"event": "x"}] * 10)
        await client.call("#subscribe", {"channel": "a"})
        await client.send([{"event": "x"}] * 11)
        assert (await client.closed())[0] == 1009


async def test_max_channel_name_length_bounds_names(make_server: Any) -> None:
    server = await make_server(max_channel_name_length=5)
    async with connected(server) as client:
        for event in ("#subscribe", "#publish"):
            await client.call(event, {"channel": "12345"})
            with pytest.raises(AnswerError, match="longer than 5 characters"):
                await client.call(event, {"channel": "123456"})


@EVERYWHERE
async def test_max_inbound_backlog_makes_tcp_push_back(make_server: Any, running: Running) -> None:
    server = AGServer(max_inbound_backlog=50, drain_timeout=100)
    gate = asyncio.Event()

    async def wait(stream: Any) -> None:
        async for action in stream:
            await gate.wait()
            action.allow()

    server.set_middleware("inbound", wait)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        received = running.collect(socket.receiver("n"))
        text = "x" * (more_than_fits(server) // 2000)

        async def send() -> None:
            for n in range(2000):
                await client.transmit("n", [n, text])

        sending = running.start(send())
        await until(lambda: socket.inbound.flow_control.paused)
        count = -1
        while count != socket.inbound.received:
            count = socket.inbound.received
            for _ in range(200):
                await asyncio.sleep(0)
        assert not sending.done()
        assert socket.get_inbound_backpressure() < 500
        gate.set()
        await until(lambda: len(received) == 2000)
        assert [n for n, _ in received] == list(range(2000))


@EVERYWHERE
@pytest.mark.parametrize(
    ("kind", "size"),
    [("receiver", 1), ("receiver", 10), ("procedure", 1), ("procedure", 10), ("message", 1)],
)
async def test_a_slow_handler_makes_tcp_push_back(
    make_server: Any, running: Running, kind: str, size: int
) -> None:
    server = await make_server(max_inbound_backlog=50)
    gate = asyncio.Event()
    handled: list[Any] = []

    async def handle(stream: Any) -> None:
        async for item in stream:
            await gate.wait()
            if kind != "message" or item.message:  # And no pong.
                handled.append(None)
            if kind == "procedure":
                item.end()

    async with connected(server) as client:
        (socket,) = server.clients.values()
        stream = socket.listener("message") if kind == "message" else getattr(socket, kind)("n")
        running.start(handle(stream))
        count, text = 1000, "x" * (more_than_fits(server) // 1000)

        async def send() -> None:
            for n in range(0, count, size):
                more: dict[str, Any] = {"cid": 1000 + n} if kind == "procedure" else {}
                packets = [{"event": "n", "data": text, **more}] * size
                await client.send(packets if size > 1 else packets[0])

        sending = running.start(send())
        await until(lambda: socket.inbound.flow_control.paused)
        count_before = -1
        while count_before != socket.inbound.received:
            count_before = socket.inbound.received
            for _ in range(200):
                await asyncio.sleep(0)
        assert not sending.done()
        assert socket.get_backpressure() < 700
        gate.set()
        await until(lambda: len(handled) == count)
        await soon(sending)
        assert not socket.inbound.flow_control.paused


async def test_a_socket_that_is_not_read_from_is_not_taken_for_lost(
    make_server: Any, running: Running
) -> None:
    server = await make_server(max_inbound_backlog=50, ping_interval=30, ping_timeout=500)
    async with connected(server) as client, connected(server) as other:
        socket = next(iter(server.clients.values()))
        slow = socket.receiver("n").create_consumer()
        for n in range(500):
            await client.transmit("n", n)
        await until(lambda: socket.inbound.flow_control.paused)
        seen = other.pings
        await until(lambda: other.pings > seen + 30)
        assert socket.state == "open"
        for n in range(500):
            assert (await soon(slow.next())).value == n
        slow.return_()
        client.ws.transport.pause_reading()  # It answers no more.
        await until(lambda: socket.state == "closed")
        client.ws.transport.resume_reading()


async def test_a_consumer_that_timed_out_makes_tcp_push_back(make_server: Any) -> None:
    """Guarantee 4."""
    server = await make_server(max_inbound_backlog=50)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        slow = socket.receiver("n").create_consumer()
        with pytest.raises(TimeoutError):
            await slow.next(1)
        for n in range(200):
            await client.transmit("n", n)
        await until(lambda: socket.inbound.flow_control.paused)
        assert socket.get_receiver_backpressure("n") > 50
        assert [(await soon(slow.next(1000))).value for _ in range(200)] == list(range(200))
        assert not socket.inbound.flow_control.paused


async def test_leaving_a_slow_loop_resumes_the_reading(make_server: Any, running: Running) -> None:
    server = await make_server(max_inbound_backlog=50)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        slow = socket.receiver("n").create_consumer()
        quick = running.collect(socket.receiver("n"))
        for n in range(200):
            await client.transmit("n", n)
        await until(lambda: socket.inbound.flow_control.paused)
        slow.return_()
        await client.transmit("n", "last")
        await until(lambda: quick[-1:] == ["last"])


@EVERYWHERE
async def test_max_outbound_buffer_closes_a_slow_socket(make_server: Any, running: Running) -> None:
    server = await make_server(max_outbound_buffer=200_000)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as slow, connected(server) as quick:
        socket = server.clients[next(iter(server.clients))]
        for client in (slow, quick):
            await client.call("#subscribe", {"channel": "c"})
        slow.ws.transport.pause_reading()
        text = "x" * 50_000
        most = published = 0
        while socket.state == "open":
            server.exchange.transmit_publish("c", text)
            published += 1
            most = max(most, socket.get_outbound_buffer_size())
            for _ in range(20):
                await asyncio.sleep(0)
        assert most <= 200_000 + 50_100
        await until(lambda: len(closures) == 1)
        assert closures[0].code == 1008
        await until(lambda: quick.events.qsize() == published)
        slow.ws.transport.resume_reading()


async def test_oldest_publishes_are_dropped_on_droppable_channels(make_server: Any) -> None:
    server = await make_server(max_outbound_buffer=400_000, droppable_channels={"video"})
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#subscribe", {"channel": "video"})
        client.ws.transport.pause_reading()
        text = "x" * 20_000
        for n in range(2000):
            server.exchange.transmit_publish("video", [n, text])
            assert socket.get_outbound_buffer_size() <= 400_000 + 20_100
            await asyncio.sleep(0)
        assert socket.state == "open"
        client.ws.transport.resume_reading()
        numbers: list[int] = []
        while not numbers or numbers[-1] != 1999:
            numbers.append((await client.event())["data"]["data"][0])
        assert numbers == sorted(numbers)
        assert len(numbers) < 2000


async def test_a_socket_that_closes_during_a_fan_out_harms_nobody(make_server: Any) -> None:
    server = await make_server(max_outbound_buffer=1000)
    async with connected(server) as first, connected(server) as second:
        for client in (first, second):
            await client.call("#subscribe", {"channel": "c"})
        doomed, other = server.clients.values()
        doomed.transmit("x", "y" * 900)
        server.exchange.transmit_publish("c", "z" * 300)
        await until(lambda: doomed.state == "closed")
        assert other.state == "open"
        assert (await second.event())["data"]["data"] == "z" * 300


@pytest.mark.parametrize("way", ["raise", "return", "cancel"])
@pytest.mark.parametrize("line", ["handshake", "handshakeSC", "inboundRaw", "inbound", "outbound"])
async def test_middleware_fails_closed(
    make_server: Any, running: Running, line: Any, way: str, caplog: Any
) -> None:
    server = AGServer(drain_timeout=100, ping_interval=50, ping_timeout=300)
    failing: list[bool] = []

    async def fail(stream: Any) -> None:
        async for action in stream:
            if not failing and not (line == "handshakeSC" and action.type == "handshakeSC"):
                action.allow()
            elif way == "raise":
                raise KeyError("secret")
            elif way == "cancel":
                raise asyncio.CancelledError
            else:
                return

    server.set_middleware(line.removesuffix("SC"), fail)
    await make_server(server)
    running.procedure(server, "echo")
    published = running.collect(server.exchange.subscribe("c"))
    warnings = running.collect(server.listener("warning"))
    if line == "handshake":
        failing.append(True)
        for _ in range(2):
            with pytest.raises(Refused, match="401"):
                await dial(server)
    elif line == "handshakeSC":
        async with connected(server, handshake=False) as client:
            with pytest.raises(AnswerError):
                await client.handshake()
            assert (await client.closed())[0] == 4008
    else:
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "c"})
            failing.append(True)
            publish = {"event": "#publish", "data": {"channel": "c", "data": 1}}
            await client.send(publish)
            await until(lambda: len(warnings) > 0)
            failing.clear()  # It would allow again, and is not asked.
            if line == "outbound":
                server.exchange.transmit_publish("c", 2)
                assert await client.call("echo", "after") == "after"
                assert client.events.empty()
            elif line == "inbound":
                for event in ("echo", "#publish", "#subscribe"):
                    with pytest.raises(AnswerError, match="SilentMiddlewareBlockedError"):
                        await client.call(event, {"channel": "c", "data": 2})
                assert published == []
            else:
                await client.send(publish)
                (socket,) = server.clients.values()
                seen = client.pings
                await until(lambda: client.pings > seen + 5)
                assert (published, socket.get_inbound_backpressure()) == ([], 0)
                socket.transmit("still there")
                assert (await client.event())["event"] == "still there"
    expected = {"raise": "raised KeyError", "return": "returned", "cancel": "was cancelled"}
    await until(lambda: any(expected[way] in str(w.warning) for w in warnings))
    # Guarantee 10: it is logged whether somebody listens or not, once.
    places = [r for r in caplog.records if "test_guarantees.py:" in r.getMessage()]
    assert [r.levelname for r in places] == ["ERROR" if way == "raise" else "WARNING"]
    assert caplog.text.count("Traceback") == (way == "raise")
    async with asyncio.timeout(10):
        while server.clients or server.pending_clients:  # noqa: ASYNC110
            await asyncio.sleep(0)


HOSTILE = [
    '{"event":"constructor","data":1}',
    '{"event":"__proto__","cid":7,"data":{"__proto__":{"x":1}}}',
    '{"event":"#publish"}',
    '{"event":"#publish","data":{"channel":{"a":1}},"cid":1}',
    '{"event":"#subscribe","data":{"channel":"__proto__"},"cid":true}',
    '{"event":"#unsubscribe","data":{"channel":"x"}}',
    '{"event":"#handshake","cid":9}',
    '{"event":"#removeAuthToken","data":5}',
    '{"event":"","cid":1e308}',
    '{"event":"x","cid":-1.5,"data":[[[[]]]]}',
    '{"event":5,"cid":"x"}',
    '{"event":null}',
    '{"rid":1,"data":5}',
    '{"rid":123456789012345678901234567890,"error":5}',
    '{"rid":{}}',
    '{"event":"x","data":123456789012345678901234567890}',
    '{"event":"#publish","data":{"channel":"a","data":1e999},"cid":3}',
    '{"event":"#publish","data":{"channel":"a","data":"\\ud800"},"cid":3}',
    '{"event":"#publish","event":"x","data":{"channel":"a"},"cid":3}',
    "[" * 5000,
    "[" + "[" * 200 + "]" * 200 + "]",
    '{"event":"x","data":' + "[" * 900 + "]" * 900 + "}",
    "{",
    "[]",
    "null",
    '"text"',
    "NaN",
    "[1,2,null,{}]",
    '[{"event":"#publish"},{"event":"x","cid":4},5]',
    "\u0000",
]


@EVERYWHERE
async def test_no_peer_input_raises_out_of_the_server(
    make_server: Any, running: Running, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    server = await make_server(max_malformed_messages=10_000)
    running.procedure(server, "echo")
    errors = running.collect(server.listener("error"))
    async with connected(server) as other:
        await other.call("#subscribe", {"channel": "a"})
        async with connected(server) as client:
            for message in HOSTILE:
                await client.send(message)
                await client.send(message.encode())
            assert await client.call("echo", "alive") == "alive"
        async with connected(server, handshake=False) as client:
            await client.send(b"\xff\xfe")
            await client.closed()
        assert await other.call("echo", 1) == 1
    assert errors == []
    assert "Traceback" not in caplog.text
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_every_hostile_first_message_is_survived(make_server: Any, caplog: Any) -> None:
    server = await make_server()
    for message in HOSTILE:
        if "#handshake" in message:
            continue
        async with connected(server, handshake=False) as client:
            await client.send(message)
            await client.send(message)
            assert (await client.closed())[0] in (4009, 4008)
    async with connected(server):
        assert server.clients_count == 1
    assert "Traceback" not in caplog.text


async def test_nothing_takes_effect_before_the_handshake(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    published = running.collect(server.exchange.subscribe("a"))
    publish = {"event": "#publish", "data": {"channel": "a", "data": 1}}
    async with connected(server, handshake=False) as client:
        await client.send([publish, {"event": "#handshake", "cid": 1, "data": {}}, publish])
        assert (await client.closed())[0] == 4009
    assert published == []
    assert server.clients_count == 0


async def test_nothing_takes_effect_after_the_socket_was_closed(
    make_server: Any, running: Running
) -> None:
    server = await make_server()
    published = running.collect(server.exchange.subscribe("a"))
    publish = {"event": "#publish", "data": {"channel": "a", "data": 1}}

    async def handle(socket: AGServerSocket) -> None:
        async for _ in socket.receiver("quit"):
            socket.disconnect(4000)

    running.on_connection(server, handle)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        socket.disconnect(4501)
        await client.send(publish)
        assert (await client.closed())[0] == 4501
    async with connected(server) as client:
        packets = [publish] * 40
        await client.send([{"event": "quit"}, *packets, *packets])
        await client.closed()
    assert len(published) <= 32  # The part of the batch before the handler had its turn.


async def test_a_call_nobody_handles_is_answered_at_once(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        with pytest.raises(AnswerError) as answered:
            await client.call("nobody")
        assert answered.value.wire == {
            "name": "UnknownProcedureError",
            "message": "There is no procedure 'nobody'",
        }


async def test_a_socket_that_goes_on_sending_malformed_messages_is_closed(
    make_server: Any,
) -> None:
    server = await make_server(max_malformed_messages=5)
    async with connected(server) as client, connected(server) as other:
        for _ in range(5):
            await client.send("{")
        await client.call("#subscribe", {"channel": "a"})
        await client.send("{")
        assert (await client.closed())[0] == 1008
        await other.call("#subscribe", {"channel": "a"})


async def test_a_handlers_unexpected_exception_is_a_plain_internal_error(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("add"):
            with request:
                if request.data == "bad":
                    raise AuthError("Visible")
                request.end(1 / request.data)

    running.on_connection(server, handle)
    async with connected(server) as client:
        plain = {"name": "InternalServerError", "message": "Internal server error"}
        for data, wire in ((0, plain), ("bad", {"name": "AuthError", "message": "Visible"})):
            with pytest.raises(AnswerError) as answered:
                await client.call("add", data)
            assert answered.value.wire == wire
        assert await client.call("add", 2) == 0.5
    assert caplog.text.count("ZeroDivisionError: division by zero") == 1
    assert "Visible" not in caplog.text


async def test_a_call_that_its_handler_drops_is_answered(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()
    errors = running.collect(server.listener("error"))

    async def divide(socket: AGServerSocket) -> None:
        async for request in socket.procedure("divide"):
            request.end(1 / request.data)

    async def forget(socket: AGServerSocket) -> None:
        async for _ in socket.procedure("forget"):
            pass

    async def spawn(socket: AGServerSocket) -> None:
        server.spawn(divide(socket))
        server.spawn(forget(socket))

    running.on_connection(server, spawn)
    async with connected(server) as client, connected(server) as other:
        for name in ("divide", "forget"):
            packet = client.packet(name, 0)
            answer = client.answer(packet)
            await client.send(packet)
            if name == "divide":
                await until(lambda: len(errors) == 1)
                errors.clear()
                caplog.clear()
            else:
                await client.send(client.packet(name, 0))  # The loop lets go of the first.
            with pytest.raises(AnswerError, match="Internal server error"):
                await soon(answer)
        # What failed for one socket goes on for another.
        assert await other.call("divide", 2) == 0.5


async def test_only_public_fields_of_an_error_reach_a_client(
    make_server: Any, running: Running, caplog: Any
) -> None:
    server = await make_server()

    class LeakyError(Exception):
        password = "secret"

        def __init__(self) -> None:
            super().__init__("Visible")
            self.token = "secret"

    def fail(data: Any) -> None:
        raise LeakyError

    running.procedure(server, "fail", fail)
    async with connected(server) as client:
        with pytest.raises(AnswerError) as answered:
            await client.call("fail")
        assert answered.value.wire == {"name": "LeakyError", "message": "Visible"}


@EVERYWHERE
async def test_close_is_graceful(make_server: Any, running: Running) -> None:
    server: AGServer = await make_server(AGServer(drain_timeout=5000))
    gate = asyncio.Event()

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("slow"):
            await gate.wait()
            request.end("done")

    running.on_connection(server, handle)
    async with connected(server) as client, connected(server, handshake=False) as pending:
        packet = client.packet("slow")
        answer = client.answer(packet)
        await client.send(packet)
        await until(lambda: any(len(s.messaging.unanswered) == 1 for s in server.clients.values()))
        closing = running.start(server.close())
        await until(lambda: not server.is_ready)
        with pytest.raises(UNREACHABLE):
            await dial(server)
        assert not answer.done()
        gate.set()
        assert await soon(answer) == "done"
        assert (await client.closed())[0] == 1001
        assert (await pending.closed())[0] == 1001
        await soon(closing)
    assert (server.clients_count, server.pending_clients_count) == (0, 0)
    await make_server(server)
    async with connected(server) as again:
        assert isinstance(again, Client)


async def test_close_refuses_an_upgrade_that_is_under_way(
    make_server: Any, running: Running
) -> None:
    asked, decide = asyncio.Event(), asyncio.Event()

    async def admit(stream: Any) -> None:
        async for action in stream:
            asked.set()
            await decide.wait()
            action.allow()

    server = AGServer(drain_timeout=100)
    server.set_middleware("handshake", admit)
    await make_server(server)
    dialing = asyncio.create_task(dial(server))
    await soon(asked.wait())
    closing = running.start(server.close())
    await until(lambda: not server.is_ready)
    decide.set()
    with pytest.raises(Refused) as refused:
        await soon(dialing)
    assert (refused.value.status, refused.value.body) == (503, b"The server is closing")
    await soon(closing)


async def test_close_can_keep_sockets_open(make_server: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        await server.close(keep_sockets_open=True)
        assert await client.call("echo", 1) == 1
        with pytest.raises(UNREACHABLE):
            await dial(server)
