"""PositionLog: where a channel was when the process had delivered so many stored publishes."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict

from socketcluster.brokers.storing import Position

CHUNK = 64
"""Logs are cut, and their bound is looked at, once in so many entries."""

MAX_CHUNKS = 65_536
"""The chunks of all logs of a process: 64 MiB. Past it those that grew least recently keep one."""


class PositionLogs:
    """Bounds the logs of one process."""

    __slots__ = ("_chunks", "_logs")

    def __init__(self) -> None:
        self._logs: OrderedDict[PositionLog, int] = OrderedDict()
        self._chunks = 0

    @property
    def count(self) -> int:
        """How many logs have more than a chunk."""
        return len(self._logs)

    def grew(self, log: PositionLog) -> None:
        """Note that a log has another chunk; shorten others if all have too many."""
        self.forget(log)
        self._logs[log] = chunks = len(log) // CHUNK
        self._chunks += chunks
        while self._chunks > MAX_CHUNKS and len(self._logs) > 1:
            oldest = next(iter(self._logs))
            self.forget(oldest)
            oldest.shorten()

    def forget(self, log: PositionLog) -> None:
        """Count a log no more."""
        self._chunks -= self._logs.pop(log, 0)


class PositionLog:
    """The newest offsets of a channel within one epoch, each with the process's count.

    An entry takes 16 bytes. At most twice `limit` entries and a chunk are kept; at least `limit`,
    unless the logs of all channels are too many.

    Attributes:
        began: the first position of the present epoch in this process; None before any.
    """

    __slots__ = ("_counts", "_limit", "_logs", "_offsets", "began")

    def __init__(self, limit: int, logs: PositionLogs) -> None:
        self._limit = limit
        self._logs = logs
        self.began: Position | None = None
        self._counts = array("Q")
        self._offsets = array("Q")

    def __len__(self) -> int:
        return len(self._counts)

    def restart(self, count: int, position: Position) -> bool:
        """Forget the offsets, because the channel moved; return whether its epoch is another."""
        self._logs.forget(self)
        self._counts = array("Q", (count,))
        self._offsets = array("Q", (position.offset,))
        if self.began is not None and self.began.epoch == position.epoch:
            return False
        self.began = position
        return True

    def forget(self) -> None:
        """Forget all, because the channel is followed no more."""
        self._logs.forget(self)
        self._counts = array("Q")
        self._offsets = array("Q")
        self.began = None

    def add(self, count: int, offset: int) -> None:
        """Note a delivery."""
        self._counts.append(count)
        self._offsets.append(offset)
        if not len(self._counts) % CHUNK:
            if len(self._counts) > 2 * self._limit:
                self._keep(self._limit)
            self._logs.grew(self)

    def shorten(self) -> None:
        """Keep the newest entries."""
        self._keep(CHUNK)

    def _keep(self, count: int) -> None:
        del self._counts[:-count]
        del self._offsets[:-count]

    def offset_at(self, count: int) -> int | None:
        """Return where the channel was; None if that is too long ago."""
        index = bisect_right(self._counts, count)
        return self._offsets[index - 1] if index else None
