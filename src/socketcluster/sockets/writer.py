"""The write buffer of one connection: one write per loop turn, batches, a limit.

The first frame of a loop turn schedules a flush, which hands all frames of the turn to the engine
at once, for all connections together.
"""

from __future__ import annotations

from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.protocol.frames import frame_of
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.flusher import Flusher, report_unwritable


class FrameWriter:
    """The frames that one connection has still to write.

    A subclass decides what happens at the limit, in `overflow`.

    Attributes:
        batch: the collected packets, with their sizes; None while none are collected.
        closed: whether sending is over: frames are dropped.
    """

    __slots__ = (
        "_backed_up",
        "_connection",
        "_flusher",
        "_frames",
        "_granted",
        "_held_bytes",
        "_limit",
        "_room",
        "_scheduled",
        "_wire",
        "batch",
        "closed",
    )

    def __init__(self, connection: Connection, wire: Wire, limit: int, flusher: Flusher) -> None:
        self._connection = connection
        self._wire = wire
        self._limit = limit
        self._flusher = flusher
        self._backed_up = False
        self._frames: list[bytes] = []
        # Each frame takes room, and once there is none it is measured anew. So the room that was
        # granted and is not left is the size of all frames: metrics count them at no cost.
        self._room = self._granted = limit
        self._scheduled = False
        self.batch: list[tuple[Any, int]] | None = None
        self._held_bytes = 0
        self.closed: bool = False

    def overflow(self) -> None:
        """Called when more bytes wait than the limit allows."""

    def failed(self, error: Exception) -> None:
        """Called with the error of a write: frames may be lost, so that the connection closes."""
        report_unwritable(error)
        self._connection.abort()

    def send(self, packet: Any) -> None:
        """Send a packet, now or as part of the batch.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        if self.batch is None:
            self.append(self._wire.frame(packet))
        else:
            self._hold(self.batch, *self._wire.batch_item(packet))

    def send_message(self, message: str | bytes) -> None:
        """Send a raw message, outside any batch."""
        self.append(frame_of(message))

    def append(self, frame: bytes) -> None:
        """Write a finished frame at the end of this loop turn."""
        if self.closed:
            return
        if not self._scheduled:
            self._schedule()
        self._frames.append(frame)
        self._room -= len(frame)
        if self._room < 0:
            self._make_room()

    def _schedule(self) -> None:
        self._flusher.add(self)  # Without a loop this raises, before anything has changed.
        self._scheduled = True
        if self._backed_up:
            self._find_room()

    def _find_room(self) -> bool:
        """Measure the room; return whether the buffer is within the limit."""
        room = self._limit - self.get_buffer_size()
        self._granted += room - self._room
        self._room = room
        return room >= 0

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        if self.closed:
            return
        self._count_held(size)
        queue.append((item, size))
        if self.get_buffer_size() > self._limit:
            self.overflow()

    def _count_held(self, size: int) -> None:
        self._held_bytes += size
        self._room -= size
        self._granted -= size

    def _make_room(self) -> None:
        if not self._find_room():
            self.overflow()

    def flush(self) -> list[bytes]:
        """Hand all frames to the engine now, and return them."""
        self._scheduled = False
        frames, self._frames = self._frames, []
        if frames and not self.closed:
            self._backed_up = self._connection.write(frames) > 0
        return frames

    def get_buffer_size(self) -> int:
        """Return the bytes that wait here and in the transport."""
        here = sum(map(len, self._frames)) + self._held_bytes
        return here if self.closed else here + self._connection.get_write_buffer_size()

    def get_held_size(self) -> int:
        """`get_buffer_size`, at no cost for a connection with nothing to write."""
        if self._backed_up or self._frames or self._held_bytes:
            return self.get_buffer_size()
        return 0

    def get_sent_size(self) -> int:
        """Return the bytes of all frames that were handed to the engine from here."""
        return self._granted - self._room - sum(map(len, self._frames))

    def close(self) -> None:
        """Drop the frames and the batch; send nothing more."""
        self.closed = True
        self._granted -= sum(map(len, self._frames))
        self._frames = []
        self.batch = None
        self._held_bytes = 0

    # Batches

    def start_batch(self) -> None:
        """Collect packets until `flush_batch`. Packets collected before stay collected."""
        if self.batch is None and not self.closed:
            self.batch = []

    def flush_batch(self) -> None:
        """Send the collected packets as one array; later packets are sent one by one."""
        batch = self._take_batch()
        if batch:
            self.append(self._wire.frame([item for item, _ in batch]))

    def cancel_batch(self) -> None:
        """Drop the collected packets."""
        self._take_batch()

    def _take_batch(self) -> list[tuple[Any, int]]:
        batch, self.batch = self.batch or [], None
        self._count_held(-sum(size for _, size in batch))
        return batch
