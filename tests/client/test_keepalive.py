"""Units of the keepalive: pongs, silence, pauses."""

from __future__ import annotations

from typing import Any

from socketcluster.client.keepalive import Keepalive
from socketcluster.errors import ResourceLimitError
from socketcluster.testing import clock


class FakeConnection:
    """A connection whose activity a test sets."""

    def __init__(self) -> None:
        self.activity = 0

    def get_activity(self) -> int:
        return self.activity


class FakeWriter:
    """Records pongs."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.full = False

    def send_message(self, message: str) -> None:
        if self.full:
            raise ResourceLimitError("full")
        self.sent.append(message)


class World:
    """A keepalive of 4 seconds over fakes."""

    def __init__(self, *, tolerant: bool = False) -> None:
        self.connection, self.writer = FakeConnection(), FakeWriter()
        self.timeouts = 0
        connection: Any = self.connection
        writer: Any = self.writer
        on_timeout = None if tolerant else self._timed_out
        self.keepalive = Keepalive(connection, writer, "#2", 4, on_timeout)

    def _timed_out(self) -> None:
        self.timeouts += 1
        self.keepalive.stop()


async def test_silence_times_out_once() -> None:
    async with clock() as now:
        world = World()
        await now.advance(3.9)
        assert world.timeouts == 0
        await now.advance(0.2)
        assert world.timeouts == 1
        await now.advance(60)
        assert world.timeouts == 1


async def test_activity_and_a_restart_begin_the_silence_anew() -> None:
    async with clock() as now:
        world = World()
        await now.advance(3.5)
        world.connection.activity += 1
        await now.advance(3.9)
        assert world.timeouts == 0
        world.keepalive.restart(8)
        await now.advance(7.9)
        assert world.timeouts == 0
        await now.advance(0.2)
        assert world.timeouts == 1


async def test_silence_is_tolerated_without_a_callback() -> None:
    async with clock() as now:
        world = World(tolerant=True)
        await now.advance(60)
        world.keepalive.stop()
        assert world.writer.sent == []


async def test_a_byte_at_the_last_moment_counts() -> None:
    async with clock() as now:
        world = World()
        await now.advance(3.99)
        world.connection.activity += 1  # It is read after the timer has fired late.
        await now.advance(0.2)
        assert world.timeouts == 0
        world.keepalive.stop()


async def test_while_reading_is_paused_it_sends_pongs_and_expects_nothing() -> None:
    async with clock() as now:
        world = World()
        world.keepalive.reading_paused()
        assert world.writer.sent == ["#2"]
        await now.advance(10.5)
        assert world.writer.sent == ["#2"] * 11
        assert world.timeouts == 0
        world.keepalive.reading_resumed()
        world.keepalive.reading_paused()  # The last pong was a moment ago.
        assert world.writer.sent == ["#2"] * 11
        world.keepalive.reading_resumed()
        await now.advance(4.5)
        assert world.timeouts == 1


async def test_a_full_buffer_needs_no_pong() -> None:
    async with clock():
        world = World()
        world.writer.full = True
        world.keepalive.answer_ping()
        assert world.writer.sent == []
        world.keepalive.stop()
