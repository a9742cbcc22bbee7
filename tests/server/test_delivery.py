"""Guarantee 4: what waits for a consumer waits as the bytes received, and is bounded in bytes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import websockets

from socketcluster import AGRequest, AGServer
from support import AnswerError, Running, connected, soon, until
from transports import more_than_fits, send_at_once

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
LONG = "x" * 600
MIB = 1024 * 1024
NUMBERS = "[" + ",".join(["0"] * 500_000) + "]"
EMPTY_LISTS = "[" + ",".join(["[]"] * 340_000) + "]"
"""1 MiB that takes 27 MiB as a value."""


def call(cid: int, data: str, event: str = "slow") -> str:
    """A call whose data is given as JSON."""
    return f'{{"event":"{event}","data":{data},"cid":{cid}}}'


async def allow(stream: Any) -> None:
    """Middleware that lets everything through."""
    async for action in stream:
        action.allow()


def held(socket: Any) -> int:
    """The bytes that the socket's consumers have not taken, as they are counted."""
    size: int = socket.inbound.flow_control.gauge.size
    return size


def wait_in_procedure(running: Running, socket: Any, gate: asyncio.Event) -> list[Any]:
    """A loop over 'slow' that answers with the number of items, once the gate is open."""
    taken: list[Any] = []

    async def loop() -> None:
        async for request in socket.procedure("slow"):
            taken.append(request.id)
            await gate.wait()
            request.end(len(request.data))

    running.start(loop())
    return taken


@EVERYWHERE
async def test_large_calls_to_a_procedure_that_waits_are_held_as_bytes(
    make_server: Any, running: Running
) -> None:
    """Guarantee 4: 20 calls of 1 MiB hold 4 MiB and a message, and the rest is not read."""
    server = await make_server()
    gate = asyncio.Event()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        taken = wait_in_procedure(running, socket, gate)
        await asyncio.sleep(0)
        packets = [client.packet("slow") for _ in range(20)]
        answers = [client.answer(packet) for packet in packets]

        async def send() -> None:
            for packet in packets:
                await client.send(call(packet["cid"], NUMBERS))

        sending = running.start(send())
        await until(lambda: socket.inbound.flow_control.paused)
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(taken) == 1
        # What one read of the transport carried may come after the pause.
        assert 4 * MIB < held(socket) < 8 * MIB
        assert len(socket.messaging.unanswered) < 10
        gate.set()
        assert [await soon(answer) for answer in answers] == [500_000] * 20
        assert len(taken) == 20
        await soon(sending)
        assert held(socket) == 0
        assert not socket.inbound.flow_control.paused
        assert len(socket.messaging.unanswered) == 0


@EVERYWHERE
@pytest.mark.parametrize("middleware", [False, True])
async def test_text_to_a_receiver_that_does_not_read_pauses_the_socket(
    make_server: Any, running: Running, middleware: bool
) -> None:
    """Guarantee 4: text without end to a receiver that waits is taken up to 4 MiB."""
    server = AGServer(drain_timeout=100)
    if middleware:
        server.set_middleware("inbound", allow)
    await make_server(server)
    count = more_than_fits(server) // 100_000 + 100
    async with connected(server) as client:
        (socket,) = server.clients.values()
        slow = socket.receiver("n").create_consumer()
        text = "x" * 100_000

        async def send() -> None:
            for number in range(count):
                await client.transmit("n", [number, text])

        sending = running.start(send())
        await until(lambda: socket.inbound.flow_control.paused)
        for _ in range(500):
            await asyncio.sleep(0)
        assert not sending.done()
        assert slow.get_backpressure() < 100
        for number in range(count):
            assert (await soon(slow.next())).value[0] == number
        await soon(sending)
        assert held(socket) == 0


@EVERYWHERE
@pytest.mark.parametrize("event", ["message", "raw"])
async def test_messages_shown_to_a_slow_listener_are_bounded(
    make_server: Any, running: Running, event: str
) -> None:
    """Guarantee 4: 'message' and 'raw' wait as the bytes received, too."""
    server = await make_server(max_inbound_backlog_bytes=1_000_000)
    count = more_than_fits(server) // 100_000 + 100
    async with connected(server) as client:
        (socket,) = server.clients.values()
        slow = socket.listener(event).create_consumer()
        texts = [json.dumps(f"{number} {LONG * 167}") for number in range(count)]

        async def send() -> None:
            for text in texts:
                await client.send(text)

        sending = running.start(send())
        await until(lambda: socket.inbound.flow_control.paused)
        for _ in range(500):
            await asyncio.sleep(0)
        assert not sending.done()
        assert 1_000_000 < held(socket) < 1_200_000
        for text in texts:
            shown = ""
            while not shown:  # And no pong.
                shown = (await soon(slow.next())).value.message
            assert shown == text
        await soon(sending)
        assert not socket.inbound.flow_control.paused


