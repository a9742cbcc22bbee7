"""The flusher: writes the frames of all connections at the end of a loop turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from socketcluster.runtime.reporting import Reporter

_reporter = Reporter(logging.getLogger("socketcluster"))
"""One for all connections of the process: they may all fail in one turn."""


class Flushable(Protocol):
    """A writer with frames to write at the end of the loop turn."""

    def flush(self) -> Sequence[bytes]:
        """Write the frames, and return those that nothing else counts."""
        ...

    def failed(self, error: Exception) -> None:
        """Called with the error that `flush` raised."""


class Flusher:
    """Calls `flush` of each added writer once, at the end of the loop turn.

    An error goes to the writer's own `failed`; the other writers are flushed all the same.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Flushable] = []

    def add(self, flushable: Flushable) -> None:
        """Flush a writer at the end of this loop turn.

        Raises:
            RuntimeError: no event loop is running. Nothing has changed.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._waiting.append(flushable)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        for flushable in waiting:
            try:
                flushable.flush()
            except Exception as error:
                flushable.failed(error)


class CountingFlusher(Flusher):
    """A `Flusher` that calls `count` with the number of the frames of each turn."""

    __slots__ = ("_count",)

    def __init__(self, count: Callable[[int], None]) -> None:
        super().__init__()
        self._count = count

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        written = 0
        for flushable in waiting:
            try:
                written += len(flushable.flush())
            except Exception as error:
                flushable.failed(error)
        self._count(written)


def report_unwritable(error: Exception) -> None:
    """Log that a connection could not be written to, at a limited rate."""
    _reporter.fault("A connection could not be written to", error)
