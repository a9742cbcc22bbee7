"""The calls of one socket that await an answer, with one timer on the running loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Container
from datetime import timedelta
from functools import partial
from typing import Any

from socketcluster.options import seconds
from socketcluster.protocol.calls import Calls, OnAnswer
from socketcluster.runtime.futures import complete

Send = Callable[[int], None]


class PendingCalls:
    """Calls that await their answers."""

    __slots__ = ("_calls", "_timer")

    def __init__(self) -> None:
        self._calls = Calls()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, cid: int | float) -> bool:
        return cid in self._calls

    def open(
        self, event: str, timeout: float | timedelta | None, on_answer: OnAnswer, send: Send
    ) -> int:
        """Number a call, and send it with `send(cid)`; `on_answer(error, result)` is called once.

        `timeout` in milliseconds or as a timedelta; None waits forever. If `send` raises, the
        call is dropped and the error raised.
        """
        now = asyncio.get_running_loop().time()
        within = math.inf if timeout is None else seconds(timeout)
        cid = self._calls.open(event, now + within, on_answer)
        try:
            send(cid)
        except BaseException:
            self._calls.forget(cid)
            raise
        self._arm()
        return cid

    async def call(self, event: str, timeout: float | timedelta | None, send: Send) -> Any:
        """Make a call, and wait for its answer.

        Canceling call() stops waiting; a later answer is ignored.

        Raises:
            TimeoutError: no answer arrived in time.
            BadConnectionError: the connection was lost meanwhile.
            SocketClusterError: the error that the peer answered with.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        cid = self.open(event, timeout, partial(complete, answer), send)
        try:
            return await answer
        finally:
            self._calls.forget(cid)

    def forget(self, cid: int) -> None:
        """See `Calls.forget`."""
        self._calls.forget(cid)

    def answer(self, rid: int | float, error: BaseException | None, data: Any) -> bool:
        """See `Calls.answer`."""
        return self._calls.answer(rid, error, data)

    def abort(
        self,
        failure: str,
        code: int | None,
        reason: str | None,
        spare: Container[int | float] = (),
    ) -> None:
        """See `Calls.abort`."""
        self._calls.abort(failure, code, reason, spare)
        self._arm()

    def _arm(self) -> None:
        deadline = self._calls.next_deadline()
        if self._timer is not None:
            if deadline is not None and self._timer.when() <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None and deadline != math.inf:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        # The answer may have arrived while the process was suspended.
        after_reading(self._expire_now)

    def _expire_now(self) -> None:
        self._timer = None
        self._calls.expire(asyncio.get_running_loop().time())
        self._arm()


async def has_read() -> None:
    """Return after the loop has polled its sockets once more."""
    polled = asyncio.get_running_loop().create_future()
    after_reading(partial(complete, polled, None, None))
    await polled


def after_reading(callback: Callable[[], object]) -> None:
    """Call `callback()` after the loop has polled its sockets once more.

    When a timer fires late, the awaited message may have arrived and not been read yet.
    """
    loop = asyncio.get_running_loop()
    # uvloop runs timers, then the callbacks of call_soon, and polls only after both.
    loop.call_soon(loop.call_soon, callback)
