"""The outbox: packets that wait for a connection, in order."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import msgspec

from socketcluster.client.settings import Settings
from socketcluster.client.writer import buffer_full


class _Waiting(NamedTuple):
    packet: Any
    size: int
    is_call: bool


class Outbox:
    """Packets that wait for a connection, each under its number.

    `max_outbound_buffer` limits their bytes.
    """

    __slots__ = ("_settings", "_size", "_waiting")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._size = 0
        self._waiting: dict[int, _Waiting] = {}

    def add(self, number: int, packet: dict[str, Any]) -> None:
        """Keep a packet as it is now: later changes of its data have no effect.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
            ResourceLimitError: there is no room.
        """
        item, size = self._settings.wire.batch_item(packet)
        limit = self._settings.options.max_outbound_buffer
        if self._size + size > limit:
            raise buffer_full(limit)
        if type(item) is not msgspec.Raw:
            item = copy.deepcopy(item)
        self._size += size
        self._waiting[number] = _Waiting(item, size, "cid" in packet)

    def discard(self, number: int) -> None:
        """Drop a packet, if it still waits."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._size -= waiting.size

    def clear(self) -> None:
        """Drop all packets."""
        self._waiting.clear()
        self._size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, number: object) -> bool:
        return number in self._waiting

    def take_all(self) -> list[tuple[int, Any, bool]]:
        """Remove and return all packets to send them: (number, packet, whether it is a call)."""
        packets = [(number, item.packet, item.is_call) for number, item in self._waiting.items()]
        self.clear()
        return packets
