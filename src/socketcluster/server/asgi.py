"""AGServer as an ASGI 3 application, in front of the user's own.

Source: ASGI specification, HTTP & WebSocket and Lifespan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from socketcluster.engines.asgi import serve_websocket
from socketcluster.engines.base import ASGIApp, ASGIReceive, ASGIScope, ASGISend, Endpoint


class Startable(Protocol):
    """The server, as the application needs it."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class Site(Protocol):
    """A part of the server that answers HTTP requests."""

    def serves(self, scope: ASGIScope) -> bool: ...
    async def answer(self, scope: ASGIScope, send: ASGISend) -> None: ...


class ServerApp:
    """Serves WebSocket connections at the endpoint's path; `fallback` serves the rest.

    Attributes:
        app: the user's application, or None.
    """

    __slots__ = ("_endpoint", "_server", "_sites", "app")

    def __init__(
        self,
        endpoint: Endpoint,
        server: Startable,
        app: ASGIApp | None,
        sites: Sequence[Site],
    ) -> None:
        self._endpoint = endpoint
        self._server = server
        self.app: ASGIApp | None = app
        self._sites = sites

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one connection, or the lifespan of an ASGI server."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket" and self._is_ours(scope):
            await serve_websocket(self._endpoint, scope, receive, send)
        else:
            await self.fallback(scope, receive, send)

    def _is_ours(self, scope: ASGIScope) -> bool:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        ours = self._endpoint.path.rstrip("/")
        if root and path.startswith(root) and path[len(root) :].rstrip("/") == ours:
            return True
        # The application is mounted at the path that clients use.
        return path.rstrip("/") == ours

    async def fallback(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Answer requests for the server's own sites, and pass all else to the application.

        Without an application, answer 404, or 426 at the path.
        """
        site = next((site for site in self._sites if site.serves(scope)), None)
        if site is not None:
            await site.answer(scope, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer_http(scope, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif scope["type"] == "lifespan":
            await _empty_lifespan(receive, send)

    async def _answer_http(self, scope: ASGIScope, send: ASGISend) -> None:
        status, headers, body = 404, [], b"Not Found"
        if self._is_ours(scope):
            status, body = 426, b"Connect by WebSocket"
            if scope.get("http_version", "1.1") < "2":  # Later versions forbid the header.
                headers = [(b"upgrade", b"websocket")]
        headers += [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Run the application's lifespan around the server's own."""

        async def receive_and_close() -> dict[str, object]:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._server.close()
            return dict(message)

        async def start_and_send(message: object) -> None:
            assert isinstance(message, dict)
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self._server.start()
                except Exception as error:
                    message = {"type": "lifespan.startup.failed", "message": str(error)}
            await send(message)

        await self.fallback(scope, receive_and_close, start_and_send)


async def _empty_lifespan(receive: ASGIReceive, send: ASGISend) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
