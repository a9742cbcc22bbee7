"""Decisions: the verdict of a middleware function on an action, and the work that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from socketcluster.runtime.cancelling import close

Pending = Coroutine[Any, Any, None]
"""Work that is not awaited yet."""

OnVerdict = Callable[[BaseException | None, Any], Pending | None]
"""Called with (reason, None) for a blocked action and (None, data) for an allowed one; returns the
unfinished work, to be awaited."""


class Decision:
    """A future verdict. Its owner either awaits it or calls `on_made`.

    `on_verdict` runs inside the function's `allow` or `block`, so `on_fault` receives its errors.
    """

    __slots__ = ("_callback", "_made", "_on_fault", "_on_verdict", "_pending", "_waiter")

    def __init__(self, on_verdict: OnVerdict, on_fault: Callable[[BaseException], None]) -> None:
        self._on_verdict = on_verdict
        self._on_fault = on_fault
        self._made = False
        self._pending: Pending | None = None
        self._callback: Callable[[Pending | None], None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def make(self, error: BaseException | None, data: Any) -> None:
        """Carry out the verdict: `error` is the reason if the action is blocked, else None."""
        try:
            self._pending = self._on_verdict(error, data)
        except Exception as fault:
            self._on_fault(fault)
        self._made = True
        if self._callback is not None:
            self._callback(self._pending)
        elif self._waiter is not None:
            if self._waiter.done():  # It was cancelled.
                self.close()
            else:
                self._waiter.set_result(None)

    def on_made(self, callback: Callable[[Pending | None], None]) -> None:
        """Call `callback(unfinished work)` once the decision is made, or at once if it is."""
        self._callback = callback
        if self._made:
            callback(self._pending)

    def close(self) -> None:
        """Stop waiting, and close the unfinished work unawaited."""
        self.on_made(close)

    def __await__(self) -> Generator[Any, None, None]:
        if not self._made:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                yield from self._waiter
            except BaseException:
                self.close()
                raise
        if self._pending is not None:
            yield from self._pending.__await__()
