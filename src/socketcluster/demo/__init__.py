"""The demo: a chat with rooms, a procedure, a login, and a display of backpressure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack, cast

from socketcluster import AGAction, AGServer, AGServerSocket, AsyncAPI, ServerOptionsDict
from socketcluster.demo.pages import Pages
from socketcluster.errors import AuthError, InvalidArgumentsError, InvalidRequestError
from socketcluster.middleware import MiddlewareStream

ROOM_PREFIX = "room/"
MAX_TEXT = 500


def create_demo_server(**options: Unpack[ServerOptionsDict]) -> AGServer:
    """Create an AGServer that serves the demo and its page."""
    options.setdefault("asyncapi", AsyncAPI(title="SocketCluster demo"))
    server = AGServer(app=Demo.pages, **options)
    demo = Demo(server)
    server.set_middleware(server.MIDDLEWARE_INBOUND, demo.decide)
    server.background(demo.handle_connections)
    return server


class Demo:
    """The demo's procedures and middleware."""

    pages: Pages = Pages()

    def __init__(self, server: AGServer) -> None:
        self._server = server

    async def handle_connections(self) -> None:
        """Start a task for each procedure of each connection."""
        async for event in self._server.listener("connection"):
            for handle in (self._log_in, self._log_out, self._add, self._backpressure):
                self._server.spawn(handle(event.socket))

    async def _log_in(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("login"):
            with request:
                name = _field(request.data, "name")
                if not isinstance(name, str) or not 1 <= len(name.strip()) <= 40:
                    raise AuthError("A name must have 1 to 40 characters")
                await socket.set_auth_token({"name": name.strip()}, expires_in=3600)
                request.end()

    async def _log_out(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("logout"):
            with request:
                await socket.deauthenticate()
                request.end()

    async def _add(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("add"):
            with request:
                numbers = request.data
                if not _are_numbers(numbers):
                    raise InvalidRequestError("add takes a list of numbers, up to 1e15")
                request.end(sum(numbers))

    async def _backpressure(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("backpressure"):
            request.end(
                {
                    "clients": self._server.clients_count,
                    "inbound": socket.get_inbound_backpressure(),
                    "outbound": socket.get_outbound_backpressure(),
                    "streams": socket.get_backpressure(),
                    "bytes": socket.get_outbound_buffer_size(),
                }
            )

    async def decide(self, stream: MiddlewareStream) -> None:
        """Allow subscriptions to rooms, and short messages in rooms."""
        async for action in stream:
            if action.type in (AGAction.PUBLISH_IN, AGAction.SUBSCRIBE) and not _is_allowed(action):
                action.block(InvalidArgumentsError("Only short messages, and only in rooms"))
            else:
                action.allow()


def _field(data: Any, name: str, default: Any = None) -> Any:
    """Return a field of an object that a client sent; None if the data is not an object."""
    return cast("dict[str, Any]", data).get(name, default) if isinstance(data, dict) else None


def _are_numbers(data: Any) -> bool:
    return isinstance(data, list) and all(map(_is_number, cast("Iterable[Any]", data)))


def _is_number(value: Any) -> bool:
    # JavaScript represents integers of this size, and their sums, exactly.
    return type(value) in (int, float) and abs(value) <= 1e15


def _is_allowed(action: AGAction) -> bool:
    if not action.channel.startswith(ROOM_PREFIX):
        return False
    if action.type == AGAction.SUBSCRIBE:
        return True
    text = _field(action.data, "text", "")
    return isinstance(text, str) and len(text) <= MAX_TEXT
