"""The write path of one socket: in order, bounded, and through outbound middleware.

A publish that waits for outbound middleware holds back all messages sent after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from socketcluster.engines.base import Connection
from socketcluster.errors import ResourceLimitError
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MIDDLEWARE_OUTBOUND
from socketcluster.middleware.action import UNCHANGED
from socketcluster.protocol.frames import frame_of
from socketcluster.protocol.payloads import number
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.fanout import FanOut, Run
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.sequencer import Sequencer
from socketcluster.server.parts.socket_writer import SocketWriter, too_large
from socketcluster.sockets.flusher import Flusher

_HIGH_WATER = 64 * 1024
"""Bytes in the transport past which droppable frames stay here, where they can be dropped."""

_RETRY_SECONDS = 0.02


class OutboundClosing(Protocol):
    """The closing of the socket, as its outbound part sees it."""

    def overflow(self) -> None:
        """Drop the connection of a client that reads too slowly."""

    def fail(self, error: Exception) -> None:
        """Drop the connection after the error of a write."""


class OutboundMiddleware(Protocol):
    """The middleware of the socket, as its outbound part sees it."""

    def put_publish(self, channel: str, payload: bytes, callback: Callable[[Any], None]) -> None:
        """Submit a publish to outbound middleware.

        `callback` is called with the '#publish' packet that it allowed, with UNCHANGED if that is
        the publish as it was, or with None if it is blocked.
        """


class OutboundOwner(Protocol):
    """The outbound messages' view of their socket."""

    @property
    def closing(self) -> OutboundClosing: ...
    @property
    def middleware(self) -> OutboundMiddleware: ...
    def emit_error(self, error: BaseException) -> None:
        """Emit 'error' on the socket and 'warning' on the server."""


class OutboundExchange(Protocol):
    """The exchange, as the outbound messages see it."""

    @property
    def fan_out(self) -> FanOut: ...


class OutboundContext(Protocol):
    """The outbound messages' view of their server."""

    @property
    def options(self) -> ServerOptions: ...
    @property
    def wire(self) -> Wire: ...
    @property
    def flusher(self) -> Flusher: ...
    @property
    def exchange(self) -> OutboundExchange: ...
    @property
    def middleware(self) -> Mapping[MiddlewareType, Any]: ...


class _WaitingPublish:
    """A publish that waits for outbound middleware."""

    __slots__ = ("channel", "frame", "payload")

    def __init__(self, channel: str, payload: bytes, frame: bytes) -> None:
        self.channel = channel
        self.payload = payload
        self.frame = frame


HeldItem = tuple[Any, int, bool]
"""(a packet, frame or publish, its bytes, whether `prepared` counts it)"""