async def test_a_value_that_middleware_saw_counts_for_what_it_takes(
    make_server: Any, running: Running
) -> None:
    """Guarantee 4: middleware may have changed a value in place: it waits as it is."""
    server = AGServer(drain_timeout=100, max_inbound_backlog_bytes=1_000_000)

    async def change(stream: Any) -> None:
        async for action in stream:
            if type(action.data) is list:
                action.data.append("changed")
            action.allow()

    server.set_middleware("inbound", change)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        receiver = socket.receiver("n").create_consumer()
        procedure = socket.procedure("n").create_consumer()
        await client.transmit("n", [LONG * 10])
        await client.transmit("n", LONG * 10)
        await client.send({"event": "n", "data": [LONG * 10], "cid": 5})
        await until(lambda: procedure.get_backpressure() == 1)
        assert 65 * 6000 < held(socket) < 65 * 6100
        await client.transmit("n", [LONG * 100])
        await until(lambda: socket.inbound.flow_control.paused)
        assert (await soon(receiver.next())).value == [LONG * 10, "changed"]
        assert (await soon(receiver.next())).value == LONG * 10
        assert (await soon(receiver.next())).value == [LONG * 100, "changed"]
        request = (await soon(procedure.next())).value
        assert request.data == [LONG * 10, "changed"]
        request.end()
        assert held(socket) == 0
        assert not socket.inbound.flow_control.paused


@EVERYWHERE
async def test_middleware_makes_no_values_while_loops_are_behind(
    make_server: Any, running: Running
) -> None:
    """Guarantee 4: what came in already waits as bytes."""
    server = AGServer(drain_timeout=100, max_inbound_backlog_bytes=300_000)
    server.set_middleware("inbound", allow)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        receiver = socket.receiver("n").create_consumer()
        packets = [{"event": "n", "data": [number, LONG * 10]} for number in range(30)]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        for number in range(30):
            await until(lambda: receiver.get_backpressure() > 0)
            for _ in range(50):
                await asyncio.sleep(0)
            assert receiver.get_backpressure() <= 2
            assert held(socket) <= 2 * 32 * 6100
            assert (await soon(receiver.next())).value[0] == number
        assert held(socket) == 0
        assert socket.inbound.flow_control.size == 0


@pytest.mark.parametrize("make_server", ["memory"], indirect=True)
async def test_last_words_do_not_wait_for_loops_that_are_behind(
    make_server: Any, running: Running
) -> None:
    """Guarantee 2: what was received reaches its stream before 'disconnect'."""
    server = AGServer(
        drain_timeout=100, max_inbound_backlog_bytes=300_000, socket_stream_cleanup_mode="close"
    )
    server.set_middleware("inbound", allow)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        receiver = socket.receiver("n").create_consumer()
        packets = [{"event": "n", "data": [number, LONG * 10]} for number in range(8)]
        send_at_once(client.ws, [json.dumps(packet) for packet in packets])
        await until(lambda: socket.inbound.flow_control.paused)
        disconnected = socket.listener("disconnect").once()
        closing = running.start(client.close())
        await soon(disconnected)
        assert receiver.get_backpressure() >= 8
        for number in range(8):
            assert (await soon(receiver.next())).value[0] == number
        assert (await soon(receiver.next())).done
        assert held(socket) == 0
        await soon(closing)


@EVERYWHERE
async def test_data_that_cannot_be_parsed_is_answered_and_passed_over(
    make_server: Any, running: Running
) -> None:
    """Guarantee 6: each gets the documented error, and the consumer the next value."""
    server = await make_server(max_malformed_messages=6)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        warnings = running.collect(server.listener("warning"))
        received = running.collect(socket.receiver("slow"))
        gate = asyncio.Event()
        gate.set()
        taken = wait_in_procedure(running, socket, gate)
        await asyncio.sleep(0)
        bad = [f'["{LONG}",1e999]', f'["{LONG}",{"[" * 200}{"]" * 200}]']
        for data in bad:
            packet = client.packet("slow")
            answer = client.answer(packet)
            await client.send(call(packet["cid"], data))
            with pytest.raises(AnswerError) as caught:
                await soon(answer)
            assert caught.value.wire["name"] == "InvalidMessageError"
            await client.send(f'{{"event":"slow","data":{data}}}')
        assert await client.call("slow", [LONG]) == 1
        await client.transmit("slow", [LONG])
        await until(lambda: received == [[LONG]])
        assert len(taken) == 1
        assert len(warnings) == 4
        assert len(socket.messaging.unanswered) == 0
        for _ in range(3):
            await client.send(f'{{"event":"slow","data":{bad[0]}}}')
        assert (await client.closed())[0] == 1008


