"""The flusher: writes the frames of all connections at the end of a loop turn."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from socketcluster.runtime.reporting import Reporter

_reporter = Reporter(logging.getLogger("socketcluster"))
"""One for all connections of the process: they may all fail in one turn."""


class Flushable(Protocol):
    """A writer with frames to write at the end of the loop turn."""

    def flush(self) -> None:
        """Write the frames."""

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


def report_unwritable(error: Exception) -> None:
    """Log that a connection could not be written to, at a limited rate."""
    _reporter.fault("A connection could not be written to", error)
