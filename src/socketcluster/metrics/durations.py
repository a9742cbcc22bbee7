"""Durations: a histogram whose values cost an append, and those of calls often not even that."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate
from operator import length_hint
from random import getrandbits
from time import perf_counter
from typing import Any

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the buckets, in seconds."""

MANY = 1000
"""So many values may wait for the next scrape."""

_LABELS = (*(str(bound) for bound in BOUNDS), "+Inf")


class Durations:
    """Counts seconds in the buckets of `BOUNDS`.

    A value is only appended to a list, and `settle` sorts the list into the buckets: a scrape does,
    and the server's ticker if the list grows long.

    Attributes:
        add: append one value.
    """

    __slots__ = ("_count", "_counts", "_lock", "_recent", "_total", "add")

    def __init__(self) -> None:
        self._recent: list[float] = []
        self.add: Callable[[float], None] = self._recent.append
        self._counts = [0] * len(_LABELS)
        self._count = 0
        self._total = 0.0
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Count the values that were added since the last time. Any thread may call it."""
        self._settle(self._recent, 1)

    def settle_many(self) -> None:
        """Count the values if many wait; the ticker calls it."""
        if len(self._recent) > MANY:
            self.settle()

    def _settle(self, recent: list[float], weight: int) -> None:
        if not recent:
            return
        with self._lock:
            values = recent[:]
            del recent[: len(values)]  # Not `clear`: the loop may have added some meanwhile.
            self._count += len(values) * weight
            self._total += sum(values) * weight
            for value in values:
                self._counts[bisect_left(BOUNDS, value)] += weight

    @property
    def count(self) -> int:
        """How many values there were."""
        self.settle()
        return self._count

    @property
    def total(self) -> float:
        """The sum of all values."""
        self.settle()
        return self._total

    def buckets(self) -> list[tuple[str, float]]:
        """The count of the values up to each bound, and last of all of them."""
        self.settle()
        counts = accumulate(self._counts)
        return [(bound, float(count)) for bound, count in zip(_LABELS, counts, strict=True)]


FEW = 8
"""So many calls of a procedure are timed in each second, one by one."""

EVERY = 128
"""Of later calls one in so many is timed, and stands for all: to look at the clock twice and to
enter the duration would take 5 % of a call. Which one is random, so that no rhythm hides it."""

_BITS = EVERY.bit_length() - 1
_FLAGS = [*[False] * 2 * EVERY, True, True]
"""A flag for each call until the next one that is timed. The last is never taken, because that
would end an iterator for ever."""
_LAST = 2
"""How many flags are left when the next call is timed."""


class CallDurations(Durations):
    """Counts each call, and times some: see `CallTimer`."""

    add: Callable[[float], None]

    __slots__ = ("_all", "_begun", "_place", "_some", "flags")

    def __init__(self) -> None:
        super().__init__()
        self._some: list[float] = []
        self._all = FEW  # How many calls are timed one by one.
        self._place = 0  # Of the call that was timed among the last `EVERY`.
        # To move on in a list is the cheapest way to count in Python.
        self.flags: Iterator[bool] = iter(_FLAGS)
        self._begun = len(_FLAGS)  # The calls that have begun when no flag is left.
        self._leave(_LAST)

    def _leave(self, count: int) -> None:
        """Leave so many flags."""
        self._begun += count - length_hint(self.flags)
        self.flags.__setstate__(len(_FLAGS) - count)  # type: ignore[attr-defined]

    def start(self) -> float:
        """Return the time for the call that is due, and choose the next one."""
        self.add = self._recent.append if self._all else self._some.append
        gap = 1
        if self._all:
            self._all -= 1
            self._place = EVERY - 1
        if not self._all:
            place = getrandbits(_BITS)
            gap = EVERY - self._place + place
            self._place = place
        self._leave(_LAST - 1 + gap)
        return perf_counter()

    def time(self, answer: Callable[..., None], *call: Any) -> None:
        """See `CallTimer.time`."""
        started, add = self.start(), self.add
        try:
            answer(*call)
        finally:
            add(perf_counter() - started)

    async def time_async(self, work: Callable[[Any], Awaitable[None]], message: Any) -> None:
        """See `CallTimer.time_async`."""
        started, add = self.start(), self.add
        self._leave(length_hint(self.flags) + 1)
        self._begun -= 1
        try:
            await work(message)
        finally:
            add(perf_counter() - started)

    def time_all(self) -> None:
        """Time the next calls one by one."""
        if self._all < FEW:  # Else none has begun since the last time.
            self._leave(_LAST)
            self._all = FEW

    def settle_many(self) -> None:
        """See `Durations.settle_many`."""
        if len(self._recent) + len(self._some) > MANY:
            self.settle()

    def settle(self) -> None:
        """See `Durations.settle`."""
        super().settle()
        self._settle(self._some, EVERY)

    @property
    def begun(self) -> int:
        """How many calls have begun."""
        return self._begun - length_hint(self.flags)
