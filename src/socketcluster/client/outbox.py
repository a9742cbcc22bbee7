"""What a client was asked to send while it had no connection, in order."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec

from socketcluster.client.writer import buffer_full
from socketcluster.protocol.wire import Wire


@dataclass(frozen=True, slots=True)
class Waiting:
    """One packet. An event (`cid` None) is given up after `deadline`, in the loop's seconds; a
    call is given up when nobody waits for its answer any more."""

    event: str
    cid: int | None
    packet: Any
    size: int
    deadline: float


class Outbox:
    """Packets that wait for a connection; at most `limit` bytes."""

    __slots__ = ("_limit", "_size", "_waiting", "_wire")

    def __init__(self, wire: Wire, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._size = 0
        self._waiting: deque[Waiting] = deque()

    def add(self, event: str, cid: int | None, packet: dict[str, Any], deadline: float) -> None:
        """Keep a packet, as it is now.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
            ResourceLimitError: there is no room.
        """
        kept, size = self._wire.batch_item(packet)
        if self._size + size > self._limit:
            raise buffer_full(self._limit)
        if type(kept) is not msgspec.Raw:
            kept = copy.deepcopy(kept)
        self._size += size
        self._waiting.append(Waiting(event, cid, kept, size, deadline))

    def __len__(self) -> int:
        return len(self._waiting)

    def calls(self) -> set[int]:
        """The numbers of the calls that wait."""
        return {waiting.cid for waiting in self._waiting if waiting.cid is not None}

    def take_all(self) -> list[Waiting]:
        """Everything, to be sent or given up."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return taken
