"""Guarantee 4: what one client sent and nobody has taken is bounded, in messages and in bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from socketcluster import AGServer
from socketcluster.literals import MiddlewareType
from socketcluster.server.parts.flow_control import FlowControl
from support import Running, connected, until

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
LIMIT = 200_000
TEXT = "x" * 20_000
COUNT = 2000


class PausableConnection:
    """A connection that only says whether it is read from."""

    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Owner:
    def loops_changed(self, behind: bool) -> None:
        raise AssertionError("No loop falls behind")


def test_either_limit_pauses_and_half_of_both_resumes() -> None:
    connection: Any = PausableConnection()
    flow = FlowControl(connection, 4, 100, Owner())
    for _ in range(4):
        flow.add(b"")
    assert not connection.paused
    flow.add(b"")
    assert connection.paused
    for _ in range(2):
        flow.remove(b"")
    assert connection.paused
    flow.remove(b"")
    assert not connection.paused
    flow.add(b"x" * 100)
    assert not connection.paused
    flow.add(b"y")
    assert connection.paused
    flow.remove(b"y")
    assert connection.paused
    assert flow.size == 100
    flow.remove(b"x" * 100)
    assert not connection.paused
    flow.add(b"x" * 1000)
    assert connection.paused
    flow.clear()
    assert not connection.paused
    assert flow.size == 0


async def flood(client: Any, packets: int = COUNT) -> None:
    """More than the limit many times over, and more than the kernel takes."""
    for number in range(packets):
        await client.transmit("n", [number, TEXT])


async def held(socket: Any) -> int:
    """The bytes that wait once no more come in."""
    reading = socket.inbound.flow_control
    await until(lambda: reading.paused)
    count = -1
    while count != socket.inbound.received:
        count = socket.inbound.received
        for _ in range(200):
            await asyncio.sleep(0)
    assert reading.paused
    size: int = reading.size
    return size


# What a read of the transport carried may come after the pause.
MOST = LIMIT + 512 * 1024


@EVERYWHERE
@pytest.mark.parametrize("kind", ["inbound", "inboundRaw"])
async def test_the_bytes_that_wait_for_middleware_are_bounded(
    make_server: Any, running: Running, kind: MiddlewareType
) -> None:
    """Guarantee 4: a backlog before middleware is bounded in bytes."""
    server = AGServer(max_inbound_backlog_bytes=LIMIT, drain_timeout=100)
    gate = asyncio.Event()

    async def wait(stream: Any) -> None:
        async for action in stream:
            await gate.wait()
            action.allow()

    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        server.set_middleware(kind, wait)
        received = running.collect(socket.receiver("n"))
        sending = running.start(flood(client))
        assert LIMIT < await held(socket) <= MOST
        assert not sending.done()
        gate.set()
        await until(lambda: len(received) == COUNT)
        assert [number for number, _ in received] == list(range(COUNT))
        await until(lambda: not socket.inbound.flow_control.paused)
        assert socket.inbound.flow_control.size == 0


@EVERYWHERE
@pytest.mark.parametrize("event", ["handshake", "connection"])
async def test_what_follows_a_handshake_counts_while_that_is_decided(
    make_server: Any, running: Running, event: str
) -> None:
    """Guarantee 4: a slow listener of 'handshake' or 'connection' holds back a bounded backlog."""
    server = AGServer(max_inbound_backlog_bytes=LIMIT, drain_timeout=100)
    gate = asyncio.Event()
    found: list[Any] = []

    async def handle(stream: Any) -> None:
        async for item in stream:
            found.append(item.socket)
            await gate.wait()

    running.start(handle(server.listener(event)))
    await asyncio.sleep(0)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        await client.send({"event": "#handshake", "data": {}, "cid": 1})
        sending = running.start(flood(client))
        await until(lambda: bool(found))
        (socket,) = found
        assert LIMIT < await held(socket) <= MOST
        assert not sending.done()
        received = running.collect(socket.receiver("n"))
        gate.set()
        await until(lambda: len(received) == COUNT)


@EVERYWHERE
async def test_what_follows_a_handshake_counts_while_middleware_decides_it(
    make_server: Any, running: Running
) -> None:
    """Guarantee 4: slow HANDSHAKE_SC middleware holds back a bounded backlog."""
    server = AGServer(max_inbound_backlog_bytes=LIMIT, drain_timeout=100)
    gate = asyncio.Event()
    found: list[Any] = []

    async def wait(stream: Any) -> None:
        async for action in stream:
            if action.type == action.HANDSHAKE_SC:
                found.append(action.socket)
                await gate.wait()
            action.allow()

    server.set_middleware("handshake", wait)
    await make_server(server)
    async with connected(server, handshake=False) as client:
        await client.send({"event": "#handshake", "data": {}, "cid": 1})
        sending = running.start(flood(client))
        await until(lambda: bool(found))
        (socket,) = found
        assert LIMIT < await held(socket) <= MOST
        assert not sending.done()
        gate.set()
        await until(lambda: sending.done())


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
async def test_what_is_sent_while_the_upgrade_is_decided_is_bounded(
    make_server: Any, running: Running
) -> None:
    """Guarantee 4: nor does slow HANDSHAKE_WS middleware make the server take more than a bit."""
    server = AGServer(max_inbound_backlog_bytes=LIMIT, drain_timeout=100)
    gate, asked = asyncio.Event(), asyncio.Event()

    async def wait(stream: Any) -> None:
        async for action in stream:
            asked.set()
            await gate.wait()
            action.allow()

    server.set_middleware("handshake", wait)
    await make_server(server)
    _, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
    request = (
        f"GET {server.path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(request.encode())
    await until(asked.is_set)
    messages = [{"event": "#handshake", "cid": 1}, *[{"event": "n", "data": TEXT}] * COUNT]
    frames = [Frame(Opcode.TEXT, json.dumps(message).encode()) for message in messages]
    writer.write(b"".join(frame.serialize(mask=True) for frame in frames))
    left = -1
    while left != writer.transport.get_write_buffer_size():
        left = writer.transport.get_write_buffer_size()
        for _ in range(300):
            await asyncio.sleep(0)
    assert left > COUNT * len(TEXT) // 2  # The kernel has the rest.
    gate.set()
    await until(lambda: writer.transport.get_write_buffer_size() == 0)
    writer.close()


async def test_input_that_is_killed_is_no_longer_held(make_server: Any, running: Running) -> None:
    server = AGServer(max_inbound_backlog_bytes=LIMIT, drain_timeout=100)

    async def wait(stream: Any) -> None:
        async for action in stream:
            await asyncio.get_running_loop().create_future()
            action.allow()

    server.set_middleware("inbound", wait)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        sending = running.start(flood(client))
        await held(socket)
        socket.kill_input()
        assert socket.inbound.flow_control.size == 0
        await until(lambda: sending.done())
        assert socket.inbound.flow_control.size == 0
