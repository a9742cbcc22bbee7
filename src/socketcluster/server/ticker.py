"""The ticker: one timer for the whole server.

Silence is measured on a clock that stops while the process stalls, as in a blocking handler or a
suspended virtual machine. So messages that arrived during a stall are read before a socket can time
out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LONGEST_PERIOD = 1.0
SHORTEST_PERIOD = 0.01

STALLED_PERIODS = 2
"""A tick more than this many periods after the last one follows a stall."""

_STARTING_TICKS = 2
"""The tick of `start`, and the one after it: a starting program may delay both."""


class Ticker:
    """Calls `on_tick(now)` at regular intervals while it runs.

    Before each tick it calls `on_late(seconds)` with the tick's delay, except in the first period,
    when a program starts.

    Attributes:
        now: seconds on the clock of silence at the last tick; reading it costs no system call, so
            every message may.
        time: the loop's time in seconds at the last tick.
        on_tick: called with `now`.
        period: the seconds between two ticks.
    """

    __slots__ = ("_handle", "_loop", "_on_late", "_ticks", "now", "on_tick", "period", "time")

    time: float
    now: float

    def __init__(
        self,
        durations: list[float],
        on_late: Callable[[float], None] = lambda late: None,
        on_tick: Callable[[float], None] = lambda now: None,
    ) -> None:
        """Make a ticker with 8 ticks in the shortest of `durations`, which are milliseconds."""
        shortest = min((d / 1000 for d in durations if d > 0), default=LONGEST_PERIOD)
        self.period: float = min(LONGEST_PERIOD, max(SHORTEST_PERIOD, shortest / 8))
        self._on_late = on_late
        self.on_tick: Callable[[float], None] = on_tick
        self._ticks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self.now = self.time = time.monotonic()

    def start(self) -> None:
        """Start in the running loop; a running ticker ignores it."""
        if self._handle is None:
            self._loop = asyncio.get_running_loop()
            self.time = self._loop.time()
            self._ticks = 0
            self._run()

    def stop(self) -> None:
        """Stop; `start` starts it again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        assert self._loop is not None
        elapsed = self._loop.time() - self.time
        self.time += elapsed
        if elapsed <= STALLED_PERIODS * self.period:
            self.now += elapsed
        self._handle = self._loop.call_later(self.period, self._run)
        self._ticks += 1
        if self._ticks > _STARTING_TICKS:
            self._on_late(elapsed - self.period)
        self.on_tick(self.now)
