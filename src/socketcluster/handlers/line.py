"""Lines: the messages of one socket that wait for an async handler, and its tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Coroutine
from functools import partial
from typing import Any, Protocol

from socketcluster.runtime.cancelling import cancel

_YIELD_EVERY = 32
"""How many messages a task carries out before the event loop turns."""


class Backpressure(Protocol):
    """The gauge of waiting messages: `streams.Gauge`."""

    limit: int

    def grow(self, size: int) -> None: ...
    def shrink(self, size: int) -> None: ...
    def filled(self) -> None: ...
    def drained(self) -> None: ...


class Line:
    """The messages of one socket for one handler.

    A task exists while there is a message, and carries out those that wait behind it too: a new one
    for each would take twice as long.

    Args:
        carry_out: handles one message; it must not raise.
        at_once: how many tasks there may be.
        newest_only: whether a message replaces the one that waits.
        gauge: receives the number and the size of the waiting messages.
        tasks: holds the running tasks of all lines.

    Attributes:
        name: of the handler.
        on_idle: called when the last task ends, if set.
    """

    __slots__ = (
        "_at_once",
        "_carry_out",
        "_create_task",
        "_full",
        "_gauge",
        "_newest_only",
        "_own",
        "_tasks",
        "_waiting",
        "name",
        "on_idle",
    )

    def __init__(
        self,
        carry_out: Callable[[Any], Coroutine[Any, Any, None]],
        at_once: int,
        newest_only: bool,
        gauge: Backpressure,
        tasks: dict[asyncio.Task[None], Line],
    ) -> None:
        # Without the loop's task factory: an eager one would begin a task before it is on record,
        # and the loop's `create_task` takes 3 % of an async call. The loop is kept, because in 3.11
        # a look at the running one takes a system call.
        self._create_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = partial(
            asyncio.Task, loop=asyncio.get_running_loop()
        )
        self._carry_out = carry_out
        self._at_once = at_once
        self._newest_only = newest_only
        self._gauge = gauge
        self._tasks = tasks
        self._waiting: deque[tuple[Any, int]] | None = None
        self._full = False
        self._own: list[asyncio.Task[None]] = []
        self.name: str = ""
        self.on_idle: Callable[[], None] | None = None

    @property
    def running(self) -> int:
        """How many tasks there are."""
        return len(self._own)

    def busy(self, spared: Container[asyncio.Task[Any]]) -> bool:
        """Return whether a task runs, except those `spared`."""
        return any(task not in spared for task in self._own)

    @property
    def waiting(self) -> int:
        """How many messages wait behind those that are carried out."""
        return 0 if self._waiting is None else len(self._waiting)

    def use(self, carry_out: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Handle the messages that wait, and later ones, with another function."""
        self._carry_out = carry_out

    def put(self, message: Any, size: int = 0) -> None:
        """Handle a message when it is its turn; `size` is in bytes if it has to be counted."""
        if len(self._own) < self._at_once:
            self._start(message)
            return
        if self._waiting is None:
            self._waiting = deque()
        elif self._newest_only:
            self.drop_waiting()
        self._waiting.append((message, size))
        if size:
            self._gauge.grow(size)
        if len(self._waiting) > self._gauge.limit and not self._full:
            self._full = True
            self._gauge.filled()

    def _start(self, message: Any) -> None:
        own: list[asyncio.Task[None]] = []
        task = self._create_task(self._work(message, own))
        own.append(task)
        self._own.append(task)
        self._tasks[task] = self

    async def _work(self, message: Any, own: list[asyncio.Task[None]]) -> None:
        """Carry out messages while there are any; `own` has this task, for the same reason."""
        count = 0
        cancelled = False
        try:
            while True:
                await self._carry_out(message)
                if not self._waiting:
                    return
                message = self._take(self._waiting)
                count += 1
                if count % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            if cancelled and self._waiting:  # A handler has cancelled its own task.
                self._start(self._take(self._waiting))
            self._ended(own[0])

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._tasks.pop(task, None) is not None:
            self._own.remove(task)
            if self.on_idle is not None and not self._own:
                self.on_idle()

    def _take(self, waiting: deque[tuple[Any, int]]) -> Any:
        message, size = waiting.popleft()
        if size:
            self._gauge.shrink(size)
        if self._full and len(waiting) <= self._gauge.limit // 2:
            self._full = False
            self._gauge.drained()
        return message

    @property
    def backpressure(self) -> int:
        """How many messages wait."""
        return len(self._waiting) if self._waiting else 0

    def drop_waiting(self) -> None:
        """Drop the messages that wait."""
        while self._waiting:
            self._take(self._waiting)

    def cancel(self, spared: Container[asyncio.Task[Any]] = ()) -> None:
        """Cancel the tasks except `spared`, and drop the messages that wait."""
        self.drop_waiting()
        for task in self._own:
            if task not in spared:
                cancel(task)
                task.add_done_callback(self._ended)  # One that has not begun does not see it.
