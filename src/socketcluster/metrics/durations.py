"""Durations: a histogram whose values cost an append, and those of calls often not even that."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the buckets, in seconds."""

_LABELS = (*(str(bound) for bound in BOUNDS), "+Inf")


class Durations:
    """Counts seconds in the buckets of `BOUNDS`.

    A value is only appended to a list, and `settle` sorts the list into the buckets. The server's
    ticker settles once a second at least, so that the list stays short.

    Attributes:
        add: append one value.
    """

    __slots__ = ("_below", "_count", "_lock", "_recent", "_total", "add")

    def __init__(self) -> None:
        self._recent: list[float] = []
        self.add: Callable[[float], None] = self._recent.append
        self._below = [0] * len(BOUNDS)
        self._count = 0
        self._total = 0.0
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Count the values that were added since the last time. Any thread may call it."""
        self._settle(self._recent, 1)

    def _settle(self, recent: list[float], weight: int) -> None:
        if not recent:
            return
        with self._lock:
            values = recent[:]
            del recent[: len(values)]  # Not `clear`: the loop may have added some meanwhile.
            self._count += len(values) * weight
            self._total += sum(values) * weight
            values.sort()
            for index, bound in enumerate(BOUNDS):
                self._below[index] += bisect_right(values, bound) * weight

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
        counts = [*self._below, self._count]
        return [(bound, float(count)) for bound, count in zip(_LABELS, counts, strict=True)]


FEW = 256
"""While there are fewer calls of a procedure in a second, each is timed."""

EVERY = 16
"""Of more calls one in so many is timed, and stands for all: to look at the clock twice and to
enter the duration would take 5 % of a call."""

_ALL = [True] * FEW
_SOME = ([True] + [False] * (EVERY - 1)) * (4 * FEW // EVERY)


class CallDurations(Durations):
    """Counts each call, and times all of them or, of many, some.

    Attributes:
        due: count a call, and return whether to time it. It raises IndexError when `refill` has to
            be called in its place.
        add: append the duration of a call that was due.
    """

    __slots__ = ("_begun", "_filled", "_flags", "_some", "due")

    def __init__(self) -> None:
        super().__init__()
        # The flags of the calls to come: taking one is the cheapest way to count in Python.
        self._flags = _ALL.copy()
        self.due: Callable[[], bool] = self._flags.pop
        self._filled = FEW
        self._begun = 0
        self._some: list[float] = []

    def refill(self) -> bool:
        """Do what `due` does, for the call that found no flag."""
        self._begun += self._filled + 1
        self._flags += _SOME
        self._filled = len(_SOME)
        self.add = self._some.append
        return True

    def time_all(self) -> None:
        """Time each of the next calls, until they are many again."""
        self._begun = self.begun
        self._flags[:] = _ALL
        self._filled = FEW
        self.add = self._recent.append

    def settle(self) -> None:
        """See `Durations.settle`."""
        super().settle()
        self._settle(self._some, EVERY)

    @property
    def begun(self) -> int:
        """How many calls have begun."""
        return self._begun + self._filled - len(self._flags)
