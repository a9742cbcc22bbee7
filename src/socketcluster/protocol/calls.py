"""Open calls of one side: numbers, deadlines, answers and aborts.

No I/O and no clock: the owner passes `now`, in seconds of a clock of its own.

Source: SocketCluster protocol 2, "RPC" (`cid`, `rid`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container
from typing import Any

from socketcluster.errors import BadConnectionError, TimeoutError

OnAnswer = Callable[[BaseException | None, Any], None]
"""Called exactly once, with (error, None) or (None, result)."""


class Calls:
    """Calls that await their answers, by number."""

    __slots__ = ("_deadlines", "_next_id", "_pending")

    def __init__(self) -> None:
        self._next_id = 1
        self._pending: dict[int | float, tuple[str, OnAnswer]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, cid: int | float) -> bool:
        return cid in self._pending

    def open(self, event: str, deadline: float, on_answer: OnAnswer) -> int:
        """Number a call. `on_answer` gets its answer, or the error of its deadline or abort."""
        cid = self._next_id
        self._next_id += 1
        self._pending[cid] = (event, on_answer)
        if len(self._deadlines) > 64 + 2 * len(self._pending):
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._pending]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (deadline, cid))
        return cid

    def forget(self, cid: int) -> None:
        """Drop a call whose caller has stopped waiting. A later answer is ignored."""
        self._pending.pop(cid, None)

    def answer(self, rid: int | float, error: BaseException | None, data: Any) -> bool:
        """Answer the call `rid`.

        Return False if no such call is open: it timed out, or the peer invented the number.
        """
        call = self._pending.pop(rid, None)
        if call is None:
            return False
        call[1](error, data)
        return True

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of an open call; None without one."""
        while self._deadlines and self._deadlines[0][1] not in self._pending:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> None:
        """Fail the calls whose deadline has passed with `TimeoutError`."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, cid = heapq.heappop(self._deadlines)
            event, on_answer = self._pending.pop(cid)
            on_answer(TimeoutError(f"Event response for {event} event timed out"), None)

    def abort(
        self,
        failure: str,
        code: int | None,
        reason: str | None,
        spare: Container[int | float] = (),
    ) -> None:
        """Fail all calls except those in `spare` with `BadConnectionError`.

        `failure` is its type: 'disconnect' or 'connectAbort'.
        """
        aborted = [cid for cid in self._pending if cid not in spare]
        for event, on_answer in [self._pending.pop(cid) for cid in aborted]:
            message = f"Event {event} was aborted due to a bad connection"
            on_answer(BadConnectionError(message, failure, code, reason), None)
