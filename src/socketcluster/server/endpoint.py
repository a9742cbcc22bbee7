"""The endpoint of a server: limits, and the decision on upgrade requests.

Source: AGServer specification, "Middleware"; WebSocket origins: RFC 6454.
"""

from __future__ import annotations

import asyncio
from functools import partial

from socketcluster.engines.base import (
    Accepted,
    DeflateOptions,
    Gate,
    Pace,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.errors import ServerProtocolError
from socketcluster.middleware import MIDDLEWARE_HANDSHAKE, AGAction, Blocked, MiddlewareLine
from socketcluster.server.admission import Admission
from socketcluster.server.context import SocketContext
from socketcluster.server.handler import SocketHandler
from socketcluster.server.hub import Hub
from socketcluster.server.lifecycle import Lifecycle
from socketcluster.server.origins import AllowedOrigins
from socketcluster.server.socket_server import SocketServer

MAX_FIRST_MESSAGE = 40 * 1024
"""Bytes of a client's first message, the handshake."""

MAX_ORIGIN_TEXT = 300
"""Characters of a refused origin in the warning and the answer."""


class ServerEndpoint:
    """The `Endpoint` of an AGServer.

    Attributes:
        allowed_origins: the origins that pages may connect from.
    """

    __slots__ = (
        "_admission",
        "_context",
        "_hub",
        "_lifecycle",
        "_opening",
        "_proxies",
        "_server",
        "admission",
        "allowed_origins",
        "deflate",
        "max_first_message",
        "max_outbound_buffer",
        "max_payload",
        "pace",
        "path",
    )

    path: str
    max_first_message: int
    max_payload: int
    max_outbound_buffer: int
    deflate: DeflateOptions | None
    pace: Pace
    admission: Gate | None

    def __init__(
        self, server: SocketServer, context: SocketContext, hub: Hub, lifecycle: Lifecycle
    ) -> None:
        options = context.options
        self._server = server
        self._context = context
        self._hub = hub
        self._lifecycle = lifecycle
        self._opening = 0
        self._proxies = options.proxies()
        self._admission = Admission(
            options.max_connections,
            options.limits,
            self._proxies,
            self._count,
            self._count_refused,
            context.rate_limits.limited,
        )
        self.admission = self._admission if self._admission.is_limited else None
        self.allowed_origins: AllowedOrigins = options.allowed_origins()
        self.path = options.path
        self.max_payload = options.max_payload
        self.max_first_message = min(MAX_FIRST_MESSAGE, options.max_payload)
        self.max_outbound_buffer = options.max_outbound_buffer
        self.deflate = options.deflate()
        self.pace = context.upgrade_pace

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        """See `Endpoint.open_now`."""
        if not self._lifecycle.is_accepting or MIDDLEWARE_HANDSHAKE in self._context.middleware:
            return None
        try:
            seated = self._admit(request)
            try:
                self._check_origin(request)
                return self._accept(request, None)
            except BaseException:
                if seated:
                    request.leave()
                raise
        except UpgradeRefusedError:
            self._context.counts.refused += 1
            raise

    async def open(self, request: UpgradeRequest) -> Accepted:
        """See `Endpoint.open`: limits, HANDSHAKE_WS middleware, origin, sub-protocol."""
        try:
            await self._check_accepting()
            seated = self._admit(request)
            try:
                return await self._open(request)
            except BaseException:
                if seated:
                    request.leave()
                raise
        except UpgradeRefusedError:
            self._context.counts.refused += 1
            raise

    async def _open(self, request: UpgradeRequest) -> Accepted:
        self._opening += 1
        try:
            line = await self._decide(request)
        finally:
            self._opening -= 1
        try:
            self._check_origin(request)
            await self._check_accepting()
            return self._accept(request, line)
        except BaseException:
            if line is not None:
                line.kill()
            raise

    def _admit(self, request: UpgradeRequest) -> bool:
        """Check the limits of connections; return whether the request got a seat now.

        One that it had belongs to its connection, which may outlive a refusal.

        Raises:
            UpgradeRefusedError: 429 or 503.
        """
        self._check_room()
        request.trust(self._proxies)
        had_seat = request.seat is not None
        if self.admission is not None:
            self._admission.check_count()
            self._admission.seat_client(request)
        return request.seat is not None and not had_seat

    def _count(self) -> int:
        return len(self._hub.clients) + self._count_waiting()

    def _count_waiting(self) -> int:
        return len(self._hub.pending) + len(self._hub.opening) + self._opening

    def _count_refused(self) -> None:
        self._context.counts.refused += 1

    def _accept(self, request: UpgradeRequest, line: MiddlewareLine | None) -> Accepted:
        subprotocol = self._subprotocol(request)
        handler = SocketHandler(self._server, self._context, self._hub, request, line)
        # Callables in slots of the handler stand for its methods.
        return Accepted(handler, subprotocol)  # pyright: ignore[reportArgumentType]

    async def _check_accepting(self) -> None:
        if not await self._lifecycle.start_accepting():
            raise UpgradeRefusedError(503, "The server is closing")

    def _check_room(self) -> None:
        if self._count_waiting() >= self._context.options.max_pending_clients:
            raise UpgradeRefusedError(503, "Too many connections are in the handshake phase")

    async def _decide(self, request: UpgradeRequest) -> MiddlewareLine | None:
        """Run HANDSHAKE_WS middleware; return its line, which decides on '#handshake' too.

        Raises:
            UpgradeRefusedError: 401, the middleware blocked the upgrade or took too long.
        """
        context = self._context
        function = context.middleware.get(MIDDLEWARE_HANDSHAKE)
        if function is None:
            return None
        line = MiddlewareLine(
            MIDDLEWARE_HANDSHAKE,
            function,
            partial(context.emit_warning_about, request=request),
            context.reporter,
            context.loop_binding,
            request=request,
        )
        try:
            async with asyncio.timeout(context.handshake_timeout / 1000):
                await line.decide(AGAction.HANDSHAKE_WS, request=request)
        except Blocked as blocked:
            context.counts.blocked[AGAction.HANDSHAKE_WS] += 1
            line.kill()
            if blocked.for_server is not None and context.options.middleware_emit_failures:
                context.emit_warning_about(blocked.for_server, request=request)
            error = blocked.for_client
            reason = getattr(error, "public_message", None) or str(error)
            raise UpgradeRefusedError(401, reason) from None
        except TimeoutError:
            line.report_held("handshake_timeout")
            line.kill()
            raise UpgradeRefusedError(401, "The handshake took too long") from None
        except BaseException:
            line.kill()
            raise
        return line

    def _check_origin(self, request: UpgradeRequest) -> None:
        """Check the origin of the page that opens the connection.

        Raises:
            UpgradeRefusedError: 403.
        """
        if self.allowed_origins.all:
            return
        origin = request.header("origin")
        if not self.allowed_origins.allow(origin):
            text = "*" if origin is None or origin == "null" else origin[:MAX_ORIGIN_TEXT]
            error = ServerProtocolError(
                f"Failed to authorize socket handshake - Invalid origin: {text}"
            )
            self._context.emit_warning_about(error, request=request)
            raise UpgradeRefusedError(403, str(error))

    def _subprotocol(self, request: UpgradeRequest) -> str | None:
        offered = list(request.subprotocols)
        choose = self._context.options.handle_protocols
        if choose is None:
            return offered[0] if offered else None
        try:
            chosen = choose(set(offered), request) if offered else None
        except Exception as error:
            self._context.report_fault(error)
            raise UpgradeRefusedError(500, "Internal Server Error") from error
        return chosen if chosen in offered else None
