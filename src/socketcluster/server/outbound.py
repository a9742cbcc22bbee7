"""What leaves one socket: finished frames, one write per loop turn, bounded, in order.

The first frame of a loop turn schedules one flush that hands all frames of the turn to the
engine in one go. Batches and publishes that wait for outbound middleware are held here, and
hold back what was sent after them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.protocol.wire import DroppableFrame, Wire, frame_of

_HIGH_WATER = 64 * 1024
_RETRY_SECONDS = 0.02

Decide = Callable[[str, bytes], Coroutine[Any, Any, Any]]
"""(channel, payload) → the '#publish' packet that outbound middleware lets through, or None."""


class _Held:
    """A publish that waits for outbound middleware."""

    __slots__ = ("channel", "payload")

    def __init__(self, channel: str, payload: bytes) -> None:
        self.channel = channel
        self.payload = payload


class Outbound:
    """One socket's way out; the `Subscriber` that the exchange delivers to.

    Attributes:
        prepared, sent: transmits, invokes and publishes so far; sent ones are with the transport.
        batch: what is being collected, with sizes; None when nothing is.
        decide: returns what decides on each publish now, or None without outbound middleware.
    """

    __slots__ = (
        "_connection",
        "_frames",
        "_held",
        "_held_bytes",
        "_held_count",
        "_limit",
        "_loop",
        "_on_overflow",
        "_room",
        "_scheduled",
        "_task",
        "_wire",
        "batch",
        "closed",
        "decide",
        "prepared",
        "sent",
    )

    def __init__(
        self,
        connection: Connection,
        wire: Wire,
        limit: int,
        on_overflow: Callable[[], None],
        decide: Callable[[], Decide | None],
    ) -> None:
        self._connection = connection
        self._wire = wire
        self._limit = limit
        self._on_overflow = on_overflow
        self.decide = decide
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        self._room = limit
        self._scheduled = False
        self.batch: list[tuple[Any, int]] | None = None
        self._held: deque[tuple[Any, int]] | None = None
        self._held_bytes = 0
        self._held_count = 0
        self._task: asyncio.Task[None] | None = None
        self.closed = False
        self.prepared = 0
        self.sent = 0

    def send(self, packet: Any) -> None:
        """Send a packet, now or as part of the batch.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        if self._held is None and self.batch is None:
            self.append(self._wire.frame(packet))
        else:
            self._hold(*self._wire.batch_item(packet))

    def send_message(self, message: str | bytes) -> None:
        """Send a raw message, outside any batch."""
        frame = frame_of(message)
        if self._held is None:
            self.append(frame)
        else:
            self._hold(frame, len(frame))

    def publish(self, channel: str, payload: bytes, frame: bytes) -> None:
        """Deliver a publish: through outbound middleware if there is any."""
        self.prepared += 1
        decide = self.decide()
        if decide is None:
            if self._held is None and self.batch is None:
                self.append(frame)
            else:
                self._hold(*self._wire.batch_item(self._wire.publish_packet(channel, payload)))
        elif not self.closed:
            if self._held is None:
                self._held = deque()
                self._task = asyncio.ensure_future(self._drain(self._held))
            self._held_count += 1
            self._hold(_Held(channel, payload), len(payload))

    def append(self, frame: bytes) -> None:
        """Add a finished frame to what is written at the end of this loop turn."""
        if self.closed:
            return
        if not self._scheduled:
            self._scheduled = True
            self._room = self._limit - self._held_bytes - self._connection.get_write_buffer_size()
            self._loop.call_soon(self._flush)
        self._frames.append(frame)
        self._room -= len(frame)
        if self._room < 0:
            self._make_room()

    def _hold(self, item: Any, size: int) -> None:
        if self.closed:
            return
        self._held_bytes += size
        queue = self.batch if self._held is None else self._held
        assert queue is not None
        queue.append((item, size))
        if self.get_buffer_size() > self._limit:
            self._on_overflow()

    def _make_room(self) -> None:
        kept: list[bytes] = []
        for frame in self._frames:
            if self._room < 0 and type(frame) is DroppableFrame:
                self._room += len(frame)
            else:
                kept.append(frame)
        self._frames = kept
        if self._room < 0:
            self._on_overflow()

    def _flush(self) -> None:
        if self.closed:
            return
        if (
            any(type(frame) is DroppableFrame for frame in self._frames)
            and self._connection.get_write_buffer_size() > _HIGH_WATER
        ):
            # What is with the transport cannot be dropped any more: wait until it has taken
            # what it has, so that the oldest publishes are here to be dropped.
            self._room = self._limit - self.get_buffer_size()
            self._loop.call_later(_RETRY_SECONDS, self._flush)
            return
        self.flush()

    def flush(self) -> None:
        """Hand everything to the engine now."""
        self._scheduled = False
        frames, self._frames = self._frames, []
        self.sent = self.prepared - self._held_count
        if frames and not self.closed:
            self._connection.write(frames)

    def get_buffer_size(self) -> int:
        """Bytes held here and in the transport."""
        here = sum(map(len, self._frames)) + self._held_bytes
        return here if self.closed else here + self._connection.get_write_buffer_size()

    def close(self) -> None:
        """Drop what is here; send nothing more."""
        self.closed = True
        self._frames = []
        self.batch = None
        self._held = None
        self._held_bytes = 0
        self._held_count = 0
        self.sent = self.prepared
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # Batches

    def start_batch(self) -> None:
        """Collect packets until `flush_batch`; what is collected already stays."""
        if self.batch is None and not self.closed:
            self.batch = []

    def flush_batch(self) -> None:
        """Send what was collected as one array; later packets are sent one by one again."""
        batch = self._take_batch()
        if batch:
            self.append(self._wire.frame([item for item, _ in batch]))

    def cancel_batch(self) -> None:
        """Drop what was collected."""
        self._take_batch()

    def _take_batch(self) -> list[tuple[Any, int]]:
        batch, self.batch = self.batch or [], None
        self._held_bytes -= sum(size for _, size in batch)
        return batch

    # Outbound middleware

    async def _drain(self, held: deque[tuple[Any, int]]) -> None:
        while held:
            item, size = held[0]
            if type(item) is _Held:
                packet = await self._decided(item)
                self._held_count -= 1
                if packet is not None:
                    self._leave(*self._wire.batch_item(packet))
                elif not self._scheduled:
                    self.sent = self.prepared - self._held_count
            else:
                self._leave(item, size)
            # Only now: what is sent meanwhile has to queue up behind it.
            held.popleft()
            self._held_bytes -= size
        self._held = None
        self._task = None

    async def _decided(self, item: _Held) -> Any:
        decide = self.decide()
        if decide is None:  # The middleware was removed while this waited.
            return self._wire.publish_packet(item.channel, item.payload)
        return await decide(item.channel, item.payload)

    def _leave(self, item: Any, size: int) -> None:
        if type(item) is bytes:
            self.append(item)
        elif self.batch is not None:
            self.batch.append((item, size))
            self._held_bytes += size
        else:
            self.append(self._wire.frame(item))
