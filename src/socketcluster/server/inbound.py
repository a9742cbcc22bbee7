"""What comes in on one socket: messages in the order sent, dispatched at once or from a backlog.

With nothing to wait for, a message is decoded and dispatched in the engine's read callback. As
soon as something has to be waited for (middleware, a broker, the handshake), one task works off
what follows, and past `max_inbound_backlog` the socket is not read from.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from socketcluster.errors import InvalidMessageError, ResourceLimitError, hydrate_error
from socketcluster.events import MessageEvent
from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.protocol.packets import (
    BinaryMessage,
    Packet,
    PublishPacket,
    readable,
)
from socketcluster.protocol.state import CLOSE_BEFORE_HANDSHAKE, CONNECTING, OPEN, PINGS
from socketcluster.server.dispatch import dispatch
from socketcluster.server.raw_line import RawLine
from socketcluster.server.reading import Reading

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket

_YIELD_EVERY = 32
"""Packets of one batch, or of a backlog, before other sockets get their turn."""

Pending = Coroutine[Any, Any, None]


class Inbound:
    """One socket's way in.

    Attributes:
        received, processed: messages so far, pongs included.
        reading: whether the socket is read from.
        last_seen: the server ticker's time of the last message.
    """

    __slots__ = (
        "_backlog",
        "_ending",
        "_line",
        "_malformed",
        "_middleware",
        "_pong",
        "_socket",
        "_task",
        "_ticker",
        "_wire",
        "closed",
        "last_seen",
        "processed",
        "reading",
        "received",
        "unconfirmed",
    )

    def __init__(self, socket: AGServerSocket) -> None:
        server = socket.server
        self._socket = socket
        self._wire = server.wire
        self.unconfirmed = 0  # Publishes that the broker has not answered.
        self._ticker = server.ticker
        self._middleware = server.middleware
        self._line: RawLine | None = None
        self._pong = PINGS[socket.protocol_version][1]
        self._backlog: deque[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self.reading = Reading(socket.connection, server.options.max_inbound_backlog)
        self._malformed = 0
        self._ending = False
        self.closed = False
        self.received = 0
        self.processed = 0
        self.last_seen = self._ticker.now

    def message(self, message: bytes) -> None:
        """A text message, as UTF-8, came in."""
        self.received += 1
        self.last_seen = self._ticker.now
        if (
            self._task is None
            and self._line is None
            and not self._ending
            and MIDDLEWARE_INBOUND_RAW not in self._middleware
        ):
            # The common case, with nothing to wait for.
            pending = self._process(message)
            if pending is not None:
                self._task = asyncio.ensure_future(self._drain(pending))
        elif self._ending:
            self._answer_only(message)
        elif self._line is not None or MIDDLEWARE_INBOUND_RAW in self._middleware:
            if self._line is None:
                self._line = RawLine(self._socket, self._decided, self._fault)
            self._line.put(message)
            self.reading.backlog_grew(self._waiting())
        else:
            self._accept(message)

    def binary(self, message: bytes) -> None:
        """A binary message came in."""
        self.message(BinaryMessage(message))

    def _decided(self, message: bytes | None) -> None:
        if message is None:
            self.processed += 1
        elif not self.closed:
            self._accept(message)
        self.reading.backlog_shrank(self._waiting())

    def _accept(self, message: bytes) -> None:
        if self._task is None:
            pending = self._process(message)
            if pending is not None:
                self._task = asyncio.ensure_future(self._drain(pending))
        else:
            self._enqueue(message)

    def _enqueue(self, message: bytes) -> None:
        # An answer settles a call that may be what the backlog is waiting for.
        if self._answer_only(message):
            return
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(message)
        self.reading.backlog_grew(self._waiting())

    def _waiting(self) -> int:
        return len(self._backlog or ()) + (0 if self._line is None else len(self._line))

    def _answer_only(self, message: bytes) -> bool:
        socket = self._socket
        if socket.calls and socket.state == OPEN and self._wire.is_answer(message):
            self._process(message)
            return True
        return False

    async def _drain(self, pending: Pending) -> None:
        try:
            await pending
            count = 0
            while self._backlog and not self.closed:
                message = self._backlog.popleft()
                self.reading.backlog_shrank(self._waiting())
                rest = self._process(message)
                if rest is not None:
                    await rest
                count += 1
                if count % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fault(error)
        finally:
            if self._task is asyncio.current_task():
                self._task = None
                self._backlog = None

    def _process(self, message: bytes) -> Pending | None:
        """Carry out a message; None when that is done, else the rest of it. It never raises."""
        self.processed += 1
        socket = self._socket
        try:
            if socket._listeners_demux is not None and socket.has_listener("message"):
                socket.emit("message", MessageEvent(readable(message)))
            if message == self._pong:
                self._pong_received()
                return None
            decoded = self._wire.decode(message)
            if isinstance(decoded, list):
                return self._process_batch(decoded, message)
            return dispatch(socket, decoded, message)
        except InvalidMessageError as error:
            self._malformed_message(error)
        except Exception as error:
            self._fault(error)
        return None

    def _pong_received(self) -> None:
        if self._socket.state == CONNECTING:
            self.reject_before_handshake()
        else:
            self._socket.auth.check_expiry()

    def _malformed_message(self, error: InvalidMessageError) -> None:
        self._socket.emit_error(error)
        if self._socket.state == CONNECTING:
            self.reject_before_handshake()
        else:
            self.malformed()

    def _fault(self, error: BaseException) -> None:
        """A fault of this server, or of something plugged into it: never of the client."""
        self._socket.server.report_fault(error)
        self._socket.disconnect(1011)

    def _process_batch(
        self, packets: list[Packet | PublishPacket], message: bytes
    ) -> Pending | None:
        limit = self._socket.server.options.max_batch_items
        if len(packets) > limit:
            error = ResourceLimitError(
                f"A batch of {len(packets)} packets exceeds max_batch_items ({limit})"
            )
            self._socket.emit_error(error)
            self._socket.disconnect(1009, str(error))
            return None
        if len(packets) > _YIELD_EVERY:
            return self._rest_of_batch(None, packets, 0, message)
        for index, packet in enumerate(packets):
            if self.closed:
                return None
            pending = dispatch(self._socket, packet, message)
            if pending is not None:
                return self._rest_of_batch(pending, packets, index + 1, message)
        return None

    async def _rest_of_batch(
        self,
        pending: Pending | None,
        packets: list[Packet | PublishPacket],
        start: int,
        message: bytes,
    ) -> None:
        if pending is not None:
            await pending
        for index in range(start, len(packets)):
            if self.closed:
                return
            pending = dispatch(self._socket, packets[index], message)
            if pending is not None:
                await pending
            if index % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    @property
    def busy(self) -> bool:
        """Whether something received is still to be carried out."""
        return (
            self._task is not None
            or self.unconfirmed > 0
            or (self._line is not None and self._line.busy)
        )

    def malformed(self) -> None:
        """Count a malformed message; the socket that sends too many is closed."""
        self._malformed += 1
        if self._malformed > self._socket.server.options.max_malformed_messages:
            self._socket.disconnect(1008, "Too many malformed messages")

    def reject_before_handshake(self) -> None:
        """A socket said something else before its handshake."""
        if self._socket.server.options.strict_handshake:
            self._socket.disconnect(CLOSE_BEFORE_HANDSHAKE)
        else:
            self.malformed()

    def answer(self, packet: Packet) -> None:
        """An answer to a call of this side."""
        calls = self._socket.calls
        if calls and packet.rid is not None:
            error = None if packet.error is None else hydrate_error(packet.error)
            calls.answer(packet.rid, error, packet.data)

    def close_after_backlog(self) -> None:
        """Carry out what was received, and of what comes later only answers."""
        self._ending = True

    def close(self) -> None:
        """Carry out nothing more, not even what was received."""
        self.closed = self._ending = True
        self._backlog = None
        if self._line is not None:
            self._line.close()
        self.processed = self.received
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
