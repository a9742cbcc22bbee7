"""Guarantee 9: any byte is a sign of life, and a stall of this process is nobody's silence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from socketcluster import AGServer, AGServerSocket
from socketcluster.server import keepalive
from socketcluster.server.memory_limit import MemoryLimit
from socketcluster.server.ticker import Ticker
from support import Client, Running, connected, soon, until

OVER_TCP = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)


def write(client: Client, data: bytes) -> None:
    assert isinstance(client.ws, ClientConnection)
    client.ws.transport.write(data)


class Ticks:
    """Counts the ticks of a server: time as it sees it."""

    def __init__(self, server: AGServer) -> None:
        self.count = 0
        self._tick = server.ticker.on_tick
        server.ticker.on_tick = self._counted

    def _counted(self, now: float) -> None:
        self.count += 1
        self._tick(now)

    async def wait(self, ticks: int) -> None:
        goal = self.count + ticks
        await until(lambda: self.count >= goal)


class FakeLoop:
    """A loop whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.run: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, run: Callable[[], None]) -> Any:
        self.run = run
        return asyncio.TimerHandle(self.now + delay, run, (), self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing is scheduled for real."""

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.run()


def test_the_clock_of_silence_stands_still_in_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    ticked: list[float] = []
    ticker = Ticker([8000], on_tick=ticked.append)
    ticker.start()
    start = ticker.now
    loop.after(1.0)
    loop.after(1.5)
    assert ticker.now == start + 2.5
    loop.after(60.0)
    assert ticker.now == start + 2.5
    assert ticker.time == 162.5
    loop.after(1.0)
    assert ticker.now == start + 3.5
    assert ticked == [start, start + 1.0, start + 2.5, start + 2.5, start + 3.5]


def test_how_late_it_is_but_in_the_first_period(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    late: list[float] = []
    ticker = Ticker([8000], late.append)
    for _ in range(2):
        ticker.start()
        loop.after(5.0)
        loop.after(1.0)
        loop.after(3.5)
        ticker.stop()
    assert late == [0.0, 2.5, 0.0, 2.5]


@OVER_TCP
async def test_nobody_is_timed_out_by_a_stall_of_this_process(
    make_server: Any, running: Running
) -> None:
    server = await make_server(ping_interval=50, ping_timeout=200)
    ticks = Ticks(server)
    async with connected(server) as client, connected(server) as other:
        await until(lambda: client.pings > 2 and other.pings > 2)
        time.sleep(0.6)  # noqa: ASYNC251  What a handler should not do.
        await ticks.wait(3)
        assert server.clients_count == 2
        pings = client.pings
        await until(lambda: client.pings > pings + 2)
        assert server.clients_count == 2


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
@pytest.mark.parametrize("fragmented", [False, True])
async def test_bytes_that_keep_coming_are_a_sign_of_life(
    make_server: Any, running: Running, fragmented: bool
) -> None:
    server = await make_server(ping_interval=5000, ping_timeout=400)
    ticks = Ticks(server)
    received: list[str] = []

    async def receive(socket: AGServerSocket) -> None:
        async for value in socket.receiver("r"):
            received.append(value)

    running.on_connection(server, receive)
    async with connected(server) as client:
        text = '{"event":"r","data":"' + "x" * 200_000 + '"}'
        if fragmented:
            half = len(text) // 2
            frames = [
                Frame(Opcode.TEXT, text[:half].encode(), fin=False),
                Frame(Opcode.CONT, text[half:].encode()),
            ]
        else:
            frames = [Frame(Opcode.TEXT, text.encode())]
        data = b"".join(frame.serialize(mask=True) for frame in frames)
        piece = len(data) // 40 + 1
        for start in range(0, len(data), piece):
            write(client, data[start : start + piece])
            await ticks.wait(1)  # An eighth of ping_timeout.
        await until(lambda: bool(received))
        assert received == ["x" * 200_000]


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_half_a_message_and_then_nothing_is_silence(make_server: Any) -> None:
    server = await make_server(ping_interval=5000, ping_timeout=400)
    async with connected(server) as client:
        frame = Frame(Opcode.TEXT, b'{"event":"r","data":"' + b"x" * 2000 + b'"}')
        write(client, frame.serialize(mask=True)[:1000])
        assert (await client.closed())[0] == 4001


async def test_a_ping_timeout_not_above_the_interval_is_warned_of(
    make_server: Any, caplog: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        server = await make_server(ping_interval=5000, ping_timeout=500)
    assert "ping_timeout (500 ms) is not above ping_interval (5000 ms)" in caplog.text
    async with connected(server) as client:
        assert (await soon(client.closed()))[0] == 4001


IN_MEMORY = pytest.mark.parametrize("make_server", ["memory"], indirect=True)


@IN_MEMORY
async def test_many_sockets_are_checked_in_slices(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "SLICE", 2)
    slices: list[list[str]] = []
    add = MemoryLimit.add

    def recorded(limit: MemoryLimit, sockets: list[AGServerSocket]) -> None:
        slices.append([socket.id for socket in sockets])
        add(limit, sockets)

    monkeypatch.setattr(MemoryLimit, "add", recorded)
    server = await make_server()
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(server))
        server.ticker.stop()
        now, ids = server.ticker.now, list(server.clients)
        server.keepalive.tick(now)  # The one before may have slices left.
        await until(lambda: slices[-1:] == [ids[4:]])
        del slices[:]
        server.keepalive.tick(now)
        assert slices == [ids[:2]]
        await until(lambda: slices == [ids[:2], ids[2:4], ids[4:]])
        # A tick before the last slice checks the rest at once.
        del slices[:]
        server.keepalive.tick(now)
        server.keepalive.tick(now)
        assert slices == [ids[:2], ids[2:4], ids[4:], ids[:2]]
        # A socket that ends before its slice is left alone.
        server.clients[ids[3]].terminate()
        await until(lambda: slices[4:] == [[ids[2]], ids[4:]])


@IN_MEMORY
async def test_all_slices_ping_and_time_out(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "SLICE", 1)
    server = await make_server(ping_interval=80, ping_timeout=400)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(3)]
        for client in clients:
            client.answers_pings = False
        for client in clients:
            assert (await client.closed())[0] == 4001


@IN_MEMORY
async def test_the_memory_limit_counts_the_sockets_of_all_slices(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "SLICE", 1)
    server = await make_server(ping_interval=80, max_buffered=100_000)
    async with AsyncExitStack() as stack:
        consumers = []
        for number in range(3):
            client = await stack.enter_async_context(connected(server))
            socket = list(server.clients.values())[number]
            consumers.append(socket.receiver("n").create_consumer())
            for _ in range(4):
                await client.transmit("n", "x" * 10_000)
            await until(lambda: consumers[-1].get_backpressure() == 4)
        sockets = list(server.clients.values())
        # Each of them is below the limit.
        await until(lambda: any(socket.inbound.flow_control.held for socket in sockets))
        for consumer in consumers:
            while consumer.get_backpressure():
                await soon(consumer.next())
        await until(lambda: not any(socket.inbound.flow_control.held for socket in sockets))
        for consumer in consumers:
            consumer.return_()
