"""What a middleware function has still to decide for a socket, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from socketcluster.runtime.cancelling import close

Pending = Coroutine[Any, Any, None]
Proceed = Callable[[BaseException | None, Any], Pending | None]
"""(why the action was blocked, its data) → what is left to await."""


class Decision:
    """A decision to come. Whoever waits for it either awaits it or calls `when_made`."""

    __slots__ = ("_fault", "_made", "_proceed", "_rest", "_then", "_waiter")

    def __init__(self, proceed: Proceed, fault: Callable[[BaseException], None]) -> None:
        self._proceed = proceed
        self._fault = fault
        self._made = False
        self._rest: Pending | None = None
        self._then: Callable[[Pending | None], None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def made(self, error: BaseException | None, data: Any) -> None:
        """It was made: go on. Called inside of `allow` or `block`, so nothing is raised."""
        try:
            self._rest = self._proceed(error, data)
        except Exception as fault:
            self._fault(fault)
        self._made = True
        if self._then is not None:
            self._then(self._rest)
        elif self._waiter is not None:
            if self._waiter.done():  # It was cancelled.
                self.close()
            else:
                self._waiter.set_result(None)

    def when_made(self, then: Callable[[Pending | None], None]) -> None:
        """Have `then(what is left to await)` called; at once if it was made already."""
        self._then = then
        if self._made:
            then(self._rest)

    def close(self) -> None:
        """Nobody waits for it any more."""
        self.when_made(close)

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
