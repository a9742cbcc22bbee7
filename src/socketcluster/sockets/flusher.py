"""The flusher: writes the frames of all connections at the end of a loop turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Flushable(Protocol):
    """What has something to write at the end of the loop turn."""

    def flush(self) -> None:
        """Write it."""

    @property
    def failed(self) -> Callable[[Exception], None]:
        """Called with what `flush` raised."""


class Flusher:
    """Flushes what has something to write, at the end of the loop turn in which it got it. One
    that fails is told so, and the others are flushed all the same."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Flushable] = []

    def add(self, flushable: Flushable) -> None:
        """Have `flush` of it called once."""
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
    """A write failed: a matter of one connection, and no business of the others."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": "A connection could not be written to", "exception": error}
    )
