"""PositionLog: where a channel was when the process had delivered so many stored publishes."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from socketcluster.brokers.storing import Position


class PositionLog:
    """The newest offsets of a channel within one epoch, each with the process's count.

    An entry takes 16 bytes. At most twice `limit` entries are kept, at least `limit`.

    Attributes:
        began: the first position of the present epoch in this process; None before any.
    """

    __slots__ = ("_counts", "_limit", "_offsets", "began")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.began: Position | None = None
        self._counts = array("Q")
        self._offsets = array("Q")

    def restart(self, count: int, position: Position) -> bool:
        """Forget the offsets, because the channel moved; return whether its epoch is another."""
        self._counts = array("Q", (count,))
        self._offsets = array("Q", (position.offset,))
        if self.began is not None and self.began.epoch == position.epoch:
            return False
        self.began = position
        return True

    def add(self, count: int, offset: int) -> None:
        """Note a delivery."""
        self._counts.append(count)
        self._offsets.append(offset)
        if len(self._counts) > 2 * self._limit:
            del self._counts[: self._limit]
            del self._offsets[: self._limit]

    def offset_at(self, count: int) -> int | None:
        """Return where the channel was; None if that is too long ago."""
        index = bisect_right(self._counts, count)
        return self._offsets[index - 1] if index else None
