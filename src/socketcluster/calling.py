"""The calls of one socket that await their answers, with one timer on the running loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from socketcluster.protocol.session import Calls


class PendingCalls:
    """Calls made and not yet answered."""

    __slots__ = ("_calls", "_timer")

    def __init__(self) -> None:
        self._calls = Calls()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, cid: int) -> bool:
        return cid in self._calls

    async def call(
        self, event: str, timeout: float | timedelta | None, send: Callable[[int], None]
    ) -> Any:
        """Number a call, have it sent by `send(cid)`, and wait for its answer.

        `timeout` in milliseconds or as a timedelta; None waits for ever. Cancelling gives up the
        waiting; an answer that comes later is ignored.

        Raises:
            TimeoutError: no answer came in time.
            BadConnectionError: the connection was lost meanwhile.
            SocketClusterError: the error that the other side answered with.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()

        def settle(error: BaseException | None, result: Any) -> None:
            if answered.done():
                return
            if error is None:
                answered.set_result(result)
            else:
                answered.set_exception(error)

        cid = self._calls.open(event, loop.time() + _seconds(timeout), settle)
        try:
            send(cid)
            self._arm()
            return await answered
        finally:
            self._calls.forget(cid)

    def answer(self, rid: int | float, error: BaseException | None, data: Any) -> bool:
        """See `Calls.answer`."""
        return self._calls.answer(rid, error, data)

    def abort(self, failure: str, code: int | None, reason: str | None) -> None:
        """See `Calls.abort`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._calls.abort(failure, code, reason)

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
        self._timer = None
        self._calls.expire(asyncio.get_running_loop().time())
        self._arm()


def _seconds(timeout: float | timedelta | None) -> float:
    if timeout is None:
        return math.inf
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout / 1000