async def test_calls_that_nobody_takes_are_answered(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(AnswerError, match="There is no procedure 'slow'"):
            await client.call("slow", [LONG])
        procedure = socket.procedure("slow").create_consumer()
        with pytest.raises(AnswerError, match="There is no procedure 'other'"):
            await client.call("other", [LONG])
        for leave in (procedure.return_, lambda: socket.kill_procedure("slow")):
            packets = [client.packet("slow", [LONG]) for _ in range(3)]
            answers = [client.answer(packet) for packet in packets]
            for packet in packets:
                await client.send(packet)
            await until(lambda: len(socket.messaging.unanswered) == 3)
            assert held(socket) > 1800
            leave()
            for answer in answers:
                with pytest.raises(AnswerError) as caught:
                    await soon(answer)
                assert caught.value.wire["name"] == "InternalServerError"
            assert held(socket) == 0
            assert len(socket.messaging.unanswered) == 0
            procedure = socket.procedure("slow").create_consumer()


async def test_a_request_creator_is_called_with_the_value(
    make_server: Any, running: Running
) -> None:
    class Request(AGRequest):
        def __init__(self, socket: Any, id: Any, procedure: str, data: Any) -> None:
            if data == ["fail", LONG]:
                raise ValueError("No such request")
            super().__init__(socket, id, procedure, {"seen": data})

    server = await make_server(request_creator=Request)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        running.procedure(server, "p")
        procedure = socket.procedure("p").create_consumer()
        await client.send({"event": "p", "data": [LONG], "cid": 77})
        request = (await soon(procedure.next())).value
        assert type(request) is Request
        assert request.data == {"seen": [LONG]}
        request.end("answer")
        await until(lambda: any('"rid":77' in str(m) for m in client.messages))
        await client.send({"event": "p", "data": ["fail", LONG], "cid": 78})
        running.start(procedure.next())
        assert (await client.closed())[0] == 1011


async def test_two_loops_share_what_is_parsed_once(make_server: Any, running: Running) -> None:
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        first = socket.receiver("n").create_consumer()
        second = socket.receiver("n").create_consumer()
        await client.transmit("n", [LONG])
        value = (await soon(first.next())).value
        assert value == [LONG]
        # It waits for the second as a value now.
        assert held(socket) > 32 * 600
        assert (await soon(second.next())).value is value
        calls = [socket.procedure("n").create_consumer() for _ in range(2)]
        await client.send({"event": "n", "data": [LONG], "cid": 9})
        requests = [(await soon(consumer.next())).value for consumer in calls]
        assert requests[0] is requests[1]
        requests[0].end()
        assert held(socket) == 0


async def test_publishes_are_shown_as_they_are_taken(make_server: Any, running: Running) -> None:
    """Guarantee 4: who watches for '#publish' holds bytes, too."""
    server = await make_server()
    async with connected(server) as client:
        (socket,) = server.clients.values()
        events = socket.receiver("#publish").create_consumer()
        calls = socket.procedure("#publish").create_consumer()
        publication = {"channel": "c", "data": [LONG]}
        await client.call("#publish", publication)
        await client.transmit("#publish", publication)
        await until(lambda: events.get_backpressure() == 1)
        assert 1200 < held(socket) < 1300
        assert (await soon(events.next())).value == [LONG]
        request = (await soon(calls.next())).value
        assert request.sent
        assert request.data == publication
        assert held(socket) == 0


async def test_small_messages_count_by_number_only(make_server: Any, running: Running) -> None:
    server = await make_server(max_inbound_backlog=100, max_inbound_backlog_bytes=10_000)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        slow = socket.receiver("n").create_consumer()
        for _ in range(50):
            await client.send(json.dumps({"event": "n", "data": "x" * 60}))
        await until(lambda: slow.get_backpressure() == 50)
        assert held(socket) == 0
        await client.send(json.dumps({"event": "n", "data": "x" * 100}))
        await until(lambda: slow.get_backpressure() == 51)
        assert held(socket) > 100


SERVER = """
import asyncio
from socketcluster import AGServer

async def main():
    server = AGServer(max_inbound_backlog_bytes=32 * 1024 * 1024)

    async def loop(socket):
        async for request in socket.procedure("slow"):
            await asyncio.get_running_loop().create_future()

    async def connections():
        async for event in server.listener("connection"):
            server.spawn(loop(event.socket))

    server.background(connections)
    await server.listen(0)
    print(server.source_port, flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_the_memory_of_the_process_does_not_grow_with_what_waits() -> None:
    """Guarantee 4: 20 calls of 1 MiB wait as bytes; each would take 27 MiB as a value."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/") as ws:
            await ws.send('{"event":"#handshake","cid":1}')
            await ws.recv()
            before = resident(process.pid)
            for cid in range(10, 30):
                await ws.send(call(cid, EMPTY_LISTS))
            await ws.send('{"event":"#publish","data":{"channel":"c","data":1},"cid":7}')
            while '"rid":7' not in str(await soon(ws.recv())):
                pass
            assert resident(process.pid) - before < 100 * MIB
    finally:
        process.kill()
        await process.wait()
