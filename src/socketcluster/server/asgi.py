"""AGServer as an ASGI 3 application, and the application that it hands all else to.

Source: ASGI specification, HTTP & WebSocket and Lifespan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socketcluster.engines.asgi import serve_websocket
from socketcluster.engines.base import ASGIReceive, ASGIScope, ASGISend
from socketcluster.server.health import Health

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer


class ServerApp:
    """Takes WebSocket connections at the server's path; `fallback` takes all else."""

    __slots__ = ("_health", "_server")

    def __init__(self, server: AGServer) -> None:
        self._server = server
        self._health = Health(server) if server.options.health_probes else None

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one connection, or the lifespan of an ASGI server."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket" and self._is_ours(scope):
            await serve_websocket(self._server.endpoint, scope, receive, send)
        else:
            await self.fallback(scope, receive, send)

    def _is_ours(self, scope: ASGIScope) -> bool:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        ours = self._server.path.rstrip("/")
        if root and path.startswith(root) and path[len(root) :].rstrip("/") == ours:
            return True
        # Mounted at the very path that clients use.
        return path.rstrip("/") == ours

    async def fallback(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Answer the probes; hand all else to the application; 404 or 426 without one."""
        if self._health is not None and self._health.is_probe(scope):
            await self._health.answer(scope, send)
        elif self._server.app is not None:
            await self._server.app(scope, receive, send)
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
        """The application's lifespan around the server's own."""

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
