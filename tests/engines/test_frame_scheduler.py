"""Frames within a budget for each loop turn, without a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster.engines.assembler import BINARY, CLOSE, PING, TEXT, FrameReceiver
from socketcluster.engines.frame_scheduler import PARSER_FAULT, FrameScheduler
from socketcluster.engines.turn_budget import TURN_BUDGET, turn_cost


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Connection:
    """The owner and the source of a scheduler, and its handler."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.log: list[Any] = []
        self.early = 0
        self.scheduler = FrameScheduler(
            self.transport, FrameReceiver(100_000, None), self, self, self.text
        )

    @property
    def has_more(self) -> bool:
        return self.early > 0

    def parse_more(self) -> None:
        while self.early and not self.scheduler.held:
            self.early -= 1
            self.add(TEXT, b"early")

    def text(self, data: bytes) -> None:
        self.log.append(data)

    def binary_received(self, data: bytes) -> None:
        self.log.append(data)

    def control_frame(self, opcode: int, payload: bytes) -> None:
        self.log.append((opcode, payload))

    def fail(self, code: int, reason: str = "") -> None:
        self.log.append(code)
        self.scheduler.shut_down()

    def finish(self) -> None:
        self.log.append("finished")
        self.scheduler.free()

    def add(self, opcode: int, payload: bytes = b"", fin: bool = True) -> None:
        """Receive a frame, as the reader does."""
        self.scheduler.add((opcode, fin, False, False, payload))
        self.scheduler.count(len(payload))


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def turn() -> None:
    await asyncio.sleep(0)


async def test_frames_within_the_budget_are_processed_at_once(connection: Connection) -> None:
    connection.add(TEXT, b"a")
    connection.add(PING, b"p")
    connection.add(BINARY, b"b")
    assert connection.log == [b"a", (PING, b"p"), b"b"]
    assert connection.scheduler.direct
    assert not connection.transport.is_paused


async def test_frames_beyond_the_budget_wait_for_the_next_turns(connection: Connection) -> None:
    count = 3 * TURN_BUDGET
    for number in range(count):
        connection.add(TEXT, b"%d" % number)
    assert len(connection.log) == TURN_BUDGET
    assert connection.transport.is_paused
    assert not connection.scheduler.direct
    seen = []
    while connection.transport.is_paused:
        before = len(connection.log)
        await turn()
        seen.append(len(connection.log) - before)
    assert max(seen) <= TURN_BUDGET
    assert connection.log == [b"%d" % number for number in range(count)]
    assert connection.scheduler.direct


async def test_the_budget_begins_anew_in_each_turn(connection: Connection) -> None:
    for _ in range(3):
        for _ in range(TURN_BUDGET - 1):
            connection.add(TEXT, b"a")
        assert not connection.scheduler.held
        await turn()


async def test_a_large_message_uses_up_a_turn(connection: Connection) -> None:
    size = 256 * TURN_BUDGET
    assert turn_cost(size) > TURN_BUDGET
    connection.add(BINARY, b"x" * size)
    connection.add(TEXT, b"next")
    assert len(connection.log) == 1
    await turn()
    await turn()
    assert connection.log[1:] == [b"next"]


async def test_a_pause_holds_what_is_queued(connection: Connection) -> None:
    for _ in range(2 * TURN_BUDGET):
        connection.add(TEXT, b"a")
    connection.scheduler.pause_reading()
    for _ in range(5):
        await turn()
    assert len(connection.log) == TURN_BUDGET
    assert connection.transport.is_paused
    connection.scheduler.resume_reading()
    for _ in range(5):
        await turn()
    assert len(connection.log) == 2 * TURN_BUDGET
    assert not connection.transport.is_paused


async def test_bytes_of_the_source_are_parsed_behind_the_queue(connection: Connection) -> None:
    for _ in range(TURN_BUDGET + 1):
        connection.add(TEXT, b"a")
    connection.early = 2
    await turn()
    assert connection.log[-3:] == [b"a", b"early", b"early"]


async def test_a_lost_transport_delivers_the_queue_first(connection: Connection) -> None:
    for _ in range(2 * TURN_BUDGET):
        connection.add(TEXT, b"a")
    connection.early = 1
    connection.scheduler.pause_reading()  # Has no effect on what was received.
    connection.scheduler.transport_lost()
    assert "finished" not in connection.log
    for _ in range(5):
        await turn()
    assert connection.log[-3:] == [b"a", b"early", "finished"]


async def test_a_transport_that_is_lost_with_nothing_queued_finishes_at_once(
    connection: Connection,
) -> None:
    connection.scheduler.transport_lost()
    assert connection.log == ["finished"]


async def test_only_a_close_frame_is_processed_after_shutting_down(connection: Connection) -> None:
    for _ in range(TURN_BUDGET + 5):
        connection.add(TEXT, b"a")
    connection.add(CLOSE, b"bye")
    connection.scheduler.shut_down()
    count = len(connection.log)
    connection.add(TEXT, b"late")
    await turn()
    assert connection.log[count:] == [(CLOSE, b"bye")]
    connection.add(CLOSE, b"again")
    assert connection.log[-1] == (CLOSE, b"again")


async def test_violations_wait_their_turn(connection: Connection) -> None:
    for _ in range(TURN_BUDGET + 5):
        connection.add(TEXT, b"a")
    connection.add(PARSER_FAULT, (1002).to_bytes(2, "big"))
    connection.add(TEXT, b"late")
    assert 1002 not in connection.log
    await turn()
    await turn()
    assert connection.log == [b"a"] * (TURN_BUDGET + 5) + [1002]


async def test_a_message_in_progress_is_not_overtaken(connection: Connection) -> None:
    connection.add(TEXT, b"a", fin=False)
    assert not connection.scheduler.direct
    connection.add(0, b"b")
    assert connection.scheduler.direct
    assert connection.log == [b"ab"]


async def test_freeing_drops_the_queue_and_the_next_turn(connection: Connection) -> None:
    for _ in range(2 * TURN_BUDGET):
        connection.add(TEXT, b"a")
    connection.scheduler.free()
    connection.add(TEXT, b"late")
    connection.scheduler.shut_down()
    connection.scheduler.transport_lost()
    await turn()
    assert connection.log == [b"a"] * TURN_BUDGET
