"""Rejections of bad messages: malformed ones, and messages before the handshake."""

from __future__ import annotations

from typing import Protocol

from socketcluster.errors import InvalidMessageError
from socketcluster.protocol.state import CLOSE_BEFORE_HANDSHAKE, CLOSED, CONNECTING
from socketcluster.protocol.wire import Wire
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging


class RejectionsOwner(Protocol):
    """The rejections' view of their socket."""

    @property
    def life(self) -> Life: ...
    @property
    def messaging(self) -> Messaging: ...
    def emit_error(self, error: BaseException) -> None: ...
    def disconnect(self, code: int = 1000, reason: str | None = None) -> None: ...


class RejectionsContext(Protocol):
    """The rejections' view of their server."""

    @property
    def wire(self) -> Wire: ...
    @property
    def options(self) -> ServerOptions: ...


class Rejections:
    """Rejects the bad messages of one socket, and closes a socket that has sent too many."""

    __slots__ = ("_context", "_malformed", "_socket")

    def __init__(self, socket: RejectionsOwner, context: RejectionsContext) -> None:
        self._socket = socket
        self._context = context
        self._malformed = 0

    def reject(self, error: InvalidMessageError, message: bytes) -> None:
        """Report and count a message that cannot be decoded; answer it if it is a call."""
        socket = self._socket
        socket.emit_error(error)
        if socket.life.state == CONNECTING:
            self.reject_before_handshake()
            return
        cid = self._context.wire.cid_of(message)
        if cid is not None and socket.life.state != CLOSED:
            socket.messaging.respond_error(cid, error)
        self.count_malformed()

    def count_malformed(self) -> None:
        """Count a malformed message, and close a socket that has sent too many."""
        self._malformed += 1
        if self._malformed > self._context.options.max_malformed_messages:
            self._socket.disconnect(1008, "Too many malformed messages")

    def reject_before_handshake(self) -> None:
        """Reject a message received before the handshake."""
        if self._context.options.strict_handshake:
            self._socket.disconnect(CLOSE_BEFORE_HANDSHAKE)
        else:
            self.count_malformed()
