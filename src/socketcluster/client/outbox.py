"""What a client was asked to send while it had no connection, in order."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from socketcluster.client.writer import buffer_full
from socketcluster.protocol.wire import Wire


class Outbox:
    """Packets that wait for a connection, each under its number; at most `limit` bytes."""

    __slots__ = ("_limit", "_size", "_waiting", "_wire")

    def __init__(self, wire: Wire, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._size = 0
        self._waiting: dict[int, tuple[Any, int, bool]] = {}

    def add(self, number: int, packet: dict[str, Any]) -> None:
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
        self._waiting[number] = (kept, size, "cid" in packet)

    def discard(self, number: int) -> None:
        """Keep a packet no longer."""
        _, size, _ = self._waiting.pop(number, (None, 0, False))
        self._size -= size

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, number: object) -> bool:
        return number in self._waiting

    def take_all(self) -> list[tuple[int, Any, bool]]:
        """(number, packet, whether it is a call) of all, to be sent."""
        taken = [
            (number, packet, is_call) for number, (packet, _, is_call) in self._waiting.items()
        ]
        self._waiting.clear()
        self._size = 0
        return taken
