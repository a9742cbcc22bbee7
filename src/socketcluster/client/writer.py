"""The writer of a client's connection: refuses frames past a limit, without closing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.flusher import Flusher
from socketcluster.sockets.writer import FrameWriter

MAX_BATCH_PACKETS = 1000
"""Packets in one array: as many as a server accepts that limits it."""

MAX_BATCH_BYTES = 256 * 1024
"""Bytes of packets in one array, unless one packet alone is longer: a quarter of what
servers accept in one message."""


class ClientWriter(FrameWriter):
    """A `FrameWriter` that raises ResourceLimitError for a frame that exceeds the limit."""

    __slots__ = ("_accepting",)

    def __init__(self, connection: Connection, wire: Wire, limit: int) -> None:
        super().__init__(connection, wire, limit, Flusher())
        self._accepting = False

    def send_accepted(self, packet: Any) -> None:
        """Send a packet that was accepted before, whether it fits or not."""
        self._accepting = True
        try:
            self.send(packet)
        finally:
            self._accepting = False

    def flush_batch(self) -> None:
        """Send the collected packets, in arrays that servers accept.

        All fit: they were accepted when they were collected. Later packets are sent one by one.
        """
        self._accepting = True
        try:
            for part in _parts(self._take_batch()):
                self.append(self._wire.frame(part))
        finally:
            self._accepting = False

    def _make_room(self) -> None:
        if not self._accepting and not self._find_room():
            self._room += len(self._frames.pop())
            raise buffer_full(self._limit)

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        if not self._accepting and self.get_buffer_size() + size > self._limit:
            raise buffer_full(self._limit)
        super()._hold(queue, item, size)


def _parts(batch: list[tuple[Any, int]]) -> Iterator[list[Any]]:
    """The packets of a batch, in order, in parts within the limits."""
    part: list[Any] = []
    room = MAX_BATCH_BYTES
    for packet, size in batch:
        room -= size
        if part and (room < 0 or len(part) == MAX_BATCH_PACKETS):
            yield part
            part = []
            room = MAX_BATCH_BYTES - size
        part.append(packet)
    if part:
        yield part


def buffer_full(limit: int) -> ResourceLimitError:
    """Return the error for a packet that exceeds the limit."""
    return ResourceLimitError(
        f"More than {limit} bytes would wait to be sent (the max_outbound_buffer option)"
    )
