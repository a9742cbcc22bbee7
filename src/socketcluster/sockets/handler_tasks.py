"""The tasks of handlers: of messages, of events, and of clean-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Coroutine
from typing import Any

from socketcluster.handlers.line import Line
from socketcluster.runtime.cancelling import cancel
from socketcluster.runtime.ending import Ending


class HandlerTasks:
    """The tasks of the handlers of one server or client.

    Attributes:
        messages: those that carry out messages, with the line of each.
    """

    __slots__ = ("_clean_ups", "_earlier_events", "_events", "messages")

    def __init__(self) -> None:
        self.messages: dict[asyncio.Task[None], Line] = {}
        self._events: set[asyncio.Task[None]] = set()
        self._earlier_events: set[asyncio.Task[None]] = set()
        self._clean_ups: dict[asyncio.Task[None], Callable[[], None]] = {}

    def open(self) -> None:
        """Begin, maybe in another loop than before."""
        loop = asyncio.get_running_loop()
        for task in [task for task in self.running(()) if task.get_loop() is not loop]:
            self.messages.pop(task, None)
            self._ended(task)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Handle an event in a task.

        Raises:
            RuntimeError: no loop is running.
        """
        task = self._start(coroutine)
        self._events.add(task)
        return task

    def start_clean_up(
        self, coroutine: Coroutine[Any, Any, None], hurry: Callable[[], None]
    ) -> None:
        """Clean up in a task, which is cancelled only if a close does not end in time.

        `hurry` is called when all has to end.
        """
        self._clean_ups[self._start(coroutine)] = hurry

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        try:
            task = asyncio.get_running_loop().create_task(coroutine)
        except RuntimeError:
            coroutine.close()
            raise
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._events.discard(task)
        self._earlier_events.discard(task)
        self._clean_ups.pop(task, None)

    def running(self, spared: Container[asyncio.Task[Any]]) -> list[asyncio.Task[None]]:
        """All tasks except `spared`."""
        tasks = (*self.messages, *self._events, *self._earlier_events, *self._clean_ups)
        return [task for task in tasks if task not in spared]

    def begin_closing(self) -> None:
        """Let the handlers of events that come from now on end in their own time."""
        self._earlier_events |= self._events
        self._events.clear()

    async def close(
        self, spared: Container[asyncio.Task[Any]], seconds: float, ending: Ending
    ) -> None:
        """Cancel all except `spared`, and wait for them until the ending's deadline.

        The handlers of events since `begin_closing` have `seconds` before, within the deadline, and
        clean-ups have the whole time.
        """
        for line in set(self.messages.values()):
            line.cancel(spared)
        await self._end((*self.messages, *self._earlier_events), spared, ending)
        last = [task for task in self._events if task not in spared]
        if last:
            await asyncio.wait(last, timeout=min(seconds, ending.left))
            await self._end(last, spared, ending)
        for hurry in self._clean_ups.values():
            hurry()
        clean_ups = [task for task in self._clean_ups if task not in spared]
        await ending.wait(clean_ups, "the clean-up of a provider")
        for task in ending.abandoned:
            self.messages.pop(task, None)
            self._ended(task)

    async def _end(
        self,
        tasks: Collection[asyncio.Task[Any]],
        spared: Container[asyncio.Task[Any]],
        ending: Ending,
    ) -> None:
        tasks = [task for task in tasks if task not in spared]
        for task in tasks:
            if not task.cancelling():
                cancel(task)
        await ending.wait(tasks, "a handler")
