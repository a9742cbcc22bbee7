"""PositionLog: where a channel was when the process had delivered so many stored publishes."""

from __future__ import annotations

from array import array
from bisect import bisect_right


class PositionLog:
    """The newest offsets of a channel within one epoch, each with the process's count.

    An entry takes 16 bytes. At most twice `limit` entries are kept, at least `limit`.
    """

    __slots__ = ("_counts", "_limit", "_offsets")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts = array("Q")
        self._offsets = array("Q")

    def restart(self, count: int, offset: int) -> None:
        """Forget everything; the channel is at `offset` now."""
        self._counts = array("Q", (count,))
        self._offsets = array("Q", (offset,))

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
