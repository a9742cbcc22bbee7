"""The supervisor's watchdog: ends workers that hang.

A worker hangs if its event loop sends no beat for a time, or if it does not end in time once it
was asked to. It gets SIGABRT, on which faulthandler writes the traceback of all its threads, and
after two seconds SIGKILL.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable
from typing import Protocol

KILL_SECONDS = 2.0
"""How long a worker may write its traceback."""

SLOW_START_SECONDS = 60.0
"""How long a worker may start before the log says so; a rolling restart waits for it."""

MAX_BEAT_SECONDS = 1.0
BEATS_PER_LIMIT = 5

logger: logging.Logger = logging.getLogger("socketcluster.workers")


def beat_seconds(limit: float) -> float:
    """Return the time between two beats of a worker that may be silent for `limit` seconds."""
    return min(MAX_BEAT_SECONDS, limit / BEATS_PER_LIMIT)


class Watch:
    """How long one worker has been starting, silent, stopping and aborted, in seconds.

    None means that the time does not count: it is silent only once it was ready.
    """

    def __init__(self) -> None:
        self.starting: float | None = 0.0
        self.silent: float | None = None
        self.stopping: float | None = None
        self.aborted: float | None = None
        self.stop_seconds: float = 15.0

    def add(self, seconds: float) -> None:
        """Let time pass."""
        for name in ("starting", "silent", "stopping", "aborted"):
            passed = getattr(self, name)
            if passed is not None:
                setattr(self, name, passed + seconds)

    def problem(self, limit: float) -> str | None:
        """Return why this worker hangs; None if it does not, or was aborted already."""
        if self.aborted is not None:
            return None
        if self.stopping is not None and self.stopping > self.stop_seconds:
            return f"has not ended within {self.stop_seconds:g} s"
        if limit and self.silent is not None and self.silent > limit:
            return f"hangs: its event loop has been blocked for {limit:g} s"
        return None


class Watched(Protocol):
    """A worker process, as the watchdog knows it."""

    @property
    def watch(self) -> Watch:
        """Its times."""
        ...

    def describe(self) -> str:
        """Return its name for the log."""
        ...

    def send_signal(self, number: int) -> None:
        """Send it a signal."""


class Watchdog:
    """Looks at all worker processes at regular times.

    Args:
        limit: how many seconds an event loop may be silent; 0 for any time.
        processes: returns the processes to look at.
    """

    def __init__(self, limit: float, processes: Callable[[], Iterable[Watched]]) -> None:
        self._limit = limit
        self._processes = processes

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        interval = beat_seconds(self._limit) if self._limit else MAX_BEAT_SECONDS
        looked_at = loop.time()
        while True:
            await asyncio.sleep(interval)
            now = loop.time()
            # While the supervisor itself stands still it reads no beats, so that time counts not.
            passed, looked_at = min(now - looked_at, 2 * interval), now
            for process in list(self._processes()):
                self._look(process, passed)

    def _look(self, process: Watched, passed: float) -> None:
        watch = process.watch
        watch.add(passed)
        if watch.aborted is not None and watch.aborted >= KILL_SECONDS:
            process.send_signal(signal.SIGKILL)
            return
        if watch.starting is not None and watch.starting > SLOW_START_SECONDS:
            watch.starting = None
            logger.warning("%s is not ready after %g s", process.describe(), SLOW_START_SECONDS)
        problem = watch.problem(self._limit)
        if problem is not None:
            logger.error("%s %s; its threads:", process.describe(), problem)
            watch.aborted = 0.0
            process.send_signal(signal.SIGABRT)
