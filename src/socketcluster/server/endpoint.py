"""A server as its engine sees it: limits, and the decision on upgrade requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socketcluster.engines.base import (
    Accepted,
    DeflateOptions,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.middleware import MIDDLEWARE_HANDSHAKE
from socketcluster.server.handler import SocketHandler
from socketcluster.server.packets.handshake import admit, check_origin

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer

MAX_FIRST_MESSAGE = 40 * 1024
"""Bytes that a client may send until its first message, the handshake, is complete."""


class ServerEndpoint:
    """The `Endpoint` of an AGServer."""

    __slots__ = (
        "_opening",
        "_proxies",
        "_server",
        "deflate",
        "max_first_message",
        "max_outbound_buffer",
        "max_payload",
        "path",
    )

    path: str
    max_first_message: int
    max_payload: int
    max_outbound_buffer: int
    deflate: DeflateOptions | None

    def __init__(self, server: AGServer) -> None:
        options = server.options
        self._server = server
        self._opening = 0
        self._proxies = options.proxies()
        self.path = options.path
        self.max_payload = options.max_payload
        self.max_first_message = min(MAX_FIRST_MESSAGE, options.max_payload)
        self.max_outbound_buffer = options.max_outbound_buffer
        self.deflate = options.deflate()

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        """See `Endpoint.open_now`."""
        server = self._server
        if not server.is_ready or MIDDLEWARE_HANDSHAKE in server.middleware:
            return None
        self._check_room()
        request.trust(self._proxies)
        check_origin(server, request)
        return Accepted(SocketHandler(server, request, None), self._subprotocol(request))

    async def open(self, request: UpgradeRequest) -> Accepted:
        """See `Endpoint.open`: limits, HANDSHAKE_WS middleware, origin, sub-protocol."""
        server = self._server
        await self._check_accepting()
        self._check_room()
        request.trust(self._proxies)
        self._opening += 1
        try:
            line = await admit(server, request)
        finally:
            self._opening -= 1
        try:
            await self._check_accepting()
            subprotocol = self._subprotocol(request)
        except BaseException:
            if line is not None:
                line.kill()
            raise
        return Accepted(SocketHandler(server, request, line), subprotocol)

    async def _check_accepting(self) -> None:
        if not await self._server.running.accepting():
            raise UpgradeRefusedError(503, "The server is closing")

    def _check_room(self) -> None:
        server = self._server
        if len(server.pending_clients) + self._opening >= server.options.max_pending_clients:
            raise UpgradeRefusedError(503, "Too many connections are in the handshake phase")

    def _subprotocol(self, request: UpgradeRequest) -> str | None:
        offered = list(request.subprotocols)
        choose = self._server.options.handle_protocols
        if choose is None:
            return offered[0] if offered else None
        try:
            chosen = choose(set(offered), request) if offered else None
        except Exception as error:
            self._server.report_fault(error)
            raise UpgradeRefusedError(500, "Internal Server Error") from error
        return chosen if chosen in offered else None
