"""A clock for tests: replaces the time of a loop and of the system, and moves on demand.

Time moves only when the loop has nothing else to do, from one timer to the next, so that timers
fire as often and in the same order as in real time. The system's time is replaced by time-machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from socketcluster.errors import InvalidActionError, InvalidArgumentsError

_TOLERANCE = 1e-6
"""Seconds by which a timer may be early: sums of durations have rounding errors."""

_MAX_BUSY_TURNS = 1000
"""Loop turns after which time moves although the loop always has something to do."""


class Clock:
    """The time of a loop and of the system, in a test. Made by `clock`."""

    def __init__(self, loop: Any, traveller: Any, auto: bool) -> None:
        self._loop = loop
        self._traveller = traveller
        self._selector = self._loop._selector
        self._resolution = self._loop._clock_resolution
        self._now: float = loop.time()
        self._moving = int(auto)
        self._busy_turns = 0
        self._idle: asyncio.Future[None] | None = None

    def time(self) -> float:
        """The loop's time in seconds, from an arbitrary origin."""
        return self._now

    async def advance(self, duration: float | timedelta) -> None:
        """Advance the time by seconds or a timedelta.

        Timers that fall due run in order, with everything that follows from them; then the time
        stands still again. Cancelling stops the time where it is.

        Raises:
            InvalidArgumentsError: the duration is negative or no number.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise InvalidArgumentsError(
                f"A clock advances by a number of seconds or a timedelta, not {duration!r}"
            )
        self._moving += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._moving -= 1
        await self.settle()

    async def settle(self) -> None:
        """Wait until the loop has nothing left to do, without moving time."""
        idle = self._idle
        if idle is None:
            idle = self._idle = self._loop.create_future()
        await asyncio.shield(idle)

    def _start(self) -> None:
        self._loop.time = self.time
        self._loop._clock_resolution = _TOLERANCE
        self._selector.select = self._select

    def _stop(self) -> None:
        # The loop's time goes on from here, so that pending timers keep their distance.
        offset = self._now - time.monotonic()
        self._loop.time = lambda: time.monotonic() + offset
        self._loop._clock_resolution = self._resolution
        del self._selector.select

    def _select(self, timeout: float | None = None) -> Any:
        """Replace the selector's `select`, which the loop calls to wait for its next timer.

        `timeout` is 0 when the loop has something to do, None when it has no timer.
        """
        select = type(self._selector).select
        if self._idle is None and not (self._moving and timeout is not None):
            return select(self._selector, timeout)
        ready = select(self._selector, 0)
        self._busy_turns = self._busy_turns + 1 if timeout == 0 and not ready else 0
        if ready or 0 < self._busy_turns < _MAX_BUSY_TURNS:
            return ready
        self._busy_turns = 0
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        elif self._loop._scheduled:
            self._move(max(0.0, self._loop._scheduled[0].when() - self._now))
        return ready

    def _move(self, seconds: float) -> None:
        self._now += seconds
        self._traveller.shift(seconds)


@asynccontextmanager
async def clock(*, auto: bool = False) -> AsyncGenerator[Clock]:
    """A clock for the running loop: `async with clock() as clock: await clock.advance(8)`.

    In the block only `advance` moves `loop.time()`, timers, `time.time()` and `datetime.now()`, but
    not `time.monotonic()`. It is for clients and servers in memory: time would not wait for real
    connections and threads.

    Args:
        auto: move time to the next timer whenever the loop has nothing else to do.

    Raises:
        InvalidActionError: time-machine is not installed, the loop is not one of asyncio's (but
            uvloop's, say), or a clock is in force already.
    """
    try:
        import time_machine
    except ImportError as error:
        raise InvalidActionError(
            "The clock needs time-machine: pip install 'socketcluster[testing]'"
        ) from error
    loop: Any = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop) or not hasattr(loop, "_selector"):
        raise InvalidActionError(
            f"The clock needs an event loop of asyncio's, not {type(loop).__module__}."
            f"{type(loop).__name__}: run this test without uvloop"
        )
    if isinstance(getattr(loop.time, "__self__", None), Clock):
        raise InvalidActionError("A clock is in force in this loop already")
    with time_machine.travel(time.time(), tick=False) as traveller:
        running = Clock(loop, traveller, auto)
        running._start()
        try:
            yield running
        finally:
            running._stop()
