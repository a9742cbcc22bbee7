"""The demo's page, as an ASGI application.

Source: ASGI specification, HTTP.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from socketcluster.describe.declarations import wrapper
from socketcluster.engines.base import ASGIReceive, ASGIScope, ASGISend
from socketcluster.history import javascript

CLIENT_VARIABLE = "SOCKETCLUSTER_DEMO_CLIENT"
"""The environment variable with the path of the bundled JavaScript client."""

_BUNDLE = Path("node_modules/socketcluster-client/socketcluster-client.min.js")
_CONTENT_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}


def find_client() -> Path | None:
    """Return the path of the bundled JavaScript client, or None if it is not installed."""
    path = os.environ.get(CLIENT_VARIABLE)
    candidates = [Path(path)] if path else [Path(".demo") / _BUNDLE, _BUNDLE]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


class Pages:
    """Serves the demo's six files. If the client is not installed, the page explains how to."""

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        if scope["type"] != "http":
            raise ValueError(f"The demo does not serve {scope['type']}")
        status, content_type, body = self._response(scope["method"], scope["path"])
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-cache"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    def _response(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, "text/plain; charset=utf-8", b"Method Not Allowed"
        if path == "/socketcluster-client.js":
            client = find_client()
            if client is not None:
                return 200, _CONTENT_TYPES["app.js"], client.read_bytes()
        if path == "/api.js":
            return 200, _CONTENT_TYPES["app.js"], wrapper().encode()
        if path == "/recovering.js":
            return 200, _CONTENT_TYPES["app.js"], javascript.module().encode()
        name = path.removeprefix("/") or "index.html"
        if name not in _CONTENT_TYPES:
            return 404, "text/plain; charset=utf-8", b"Not Found"
        return 200, _CONTENT_TYPES[name], files("socketcluster.demo").joinpath(name).read_bytes()
