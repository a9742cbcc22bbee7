"""The page and the document of a server's handlers over HTTP.

The page has no secrets: its script loads the document, with a token if one is needed.

Source: ASGI specification, HTTP; Content Security Policy Level 3.
"""

from __future__ import annotations

import re
from importlib.resources import files

import msgspec

from socketcluster.describe.api import Api
from socketcluster.describe.asyncapi import asyncapi_document
from socketcluster.describe.options import AsyncAPI
from socketcluster.describe.tables import HandlerTables
from socketcluster.engines.base import ASGIScope, ASGISend
from socketcluster.engines.http_answers import Response, own_path, refusal, send_response

_FILES = {
    "": ("page.html", b"text/html; charset=utf-8"),
    ".js": ("page.js", b"text/javascript; charset=utf-8"),
    ".css": ("page.css", b"text/css; charset=utf-8"),
}
_POLICY = (
    b"content-security-policy",
    b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
)
_HOST = re.compile(r"[\w.\-\[\]:]+", re.ASCII)


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
        """Answer a request: 200, or for the document what `refusal` says."""
        suffix = self._suffix(scope)
        if suffix == ".json":
            status, headers, body = refusal(scope, self._options.token) or self._document(scope)
        else:
            status, headers, body = self._file(suffix or "")
        await send_response(scope, send, (status, [_POLICY, *headers], body))

    def _suffix(self, scope: ASGIScope) -> str | None:
        """The end of the path behind that of the page, or None for another path."""
        path, own = own_path(scope), self._options.path
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
