"""Decisions: the verdict of a middleware function on an action, and the work that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from socketcluster.runtime.cancelling import close

Pending = Coroutine[Any, Any, None]
"""Work that is still to be awaited."""

OnVerdict = Callable[[BaseException | None, Any], Pending | None]
"""Called with (reason, None) for a blocked action and (None, data) for an allowed one; returns the
work that is left to await."""


class Decision:
    """A verdict to come. Its owner either awaits it or calls `on_made`.

    `on_verdict` runs inside of the function's `allow` or `block`, so what it raises goes to
    `on_fault`.
    """

    __slots__ = ("_callback", "_made", "_on_fault", "_on_verdict", "_rest", "_waiter")

    def __init__(self, on_verdict: OnVerdict, on_fault: Callable[[BaseException], None]) -> None:
        self._on_verdict = on_verdict
        self._on_fault = on_fault
        self._made = False
        self._rest: Pending | None = None
        self._callback: Callable[[Pending | None], None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def make(self, error: BaseException | None, data: Any) -> None:
        """Carry out the verdict: `error` says why the action was blocked, None that it was not."""
        try:
            self._rest = self._on_verdict(error, data)
        except Exception as fault:
            self._on_fault(fault)
        self._made = True
        if self._callback is not None:
            self._callback(self._rest)
        elif self._waiter is not None:
            if self._waiter.done():  # It was cancelled.
                self.close()
            else:
                self._waiter.set_result(None)

    def on_made(self, callback: Callable[[Pending | None], None]) -> None:
        """Have `callback(work left to await)` called once; at once if the decision is made."""
        self._callback = callback
        if self._made:
            callback(self._rest)

    def close(self) -> None:
        """Give up waiting: the work that is left is closed unawaited."""
        self.on_made(close)

    def __await__(self) -> Generator[Any, None, None]:
        if not self._made:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                yield from self._waiter
            except BaseException:
                self.close()
                raise
        if self._rest is not None:
            yield from self._rest.__await__()
