"""Calls, events, answers, raw messages and batches, both ways."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from typing import Any

import pytest

from socketcluster import AGRequest, AGServer, AGServerSocket
from socketcluster.errors import (
    BadConnectionError,
    InvalidActionError,
    InvalidArgumentsError,
    RemoteError,
    TimeoutError,
)
from socketcluster.protocol.frames import text_frame
from support import AnswerError, Running, connected, soon, until

PING = text_frame(b"")


async def only(server: AGServer) -> AGServerSocket:
    (socket,) = server.clients.values()
    return socket


@pytest.mark.parametrize("data", [None, 0, "é\n", [1, {"a": None}], {"x": 1.5}, True, []])
async def test_call_is_answered_with_what_end_is_given(
    make_server: Any, running: Running, data: Any
) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        assert await client.call("echo", data) == data


async def test_call_is_answered_with_an_error(make_server: Any, running: Running) -> None:
    server = await make_server()

    class CustomError(Exception):
        name = "MyName"
        secret = "not for clients"

    def fail(data: Any) -> None:
        raise CustomError("Sorry")

    running.procedure(server, "fail", fail)
    async with connected(server) as client:
        with pytest.raises(AnswerError) as answered:
            await client.call("fail", 1)
        assert answered.value.wire == {"name": "MyName", "message": "Sorry"}


async def test_a_call_is_answered_once(make_server: Any, running: Running) -> None:
    server = await make_server()
    caught: list[BaseException] = []

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            assert isinstance(request, AGRequest)
            assert (request.procedure, request.data, request.sent) == ("p", 7, False)
            with pytest.raises(InvalidArgumentsError):
                request.end(object())
            with pytest.raises(InvalidArgumentsError):
                request.error(5)  # type: ignore[arg-type]
            request.end("ok")
            for again in (request.end, request.error):
                try:
                    again("x")
                except InvalidActionError as error:
                    caught.append(error)

    running.on_connection(server, handle)
    async with connected(server) as client:
        assert await client.call("p", 7) == "ok"
        await until(lambda: len(caught) == 2)
        assert str(caught[0]) == "Response to request 2 has already been sent"


async def test_transmit_reaches_every_receiver_in_order(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        first = running.collect(socket.receiver("x"))
        second = running.collect(socket.receiver("x"))
        for number in range(50):
            await client.transmit("x", number)
        await until(lambda: len(first) == len(second) == 50)
        assert first == second == list(range(50))


async def test_server_transmits_and_client_answers(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        socket.transmit("hello", {"a": 1})
        assert await client.event() == {"event": "hello", "data": {"a": 1}}
        call = asyncio.create_task(socket.invoke("sum", [1, 2]))
        asked = await client.event()
        assert asked == {"event": "sum", "data": [1, 2], "cid": 1}
        await client.send({"rid": 1, "data": 3})
        assert await soon(call) == 3
        failing = asyncio.create_task(socket.invoke("sum"))
        assert await client.event() == {"event": "sum", "cid": 2}
        await client.send({"rid": 2, "error": {"name": "OddError", "message": "no", "x": 1}})
        with pytest.raises(RemoteError, match="no") as raised:
            await soon(failing)
        assert raised.value.name == "OddError"
        assert raised.value.fields["x"] == 1


async def test_invoke_times_out(make_server: Any) -> None:
    server = await make_server(ack_timeout=10)
    async with connected(server):
        socket = await only(server)
        with pytest.raises(TimeoutError, match="Event response for slow event timed out"):
            await soon(socket.invoke("slow"))
        slow = asyncio.create_task(socket.invoke("a", ack_timeout=60_000))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await soon(socket.invoke("b", ack_timeout=5))
        assert not slow.done()
        slow.cancel()
        await asyncio.wait({slow})
        assert socket.messaging.calls is not None
        assert len(socket.messaging.calls) == 0


async def test_calls_are_aborted_when_the_socket_is_lost(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        call = asyncio.create_task(socket.invoke("never"))
        await client.event()
        await client.ws.close(4444, "bye")
        with pytest.raises(BadConnectionError) as aborted:
            await soon(call)
        assert str(aborted.value) == "Event never was aborted due to a bad connection"
        assert (aborted.value.type, aborted.value.code) == ("disconnect", 4444)


async def test_using_a_closed_socket_warns(make_server: Any, running: Running) -> None:
    server = await make_server()
    requests: list[AGRequest] = []

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            requests.append(request)

    running.on_connection(server, handle)
    async with connected(server) as client:
        socket = await only(server)
        await client.send(client.packet("p"))
        await until(lambda: len(requests) == 1)
    await until(lambda: socket.state == "closed")
    warnings = running.collect(server.listener("warning"))
    requests[0].end("late")
    socket.transmit("x", 1)
    socket.send("raw")
    with pytest.raises(BadConnectionError, match="Socket invoke y event was aborted"):
        await socket.invoke("y")
    await until(lambda: len(warnings) == 4)
    assert [str(event.warning) for event in warnings] == [
        "WebSocket is not open",
        "Socket transmit x event was aborted due to a bad connection",
        "WebSocket is not open",
        "Socket invoke y event was aborted due to a bad connection",
    ]


async def test_raw_messages(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        raw = running.collect(socket.listener("raw"))
        messages = running.collect(socket.listener("message"))
        sent: list[str | bytes] = ["hello", "5", '{"a":1}', b"\x00\xff", "[]"]
        for message in sent:
            await client.send(message)
        await until(lambda: len(messages) == 5)
        assert [event.message for event in messages] == sent
        await until(lambda: len(raw) == 4)
        assert [event.message for event in raw] == sent[:4]
        socket.send("text")
        socket.send(b"bytes")
        await until(lambda: client.messages[-2:] == ["text", b"bytes"])


async def test_batch_of_a_client(make_server: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        received = running.collect((await only(server)).receiver("n"))
        call = client.packet("echo", "last")
        answer = client.answer(call)
        batch = [{"event": "n", "data": number} for number in range(100)]
        await client.send([*batch, call])
        assert await soon(answer) == "last"
        await until(lambda: len(received) == 100)
        assert received == list(range(100))


@pytest.mark.parametrize("data", ["1e999", "1" * 5000, "[" * 200 + "]" * 200])
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize(
    "event", ["echo", "#publish", "#subscribe", "#unsubscribe", "#authenticate", "unknown"]
)
async def test_an_unreadable_call_in_a_batch_is_answered(
    make_server: Any, running: Running, event: str, size: int, data: str
) -> None:
    """Guarantee 10: one call whose data has no value fails alone, and its caller is told."""
    server = await make_server()
    running.procedure(server, "echo")
    async with connected(server) as client:
        before, bad, after = (
            client.packet("echo", 1),
            client.packet(event),
            client.packet("echo", 2),
        )
        answers = [client.answer(packet) for packet in (before, bad, after)]
        if event == "#publish":
            data = f'{{"channel":"a","data":{data}}}'
        unreadable = f'{{"event":"{event}","data":[{data},"{"x" * size}"],"cid":{bad["cid"]}}}'
        await client.ws.send(f"[{json.dumps(before)},{unreadable},{json.dumps(after)}]")
        assert await soon(answers[0]) == 1
        with pytest.raises(AnswerError):
            await soon(answers[1])
        assert await soon(answers[2]) == 2


async def test_batch_of_the_server(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        socket.start_batch()
        assert socket.is_buffering_batch
        socket.transmit("a", 1)
        with pytest.raises(InvalidArgumentsError):
            socket.transmit("bad", object())
        call = asyncio.create_task(socket.invoke("b", 2))
        await asyncio.sleep(0)
        socket.flush_batch()
        assert not socket.is_buffering_batch
        await until(lambda: client.events.qsize() == 2)
        message = client.messages[-1]
        assert message == '[{"event":"a","data":1},{"event":"b","cid":1,"data":2}]'
        await client.send({"rid": 1, "data": "done"})
        assert await soon(call) == "done"
        socket.start_batch()
        socket.transmit("dropped")
        socket.cancel_batch()
        socket.transmit("kept")
        client.events = asyncio.Queue()
        assert await client.event() == {"event": "kept"}


async def test_batching_in_intervals(make_server: Any) -> None:
    server = await make_server(batch_interval=20)
    async with connected(server) as client:
        socket = await only(server)
        socket.start_batching()
        assert socket.is_batching
        for number in range(3):
            socket.transmit("n", number)
        await until(lambda: client.events.qsize() == 3)
        assert str(client.messages[-1]).startswith("[")
        socket.transmit("n", 3)
        socket.stop_batching()
        assert not socket.is_batching
        socket.transmit("n", 4)
        await until(lambda: client.events.qsize() == 5)
        assert client.messages[-2:] == ['[{"event":"n","data":3}]', '{"event":"n","data":4}']


async def test_batch_on_handshake(make_server: Any) -> None:
    server = await make_server(
        batch_on_handshake=True, batch_on_handshake_duration=60, batch_interval=10
    )
    async with connected(server) as client:
        socket = await only(server)
        assert socket.is_buffering_batch
        assert not socket.is_batching
        socket.transmit("early")
        await until(lambda: client.events.qsize() == 1)
        assert client.messages[-1] == '[{"event":"early"}]'
        await until(lambda: not socket.is_buffering_batch)
        socket.transmit("later")
        await until(lambda: client.events.qsize() == 2)
        assert client.messages[-1] == '{"event":"later"}'


async def test_batching_begun_after_the_handshake_goes_on(make_server: Any) -> None:
    server = await make_server(
        batch_on_handshake=True, batch_on_handshake_duration=20, batch_interval=5
    )
    async with connected(server) as client:
        socket = await only(server)
        socket.start_batching()
        assert socket.is_batching
        over = asyncio.get_running_loop().time() + 0.05
        await until(lambda: asyncio.get_running_loop().time() > over)
        assert socket.is_batching
        socket.transmit("still")
        await until(lambda: client.events.qsize() == 1)
        assert client.messages[-1] == '[{"event":"still"}]'


@pytest.mark.parametrize(("end", "sent"), [("stop_batching", 1), ("cancel_batching", 0)])
async def test_the_end_of_batching_ends_a_single_batch(
    make_server: Any, end: str, sent: int
) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        socket.start_batch()
        socket.transmit("batched")
        getattr(socket, end)()
        assert not socket.is_buffering_batch
        socket.transmit("later")
        events = [(await client.event())["event"] for _ in range(sent + 1)]
        assert events == ["batched", "later"][1 - sent :]


async def test_batching_on_a_closed_socket_keeps_nothing_alive(make_server: Any) -> None:
    server = await make_server(batch_interval=5)
    async with connected(server):
        socket = await only(server)
        socket.disconnect()
    await until(lambda: not server.clients)
    socket.start_batching()
    gone = weakref.ref(socket)
    del socket
    await until(lambda: not gc.collect() and gone() is None)


async def test_a_socket_that_its_own_batch_closes_is_not_kept_alive(make_server: Any) -> None:
    server = await make_server(batch_interval=5, max_outbound_buffer=1000)
    async with connected(server):
        socket = await only(server)
        socket.start_batching()
        socket.transmit("e", "x" * 477)  # Twice 500 bytes fit, but not the array of both.
        socket.transmit("e", "x" * 477)
        assert socket.get_outbound_buffer_size() == 1000
        gone = weakref.ref(socket)
        del socket
        await until(lambda: not gc.collect() and gone() is None)
    assert not server.clients


@pytest.mark.parametrize("end", ["flush_batch", "cancel_batch"])
async def test_what_is_in_a_batch_counts_as_sent(make_server: Any, end: str) -> None:
    server = await make_server()
    async with connected(server):
        socket = await only(server)
        socket.start_batch()
        for number in range(2):
            socket.transmit("n", number)
        assert socket.get_outbound_backpressure() == 2
        await asyncio.sleep(0)
        assert socket.get_outbound_backpressure() == 0
        getattr(socket, end)()
        assert socket.outbound_sent_message_count == socket.outbound_prepared_message_count == 2


async def test_what_is_not_sent_is_not_counted(make_server: Any) -> None:
    server = await make_server()
    async with connected(server):
        socket = await only(server)
        with pytest.raises(InvalidArgumentsError):
            socket.transmit("x", object())
        with pytest.raises(InvalidArgumentsError):
            await socket.invoke("x", object())
        assert socket.outbound_prepared_message_count == 0
    await until(lambda: socket.state == "closed")
    await socket.deauthenticate()
    assert socket.get_outbound_backpressure() == 0


async def test_binary_data_is_base64_in_json(make_server: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "bytes", lambda data: {"got": data, "mine": b"\x00\x01"})
    async with connected(server) as client:
        sent = {"base64": True, "data": base64.b64encode(b"hi").decode()}
        assert await client.call("bytes", sent) == {
            "got": sent,
            "mine": {"base64": True, "data": "AAE="},
        }
        buffer = {"type": "Buffer", "data": [1, 2]}
        assert (await client.call("bytes", buffer))["got"] == buffer


async def test_backpressure_figures(make_server: Any) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        consumer = socket.receiver("x").create_consumer()
        for _ in range(3):
            await client.transmit("x", 1)
        await until(lambda: socket.get_receiver_backpressure("x") == 3)
        assert socket.get_all_receivers_backpressure() == socket.get_backpressure() == 3
        stats = socket.get_receiver_consumer_stats_list("x")
        assert [(s.id, s.backpressure, s.stream) for s in stats] == [(consumer.id, 3, "x")]
        assert socket.get_inbound_backpressure() == 0
        assert socket.inbound_received_message_count == 4
        sent = socket.outbound_sent_message_count
        socket.transmit("y", 1)
        assert socket.get_outbound_backpressure() == 1
        assert socket.get_outbound_buffer_size() > 0
        socket.outbound.append(PING)
        assert socket.get_outbound_backpressure() == 1
        await client.event()
        assert socket.get_outbound_backpressure() == 0
        assert socket.outbound_sent_message_count == sent + 1
        socket.kill_all_receivers()
        assert socket.get_backpressure() == 0
        assert socket.get_bytes_received() > 0


async def test_disconnect_with_code_and_reason(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        socket = await only(server)
        heard: list[Any] = []
        for name in ("disconnect", "close", "end"):
            consumer = socket.listener(name).create_consumer()

            async def loop(name: str = name, consumer: Any = consumer) -> None:
                async for event in consumer:
                    heard.append((name, event))

            running.start(loop())
        for wrong in (0, 999, 1005, 1006, 5000, "1000", True):
            with pytest.raises(InvalidArgumentsError):
                socket.disconnect(wrong)  # type: ignore[arg-type]
        socket.transmit("last words")
        socket.disconnect(4501, "Enough")
        assert server.clients_count == 0
        assert socket.state == socket.CLOSED
        assert (await client.event())["event"] == "last words"
        assert await client.closed() == (4501, "Enough")
    await until(lambda: len(heard) == 3)
    assert [name for name, _ in heard] == ["disconnect", "close", "end"]
    assert (heard[0][1].code, heard[0][1].reason) == (4501, "Enough")


async def test_terminate_drops_the_connection(make_server: Any, running: Running) -> None:
    server = await make_server()
    closures = running.collect(server.listener("closure"))
    async with connected(server) as client:
        (await only(server)).terminate()
        await client.closed()
    await until(lambda: len(closures) == 1)
    assert (closures[0].code, closures[0].reason) == (1006, "Socket hung up")


@pytest.mark.parametrize("mode", ["kill", "close", "none"])
async def test_stream_clean_up_modes(make_server: Any, mode: str) -> None:
    server = await make_server(socket_stream_cleanup_mode=mode)
    async with connected(server) as client:
        socket = await only(server)
        consumer = socket.receiver("x").create_consumer()
        await client.transmit("x", 1)
        await until(lambda: socket.get_receiver_backpressure("x") == 1)
    await until(lambda: socket.state == "closed")
    await asyncio.sleep(0)
    if mode == "kill":
        assert (await soon(consumer.next())).done
    else:
        assert (await soon(consumer.next())).value == 1
        if mode == "close":
            assert (await soon(consumer.next())).done
        else:
            with pytest.raises(TimeoutError):
                await consumer.next(10)


async def test_request_creator(make_server: Any, running: Running) -> None:
    class MyRequest(AGRequest):
        mine = True

    server = await make_server(request_creator=MyRequest)
    seen: list[Any] = []

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("p"):
            seen.append(request)
            request.end()

    running.on_connection(server, handle)
    async with connected(server) as client:
        await client.call("p")
    assert seen[0].mine
