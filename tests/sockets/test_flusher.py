"""Flusher on its own: everything is flushed once, at the end of the loop turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster.sockets.flusher import CountingFlusher, Flusher, report_unwritable


class Counting:
    """Counts its flushes."""

    def __init__(self, flushed: list[Any], error: Exception | None = None) -> None:
        self.flushed = flushed
        self.error = error
        self.failures: list[Exception] = []
        self.failed = self.failures.append

    def flush(self) -> list[bytes]:
        self.flushed.append(self)
        if self.error is not None:
            raise self.error
        return [b"one", b"two"]


async def test_all_are_flushed_in_order_at_the_end_of_the_turn() -> None:
    flushed: list[Any] = []
    flusher = Flusher()
    first, second, third = (Counting(flushed) for _ in range(3))
    flusher.add(first)
    flusher.add(second)
    assert flushed == []
    await asyncio.sleep(0)
    assert flushed == [first, second]
    await asyncio.sleep(0)
    assert flushed == [first, second]
    flusher.add(third)
    flusher.add(first)
    await asyncio.sleep(0)
    assert flushed[2:] == [third, first]


async def test_the_frames_of_a_turn_are_counted() -> None:
    counts: list[int] = []
    flusher = CountingFlusher(counts.append)
    for _ in range(3):
        flusher.add(Counting([]))
    flusher.add(Counting([], OSError("Gone")))
    await asyncio.sleep(0)
    assert counts == [6]
    flusher.add(Counting([]))
    await asyncio.sleep(0)
    assert counts == [6, 2]


@pytest.mark.parametrize("flusher", [Flusher(), CountingFlusher(lambda count: None)])
async def test_one_that_fails_does_not_stop_the_others(flusher: Flusher) -> None:
    flushed: list[Any] = []
    error = OSError("Gone")
    bad, good = Counting(flushed, error), Counting(flushed)
    flusher.add(bad)
    flusher.add(good)
    await asyncio.sleep(0)
    assert flushed == [bad, good]
    assert bad.failures == [error]
    assert good.failures == []


async def test_what_is_added_during_a_flush_is_flushed_in_the_next_turn() -> None:
    flushed: list[Any] = []
    flusher = Flusher()
    late = Counting(flushed)

    class Adding(Counting):
        def flush(self) -> list[bytes]:
            flusher.add(late)
            return super().flush()

    adding = Adding(flushed)
    flusher.add(adding)
    await asyncio.sleep(0)
    assert flushed == [adding]
    await asyncio.sleep(0)
    assert flushed == [adding, late]


def test_an_unwritable_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = OSError("Gone")
    report_unwritable(error)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("socketcluster", "ERROR")
    assert record.getMessage() == "A connection could not be written to"
