"""Batching on its own: what is collected when, and that it outlives connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from socketcluster import testing
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.batching import Batching


class Writer:
    """Notes what becomes of its packets."""

    def __init__(self) -> None:
        self.batch: list[tuple[Any, int]] | None = None
        self.closed = False
        self.notes: list[str] = []

    def start_batch(self) -> None:
        self.batch = [] if self.batch is None else self.batch
        self.notes.append("start")

    def flush_batch(self) -> None:
        self.batch = None
        self.notes.append("flush")

    def cancel_batch(self) -> None:
        self.batch = None
        self.notes.append("cancel")

    def taken(self) -> list[str]:
        """The notes since this was asked last."""
        notes, self.notes = self.notes, []
        return notes


@pytest.fixture
async def clock() -> AsyncIterator[testing.Clock]:
    async with testing.clock() as clock:
        yield clock


def batching(writer: Writer | None = None, interval: float = 100) -> Batching:
    return Batching(LoopBinding("a socket", ""), interval, writer)


async def test_an_array_in_each_interval(clock: testing.Clock) -> None:
    writer = Writer()
    batches = batching(writer)
    batches.start()
    assert batches.wanted
    assert batches.is_buffering
    assert writer.taken() == ["start"]
    await clock.advance(0.25)
    assert writer.taken() == ["flush", "start"] * 2
    batches.stop()
    assert not batches.wanted
    assert not batches.is_buffering
    assert writer.taken() == ["flush"]
    await clock.advance(1)
    assert writer.taken() == []


async def test_to_start_twice_is_to_start_once(clock: testing.Clock) -> None:
    writer = Writer()
    batches = batching(writer)
    batches.start()
    await clock.advance(0.05)
    batches.start()
    assert writer.taken() == ["start"]
    await clock.advance(0.06)
    assert writer.taken() == ["flush", "start"]
    batches.cancel()
    await clock.advance(1)
    assert writer.taken() == ["cancel"]


async def test_it_goes_on_with_the_next_connection(clock: testing.Clock) -> None:
    batches = batching()
    batches.start()
    assert batches.wanted
    assert not batches.is_buffering
    first, second = Writer(), Writer()
    batches.connected(first)
    assert first.taken() == ["start"]
    batches.disconnected()
    assert first.taken() == ["cancel"]
    await clock.advance(1)
    assert first.taken() == []
    batches.connected(second)
    await clock.advance(0.1)
    assert second.taken() == ["start", "flush", "start"]
    batches.disconnected()
    batches.stop()
    batches.connected(first)
    await clock.advance(1)
    assert first.taken() == []


async def test_a_closed_connection_collects_nothing(clock: testing.Clock) -> None:
    writer = Writer()
    writer.closed = True
    batching(writer).start()
    await clock.advance(1)
    assert writer.taken() == []


async def test_a_while_after_the_handshake(clock: testing.Clock) -> None:
    writer = Writer()
    batches = batching(writer)
    batches.run_for(250)
    assert not batches.wanted
    assert batches.is_buffering
    await clock.advance(1)
    assert writer.taken() == ["start", *["flush", "start"] * 2, "flush"]


async def test_the_application_takes_over(clock: testing.Clock) -> None:
    writer = Writer()
    batches = batching(writer)
    batches.run_for(150)
    batches.start()
    await clock.advance(0.35)
    assert writer.taken() == ["start", *["flush", "start"] * 3]
    batches.run_for(10)
    await clock.advance(0.04)
    assert batches.is_buffering
    batches.stop()


async def test_one_batch(clock: testing.Clock) -> None:
    writer = Writer()
    batches = batching(writer)
    batches.start_batch()
    assert batches.is_buffering
    assert not batches.wanted
    batches.flush_batch()
    batches.start_batch()
    batches.cancel_batch()
    assert writer.taken() == ["start", "flush", "start", "cancel"]
    without = batching()
    without.start_batch()
    without.flush_batch()
    without.cancel_batch()
    without.stop()
    without.cancel()
    assert not without.is_buffering
