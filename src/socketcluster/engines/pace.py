"""The pace of new connections: so many handshakes in each turn of the event loop, the rest later.

When thousands of clients connect at once, their requests arrive in one turn. Answering all of them
in it would hold back every connected client for seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

LAG_SECONDS = 0.01
"""A turn that takes longer lets fewer handshakes into the next ones."""

Work = Callable[[], bool]
"""Does one handshake's work; returns False if there was nothing to do, because the client left."""


class Pace:
    """Admits work, at most `per_turn` pieces in each loop turn, in the order of arrival.

    `take` admits work at once as long as none waits; otherwise it is handed to `wait`, or `turn` is
    awaited. While work waits, a turn longer than `LAG_SECONDS` halves the number for the next turn,
    down to 1, and each shorter one raises it by 1, up to `per_turn`. Work that waits for something
    else, such as a client or middleware, is not admitted again and holds nothing back.

    Args:
        per_turn: the most in one turn.
        clock: seconds that never go back.

    Attributes:
        limit: the most in one turn now.
    """

    __slots__ = ("_began", "_clock", "_left", "_loop", "_per_turn", "_waiting", "limit")

    def __init__(self, per_turn: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_turn = per_turn
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()

    def _begin(self) -> None:
        self.limit: int = self._per_turn
        self._left = self._per_turn
        self._began: float | None = None
        self._waiting: deque[Work] = deque()

    def restart(self) -> None:
        """Drop the work that waited in an earlier event loop, if there was one."""
        if self._loop is not asyncio.get_running_loop():
            self._begin()

    def take(self) -> bool:
        """Admit one piece of work; False if it has to wait for a later turn."""
        if self._left == 0:
            return False
        self._left -= 1
        if self._left == 0:
            # Only now, so that a few handshakes in each turn do not pay for this.
            self._schedule()
        return True

    def wait(self, work: Work) -> None:
        """Do work in a later turn, after `take` was False."""
        self._waiting.append(work)

    async def turn(self) -> None:
        """Return once one piece of work is admitted."""
        if self.take():
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def admit() -> bool:
            if admitted.done():  # It was cancelled.
                return False
            admitted.set_result(None)
            return True

        self.wait(admit)
        await admitted

    def _turn(self) -> None:
        now = self._clock()
        if self._began is not None:
            if now - self._began > LAG_SECONDS:
                self.limit = max(1, self.limit // 2)
            else:
                self.limit = min(self._per_turn, self.limit + 1)
        left, waiting = self.limit, self._waiting
        while waiting and left:
            left -= _do(waiting.popleft())
        self._began = now if waiting else None
        self._left = left
        if left == 0:
            self._schedule()

    def _schedule(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)


def _do(work: Work) -> bool:
    try:
        return work()
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "A new connection could not be handled", "exception": error}
        )
        return True
