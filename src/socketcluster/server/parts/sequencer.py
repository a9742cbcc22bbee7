"""Carries out the messages of a socket one by one, where one may have to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from socketcluster.runtime.cancelling import cancel
from socketcluster.server.parts.decision import Decision, Pending
from socketcluster.server.parts.turnstile import Turnstile

Left = Pending | Decision | None
"""What is left of a message to await."""


class Sequencer(Turnstile[bytes]):
    """A turnstile of messages: `begin(message)` carries one out, and returns what is left of it.
    `fault` is told what that raises."""

    __slots__ = ("_fault", "_task")

    def __init__(
        self,
        begin: Callable[[bytes], Left],
        on_empty: Callable[[], None],
        fault: Callable[[BaseException], None],
    ) -> None:
        super().__init__(begin, on_empty)
        self._fault = fault
        self._task: asyncio.Task[None] | None = None

    def _begin(self, item: bytes) -> None:
        self.follow(self._let_through(item))

    def follow(self, left: Left) -> None:
        """What is left of the message on its way through."""
        if left is None:
            self.next()
        elif isinstance(left, Decision):
            left.when_made(self.follow)
        else:
            self._task = asyncio.ensure_future(self._run(left))

    async def _run(self, pending: Pending) -> None:
        try:
            await pending
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fault(error)
        self._task = None
        self.next()

    def clear(self) -> None:
        """Drop what waits, and give up what is on its way unless that is what calls this."""
        super().clear()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            cancel(task)
