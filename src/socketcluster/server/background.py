"""The background functions and spawned coroutines of a server."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Container
from typing import Any

from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.ending import Ending

BackgroundFunction = Callable[[], Awaitable[Any]]


class Background:
    """Runs coroutines in tasks of their own, from the server's start to its close."""

    __slots__ = ("_begun", "_functions", "_loop", "_report_fault", "_tasks")

    def __init__(self, report_fault: Callable[[BaseException], None]) -> None:
        self._report_fault = report_fault
        self._functions: list[BackgroundFunction] = []
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, function: BackgroundFunction) -> None:
        """Run a function at every start."""
        self._functions.append(function)

    def start(self) -> None:
        """Run all functions that do not run since an earlier start.

        A server that stopped accepting, and starts again, has not closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._begun = loop, 0
        begun, self._begun = self._begun, len(self._functions)
        for function in self._functions[begun:]:
            self.spawn(function())

    def spawn(self, coroutine: Awaitable[Any]) -> asyncio.Task[None]:
        """See `AGServer.spawn`."""
        task = asyncio.ensure_future(self._supervise(coroutine))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if inspect.iscoroutine(coroutine):
                coroutine.close()  # A task cancelled before it began leaves it open.

        task.add_done_callback(done)
        return task

    async def _supervise(self, coroutine: Awaitable[Any]) -> None:
        try:
            await coroutine
        except Exception as error:
            self._report_fault(error)
            # A listener may keep the error: its frames must not keep an unanswered request alive.
            traceback.clear_frames(error.__traceback__)

    async def close(self, spared: Container[asyncio.Task[Any]], ending: Ending) -> None:
        """Cancel all except `spared`, and wait for them."""
        self._loop = None
        tasks = [task for task in self._tasks if task not in spared]
        for task in tasks:
            if not task.cancelling():
                cancel(task)
        await ending.wait(tasks, "a background function or spawned coroutine")
        self._tasks -= ending.abandoned
