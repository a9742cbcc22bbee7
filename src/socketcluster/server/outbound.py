"""What leaves one socket: in order, bounded, through outbound middleware if there is any.

Publishes that wait for outbound middleware are held here, and hold back what was sent after them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.protocol.wire import DroppableFrame, Wire, frame_of
from socketcluster.writer import FrameWriter

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


class Outbound(FrameWriter):
    """One socket's way out; the `Subscriber` that the exchange delivers to.

    Attributes:
        prepared, sent: transmits, invokes and publishes so far; sent ones are with the transport
            or in a batch.
        decide: returns what decides on each publish now, or None without outbound middleware.
    """

    __slots__ = ("_held", "_held_count", "_task", "decide", "prepared", "sent")

    def __init__(
        self,
        connection: Connection,
        wire: Wire,
        limit: int,
        on_overflow: Callable[[], None],
        decide: Callable[[], Decide | None],
    ) -> None:
        super().__init__(connection, wire, limit, on_overflow)
        self.decide = decide
        self._held: deque[tuple[Any, int]] | None = None
        self._held_count = 0
        self._task: asyncio.Task[None] | None = None
        self.prepared = 0
        self.sent = 0

    def send(self, packet: Any) -> None:
        """See `FrameWriter.send`."""
        if self._held is None:
            super().send(packet)
        else:
            item, size = self._wire.batch_item(packet)
            self._wait(self._held, item, size, "event" in packet)

    def send_counted(self, packet: Any) -> None:
        """`send` a transmit or an invoke."""
        self.send(packet)
        if not self.closed:
            self.prepared += 1

    def send_message(self, message: str | bytes) -> None:
        """See `FrameWriter.send_message`."""
        frame = frame_of(message)
        if self._held is None:
            self.append(frame)
        else:
            self._wait(self._held, frame, len(frame), False)

    def publish(self, channel: str, payload: bytes, frame: bytes) -> None:
        """Deliver a publish: through outbound middleware if there is any."""
        if self.closed:
            return
        decide = self.decide()
        self.prepared += 1
        if decide is None:
            if self._held is None and self.batch is None:
                self.append(frame)
            else:
                self.send(self._wire.publish_packet(channel, payload))
        else:
            if self._held is None:
                self._held = deque()
                self._task = asyncio.ensure_future(self._drain(self._held))
            self._wait(self._held, _Held(channel, payload), len(payload), True)

    def _wait(self, held: deque[tuple[Any, int]], item: Any, size: int, counted: bool) -> None:
        self._held_count += counted
        self._hold(held, (item, counted), size)

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        super()._hold(queue, item, size)
        if not self._scheduled:  # The end of the turn updates `sent`.
            self._schedule()

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
        """See `FrameWriter.flush`."""
        self.sent = self.prepared - self._held_count
        super().flush()

    def close(self) -> None:
        """See `FrameWriter.close`."""
        super().close()
        self._held = None
        self._held_count = 0
        self.sent = self.prepared
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # Outbound middleware

    async def _drain(self, held: deque[tuple[Any, int]]) -> None:
        while held:
            (item, counted), size = held[0]
            if type(item) is _Held:
                packet = await self._decided(item)
                if packet is not None:
                    self._leave(*self._wire.batch_item(packet))
            else:
                self._leave(item, size)
            # Only now: what is sent meanwhile has to queue up behind it.
            held.popleft()
            self._held_bytes -= size
            self._held_count -= counted
            if not self._scheduled:
                self._schedule()
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
