"""A clock that moves when it is told to, for all that waits for time.

The loop's time is this clock's while it is in force, and so is the system's by time-machine. Time
moves only when the loop has nothing else to do, from one timer to the next, so that everything
happens as often and in the same order as it would in real time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from socketcluster.errors import InvalidActionError, InvalidArgumentsError

_TOLERANCE = 1e-6
"""Seconds by which sums of durations may miss each other."""

_SPINNING_TURNS = 1000
"""Turns of a loop that always has something to do after which time moves all the same."""


class Clock:
    """The time of a loop and of the system. `clock` makes one."""

    def __init__(self, loop: Any, traveller: Any, auto: bool) -> None:
        self._loop = loop
        self._traveller = traveller
        self._selector = self._loop._selector
        self._resolution = self._loop._clock_resolution
        self._now: float = loop.time()
        self._moving = int(auto)
        self._turns = 0
        self._idle: asyncio.Future[None] | None = None

    def time(self) -> float:
        """Seconds, of no particular origin: the loop's time."""
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
        """Wait, without time going by, until everything that can happen now has happened."""
        if self._idle is None:
            self._idle = self._loop.create_future()
        await asyncio.shield(self._idle)

    def _start(self) -> None:
        self._loop.time = self.time
        self._loop._clock_resolution = _TOLERANCE
        self._selector.select = self._select

    def _stop(self) -> None:
        # Timers that are armed keep their distance: the loop's time goes on from here.
        offset = self._now - time.monotonic()
        self._loop.time = lambda: time.monotonic() + offset
        self._loop._clock_resolution = self._resolution
        del self._selector.select

    def _select(self, timeout: float | None = None) -> Any:
        """The loop waits for input until its next timer is due; 0 when it has things to do."""
        select = type(self._selector).select
        if self._idle is None and not (self._moving and timeout is not None):
            return select(self._selector, timeout)
        ready = select(self._selector, 0)
        self._turns = self._turns + 1 if timeout == 0 and not ready else 0
        if ready or 0 < self._turns < _SPINNING_TURNS:
            return ready
        self._turns = 0
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
async def clock(*, auto: bool = False) -> AsyncIterator[Clock]:
    """A clock for the running loop: `async with clock() as clock: await clock.advance(8)`.

    In the block time stands still but for `advance`: `loop.time()`, timers, `time.time()` and
    `datetime.now()`, though not `time.monotonic()`. With `auto`, time moves on to the next timer by
    itself whenever the loop has nothing else to do. It is for clients and servers in memory: with
    real connections and threads, time would not wait for what is under way.

    Raises:
        InvalidActionError: time-machine is not installed, the loop is none of asyncio's (uvloop),
            or a clock is in force already.
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
        made = Clock(loop, traveller, auto)
        made._start()
        try:
            yield made
        finally:
            made._stop()
