"""Expiries: when the members that are leaving have left."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import NamedTuple


class Expiry(NamedTuple):
    """A member of a node in a channel, for which a time is set."""

    channel: str
    node: str
    user: str


class Expiries:
    """Calls back at the times of expiries, with one timer for all.

    Args:
        due: called with an expiry at its time; it returns None, or another time to be called at.
        done: called after `due` was called for all expiries of a time.
    """

    __slots__ = ("_done", "_due", "_heap", "_known", "_timer")

    def __init__(self, due: Callable[[Expiry], float | None], done: Callable[[], None]) -> None:
        self._due = due
        self._done = done
        self._heap: list[tuple[float, Expiry]] = []
        self._known: set[Expiry] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, until: float, expiry: Expiry) -> None:
        """Call back at a time. An expiry that is known keeps its former time."""
        if expiry not in self._known:
            self._known.add(expiry)
            heapq.heappush(self._heap, (until, expiry))
            self._start_timer()

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._known.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._timer is not None:
            if self._timer.when() <= first:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(first, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            _, expiry = heapq.heappop(self._heap)
            self._known.discard(expiry)
            later = self._due(expiry)
            if later is not None:
                self.add(later, expiry)
        self._done()
        self._start_timer()
