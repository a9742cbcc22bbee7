"""Ending: a close that ends in bounded time, and logs what did not end.

A task may ignore its cancellation for ever. Then it is named in a warning and left alone.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.reporting import Reporter

LEAST_SECONDS = 0.1
"""The time for each step that begins after the deadline, and for a cancellation to take effect."""

MAX_NAMED = 10
"""How many tasks of one step a warning names."""

UNKNOWN = "unknown"
"""The place of a task of the event loop's own."""


class Ending:
    """The time that a close has.

    Attributes:
        deadline: the loop's time at which it is over.
        abandoned: the tasks that did not end.
    """

    __slots__ = ("_reporter", "abandoned", "deadline")

    def __init__(self, deadline: float, reporter: Reporter) -> None:
        self.deadline: float = deadline
        self._reporter = reporter
        self.abandoned: set[asyncio.Task[Any]] = set()

    @property
    def left(self) -> float:
        """The seconds left for a step."""
        return max(self.deadline - asyncio.get_running_loop().time(), LEAST_SECONDS)

    async def wait(self, tasks: Iterable[asyncio.Task[Any]], what: str) -> None:
        """Wait for tasks until the deadline; then name those that run, cancel and leave them.

        `what` names the kind of task, as in "a handler".
        """
        running = set(tasks)
        if running:
            _, running = await asyncio.wait(running, timeout=self.left)
        if running:
            self._warn(f"{what} has not ended: {places_of(running)}")
            for task in running:
                cancel(task)
            _, running = await asyncio.wait(running, timeout=LEAST_SECONDS)
            self.abandoned |= running

    async def run(self, function: Callable[[], Awaitable[None]], what: str) -> None:
        """Call and await a function until the deadline; `what` names it in the warning.

        Raises:
            Exception: of the function.
        """
        task = asyncio.ensure_future(_awaited(function))
        try:
            await self.wait([task], what)
        except asyncio.CancelledError:
            cancel(task)
            raise
        if task.done() and not task.cancelled():
            task.result()

    @asynccontextmanager
    async def limit(self, what: str) -> AsyncGenerator[None]:
        """Cancel the body at the deadline, and log that; for a body that needs its own task."""
        timeout = asyncio.timeout(self.left)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            self._warn(f"{what} has not ended")

    def _warn(self, text: str) -> None:
        self._reporter.line(
            f"The server closes, although {text}", logging.WARNING, ("ending", text)
        )


async def _awaited(function: Callable[[], Awaitable[None]]) -> None:
    await function()


def places_of(tasks: set[asyncio.Task[Any]]) -> str:
    """Return where tasks wait, `MAX_NAMED` places at most."""
    places = sorted({waiting_place(task) for task in tasks})
    more = f" and {len(places) - MAX_NAMED} more places" if len(places) > MAX_NAMED else ""
    return ", ".join(places[:MAX_NAMED]) + more


def waiting_place(task: asyncio.Task[Any]) -> str:
    """Return where a task waits, as "function (file:line)": the first place of the application.

    Without one it is the innermost place.
    """
    package = __name__.partition(".")[0]
    place = UNKNOWN
    for frame in _frames(task.get_coro()):
        name, code = frame.f_globals.get("__name__", ""), frame.f_code
        place = f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
        if name.partition(".")[0] not in (package, "asyncio", "contextlib"):
            break
    return place


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of all that it awaits, from the outermost on."""
    while awaited is not None:
        if inspect.iscoroutine(awaited):
            frame, inner = awaited.cr_frame, awaited.cr_await
        elif inspect.isasyncgen(awaited):
            frame, inner = awaited.ag_frame, awaited.ag_await
        elif inspect.isgenerator(awaited):
            frame, inner = awaited.gi_frame, awaited.gi_yieldfrom
        else:
            # The step of an async generator does not show the generator otherwise.
            held = gc.get_referents(awaited)
            awaited = next((each for each in held if inspect.isasyncgen(each)), None)
            continue
        if frame is not None:
            yield frame
        awaited = inner
