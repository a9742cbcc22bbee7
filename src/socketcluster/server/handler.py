"""What an engine calls: a connection is made, messages come, it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.middleware import MiddlewareLine
from socketcluster.server.events import HandshakeEvent
from socketcluster.server.packets.handshake import settled
from socketcluster.server.parts.leaving import lose
from socketcluster.server.socket import AGServerSocket

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer


class SocketHandler:
    """The `ConnectionHandler` that makes an AGServerSocket of a connection."""

    __slots__ = ("_line", "_request", "_server", "_socket", "binary_received", "text_received")

    text_received: Callable[[bytes], None]
    binary_received: Callable[[bytes], None]

    def __init__(
        self, server: AGServer, request: UpgradeRequest, line: MiddlewareLine | None
    ) -> None:
        self._server = server
        self._request = request
        self._line = line
        self._socket: AGServerSocket | None = None

    def connection_made(self, connection: Connection) -> None:
        """See `ConnectionHandler`."""
        server = self._server
        socket = AGServerSocket(server.generate_id(), server, connection, self._request, self._line)
        self._socket = socket
        # The engine calls the socket's way in directly.
        self.text_received = socket.inbound.message
        self.binary_received = socket.inbound.binary
        socket.next_ping = server.ticker.time + server.ping_interval / 1000
        server.pending_clients[socket.id] = socket
        if server.get_listener_consumer_count("handshake"):
            socket.introduction = asyncio.ensure_future(
                settled(socket, ("handshake", HandshakeEvent(socket)))
            )

    def connection_lost(self, code: int, reason: str) -> None:
        """See `ConnectionHandler`."""
        if self._socket is not None:
            lose(self._socket, code, reason or None)
        elif self._line is not None:
            self._line.kill()
