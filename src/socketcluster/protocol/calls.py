"""The calls of one side that await an answer: numbers, deadlines, answers, abortion.

No I/O and no clock: `now` is given, in seconds, by whoever owns a clock.

Source: SocketCluster protocol 2, "RPC" (`cid`, `rid`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container
from typing import Any

from socketcluster.errors import BadConnectionError, TimeoutError

Settle = Callable[[BaseException | None, Any], None]
"""Called once with (error, None) or (None, result)."""


class Calls:
    """Calls waiting for their answers."""

    __slots__ = ("_deadlines", "_next_id", "_pending")

    def __init__(self) -> None:
        self._next_id = 1
        self._pending: dict[int | float, tuple[str, Settle]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, cid: int | float) -> bool:
        return cid in self._pending

    def open(self, event: str, deadline: float, settle: Settle) -> int:
        """Number a call; `settle` hears of its answer, its deadline or its abortion."""
        cid = self._next_id
        self._next_id += 1
        self._pending[cid] = (event, settle)
        if len(self._deadlines) > 64 + 2 * len(self._pending):
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._pending]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (deadline, cid))
        return cid

    def forget(self, cid: int) -> None:
        """The caller no longer waits. An answer that comes later is ignored."""
        self._pending.pop(cid, None)

    def answer(self, rid: int | float, error: BaseException | None, data: Any) -> bool:
        """Settle the call `rid`; False if there is none (it timed out, or the peer made it up)."""
        pending = self._pending.pop(rid, None)
        if pending is None:
            return False
        pending[1](error, data)
        return True

    def next_deadline(self) -> float | None:
        """The earliest deadline of a call still waiting."""
        while self._deadlines and self._deadlines[0][1] not in self._pending:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> None:
        """Settle the calls whose deadline is past with `TimeoutError`."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, cid = heapq.heappop(self._deadlines)
            event, settle = self._pending.pop(cid)
            settle(TimeoutError(f"Event response for {event} event timed out"), None)

    def abort(
        self,
        failure: str,
        code: int | None,
        reason: str | None,
        spare: Container[int | float] = (),
    ) -> None:
        """Settle all calls, but those in `spare`, with `BadConnectionError` of type 'disconnect'
        or 'connectAbort'."""
        aborted = [cid for cid in self._pending if cid not in spare]
        for event, settle in [self._pending.pop(cid) for cid in aborted]:
            message = f"Event {event} was aborted due to a bad connection"
            settle(BadConnectionError(message, failure, code, reason), None)