class Outbound(SocketWriter):
    """The write path of one socket, and the `Subscriber` that the exchange delivers to.

    Attributes:
        prepared, sent, held: events and calls; sent ones left or are batched, held ones wait here.
    """

    __slots__ = (
        "_active",
        "_droppable",
        "_fan_out",
        "_middleware",
        "_sequencer",
        "_socket",
        "held",
        "prepared",
        "sent",
    )

    def __init__(
        self, socket: OutboundOwner, connection: Connection, context: OutboundContext
    ) -> None:
        options = context.options
        super().__init__(connection, context.wire, options.max_outbound_buffer, context.flusher)
        self._socket = socket
        self._fan_out = context.exchange.fan_out
        self._droppable = False
        self._middleware = context.middleware
        self._active: Sequencer[HeldItem] | None = None  # While it holds anything.
        self._sequencer: Sequencer[HeldItem] | None = None  # Made once, and reused.
        self.held: int = 0
        self.prepared: int = 0
        self.sent: int = 0

    def overflow(self) -> None:
        self._socket.closing.overflow()

    def failed(self, error: Exception) -> None:
        self._socket.closing.fail(error)

    def send(self, packet: Any) -> None:
        """See `FrameWriter.send`."""
        if self._fan_out.subscribers is not None:
            self.collect_publishes()
        if self._active is None:
            super().send(packet)
        else:
            item, size = self._wire.batch_item(packet)
            self._enqueue(self._active, item, size, "event" in packet)

    def answer(self, rid: int | float, data: Any) -> None:
        """Send an answer with data."""
        if self._fan_out.subscribers is not None:
            self.collect_publishes()
        if self._active is None and self.batch is None:
            self.append(self._wire.answer_frame(rid, data))
        else:
            self.send({"rid": rid, "data": data})

    def send_counted(self, packet: Any) -> None:
        """Send an event or a call, and count it as prepared."""
        self.send(packet)
        if not self.closed:
            self.prepared += 1

    def send_message(self, message: str | bytes) -> None:
        """See `FrameWriter.send_message`."""
        frame = frame_of(message)
        self.collect_publishes()
        if self._active is None:
            self.append(frame)
        else:
            self._enqueue(self._active, frame, len(frame), False)

    def publish(self, run: Run, at_end_of_turn: bool) -> None:
        """Deliver publishes, through outbound middleware if there is any."""
        if self.closed:
            return
        frames = run.frames
        self.prepared += len(frames)
        if (
            self._active is not None
            or self.batch is not None
            or MIDDLEWARE_OUTBOUND in self._middleware
        ):
            if at_end_of_turn:
                self._fan_out.count_later(run)
            self._publish_separately(run)
        elif at_end_of_turn and not self._scheduled and not run.droppable:
            self.sent = self.prepared
            unwritten = self._connection.write(frames)
            if unwritten:
                self._backed_up = True
                if unwritten > self._limit:
                    self.overflow()
        else:
            if at_end_of_turn:
                self._fan_out.count_later(run)
            if not self._scheduled:
                self._schedule()
            self._frames += frames
            self._droppable |= run.droppable
            self._room -= run.size
            if self._room < 0:
                self._make_room()

    def _publish_separately(self, run: Run) -> None:
        for payload, frame in zip(run.payloads, run.frames, strict=True):
            if self.closed:
                return
            if MIDDLEWARE_OUTBOUND not in self._middleware:
                self.send(self._wire.payloads.numbered_packet(run.channel, payload))
                continue
            if self._active is None:
                if self._sequencer is None:
                    self._sequencer = Sequencer(self._start, self._on_idle)
                self._active = self._sequencer
            self._enqueue(
                self._active, _WaitingPublish(run.channel, payload, frame), len(payload), True
            )

    def collect_publishes(self) -> None:
        """Queue the publishes of this loop turn now, so that they precede the next message."""
        # Hot paths look at `subscribers` first: calling this for each answer costs 1.2 % of a call.
        fan_out = self._fan_out
        if fan_out.subscribers is not None and self in fan_out.subscribers:
            fan_out.deliver()

    def start_batch(self) -> None:
        self.collect_publishes()
        super().start_batch()

    def flush_batch(self) -> None:
        self.collect_publishes()
        super().flush_batch()

    def cancel_batch(self) -> None:
        self.collect_publishes()
        super().cancel_batch()

    def _enqueue(self, sequencer: Sequencer[HeldItem], item: Any, size: int, counted: bool) -> None:
        if self.closed:
            return
        if size > self._limit:
            raise too_large(size, self._limit)
        if not self._scheduled:
            self._schedule()
        self.held += counted
        self._count_held(size)
        sequencer.put((item, size, counted))
        if self._room < 0 and not self._find_room():
            self.overflow()

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        if size > self._limit and not self.closed:
            raise too_large(size, self._limit)
        super()._hold(queue, item, size)
        if not self._scheduled:  # The end of the turn updates `sent`.
            self._schedule()

    def frame_dropped(self) -> None:
        """See `SocketWriter.frame_dropped`."""
        self._fan_out.dropped += 1

    def flush(self) -> list[bytes]:
        """See `FrameWriter.flush`."""
        if (
            self._droppable
            and not self.closed
            and self._connection.get_write_buffer_size() > _HIGH_WATER
        ):
            # Frames in the transport can no longer be dropped. Wait until it has written them, so
            # that the oldest publishes stay here until then.
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._flusher.add, self)
            return []
        return self._write()

    def flush_now(self) -> None:
        """Flush even to a full transport, where publishes can no longer be dropped."""
        self._fan_out.count_written(self._write())

    def _write(self) -> list[bytes]:
        if self._fan_out.subscribers is not None:
            self.collect_publishes()
        self._droppable = False
        self.sent = self.prepared - self.held
        self._scheduled = False
        frames = self._frames  # None if it is closed.
        if frames:
            self._frames = []
            self._backed_up = self._connection.write(frames) > 0
        return frames

    def close(self) -> None:
        """See `FrameWriter.close`."""
        super().close()
        if self._active is not None:
            self._active.clear()
        self._active = self._sequencer = None
        self.held = 0
        self.sent = self.prepared

    # Outbound middleware

    def _start(self, held: HeldItem) -> None:
        item = held[0]
        if type(item) is not _WaitingPublish or MIDDLEWARE_OUTBOUND not in self._middleware:
            self._release(held, item)
            return
        middleware = self._socket.middleware
        middleware.put_publish(item.channel, item.payload, partial(self._decided, held))

    def _decided(self, held: HeldItem, packet: Any) -> None:
        self._release(held, held[0] if packet is UNCHANGED else number(packet, held[0].payload))

    def _release(self, held: HeldItem, item: Any) -> None:
        (_, size, counted), sequencer = held, self._active
        if self.closed or sequencer is None:
            return
        self.held -= counted
        self._count_held(-size)
        if not self._scheduled:
            self._schedule()
        try:
            if item is not None:
                self._append_item(item)
        except ResourceLimitError as error:  # Middleware allowed a publish with larger data.
            self._socket.emit_error(error)
        finally:
            sequencer.done()

    def _on_idle(self) -> None:
        self._active = None

    def _append_item(self, item: Any) -> None:
        if type(item) is _WaitingPublish:
            if self.batch is None:
                self.append(item.frame)  # Shared by all subscribers.
                return
            item = self._wire.payloads.numbered_packet(item.channel, item.payload)
        if type(item) is bytes:
            self.append(item)
        elif self.batch is not None:
            entry, size = self._wire.batch_item(item)
            if size > self._limit:
                raise too_large(size, self._limit)
            self.batch.append((entry, size))
            self._count_held(size)
        else:
            self.append(self._wire.frame(item))
