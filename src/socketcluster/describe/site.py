"""The page and the document of a server's handlers over HTTP.

The page has no secrets: its script loads the document, with a token if one is needed.

Source: ASGI specification, HTTP; Content Security Policy Level 3.
"""

from __future__ import annotations

import hmac
import re
from importlib.resources import files

import msgspec

from socketcluster.describe.api import Api
from socketcluster.describe.asyncapi import asyncapi_document
from socketcluster.describe.options import AsyncAPI
from socketcluster.describe.tables import HandlerTables
from socketcluster.engines.base import ASGIScope, ASGISend

_FILES = {
    "": ("page.html", b"text/html; charset=utf-8"),
    ".js": ("page.js", b"text/javascript; charset=utf-8"),
    ".css": ("page.css", b"text/css; charset=utf-8"),
}
_HEADERS = [
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_HOST = re.compile(r"[\w.\-\[\]:]+", re.ASCII)

Response = tuple[int, list[tuple[bytes, bytes]], bytes]


class DescriptionSite:
    """Answers requests for the description of one server.

    `path` is that of WebSocket connections; `can_publish` is whether clients may publish.
    """

    __slots__ = ("_can_publish", "_described", "_options", "_path", "_tables")

    def __init__(
        self, options: AsyncAPI, tables: HandlerTables, path: str, *, can_publish: bool = True
    ) -> None:
        self._options = options
        self._tables = tables
        self._path = path
        self._can_publish = can_publish
        self._described: tuple[tuple[int, ...], Api] | None = None

    def serves(self, scope: ASGIScope) -> bool:
        """Whether a request is for one of its files."""
        return (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and self._suffix(scope) in (*_FILES, ".json")
        )

    async def answer(self, scope: ASGIScope, send: ASGISend) -> None:
        """Answer a request: 200, or 401 without the token."""
        suffix = self._suffix(scope)
        status, headers, body = (
            self._document(scope) if suffix == ".json" else self._file(suffix or "")
        )
        headers = [*_HEADERS, *headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    def _suffix(self, scope: ASGIScope) -> str | None:
        """The end of the path behind that of the page, or None for another path."""
        path: str = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        own = self._options.path
        return path.removeprefix(own) if path.startswith(own) else None

    def _file(self, suffix: str) -> Response:
        name, content_type = _FILES[suffix]
        content = files("socketcluster.describe").joinpath("page", name).read_bytes()
        if suffix == "":
            # Relative: the server may be mounted somewhere.
            page = self._options.path.rpartition("/")[2]
            content = content.replace(b"PAGE", page.encode())
        return 200, [(b"content-type", content_type)], content

    def _document(self, scope: ASGIScope) -> Response:
        options = self._options
        headers = dict(scope["headers"])
        if options.token is not None:
            wanted = f"Bearer {options.token}".encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
                plain = (b"content-type", b"text/plain; charset=utf-8")
                return 401, [plain, (b"www-authenticate", b"Bearer")], b"Unauthorized"
        document = asyncapi_document(
            self._describe(),
            title=options.title,
            version=options.version,
            description=options.description,
            url=options.url or self._own_url(scope, headers.get(b"host", b"").decode("latin-1")),
        )
        return 200, [(b"content-type", b"application/json")], msgspec.json.encode(document)

    def _describe(self) -> Api:
        """The description, made again when handlers were added: none is ever removed."""
        tables = self._tables
        sizes = (len(tables.procedures), len(tables.receivers), len(tables.channels))
        if self._described is None or self._described[0] != sizes:
            self._described = sizes, Api.of(tables, can_publish=self._can_publish)
        return self._described[1]

    def _own_url(self, scope: ASGIScope, host: str) -> str | None:
        if _HOST.fullmatch(host) is None:
            return None
        scheme = "wss" if scope.get("scheme") == "https" else "ws"
        return f"{scheme}://{host}{self._path}"
