"""The handler of one connection: makes the socket, and receives the engine's calls."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.middleware import MiddlewareLine
from socketcluster.protocol.packets import BinaryMessage
from socketcluster.server.context import SocketContext
from socketcluster.server.events import HandshakeEvent
from socketcluster.server.hub import Hub
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.socket_server import SocketServer


class SocketHandler:
    """The `ConnectionHandler` that makes an AGServerSocket of a connection."""

    __slots__ = (
        "_context",
        "_hub",
        "_line",
        "_request",
        "_server",
        "_socket",
    )

    def __init__(
        self,
        server: SocketServer,
        context: SocketContext,
        hub: Hub,
        request: UpgradeRequest,
        line: MiddlewareLine | None,
    ) -> None:
        """`line` is the handshake middleware that has decided on the upgrade."""
        self._server = server
        self._context = context
        self._hub = hub
        self._request = request
        self._line = line
        self._socket: AGServerSocket | None = None
        hub.opening.add(self)

    def connection_made(self, connection: Connection) -> None:
        """See `ConnectionHandler`."""
        context = self._context
        self._hub.opening.discard(self)
        socket = AGServerSocket(
            self._server.generate_id(),
            self._server,
            context,
            connection,
            self._request,
            self._line,
        )
        if context.equip is not None:
            context.equip(socket)
        self._socket = socket
        self._hub.add(socket)
        if context.emitter.has_listener("handshake"):
            socket.setup.start(context.emitter, HandshakeEvent(socket))

    @property
    def text_received(self) -> Callable[[bytes], None]:
        """See `ConnectionHandler`."""
        # The engine calls the inbound part itself: a method here would cost 0.7 % of a call.
        assert self._socket is not None
        rates = self._socket.rates
        return self._socket.inbound.message if rates is None else rates.received

    def binary_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        assert self._socket is not None
        self.text_received(BinaryMessage(data))

    def connection_lost(self, code: int, reason: str) -> None:
        """See `ConnectionHandler`."""
        self._request.leave()
        self._hub.opening.discard(self)
        if self._socket is not None:
            self._socket.closing.lose(code, reason or None)
        elif self._line is not None:
            self._line.kill()
