"""What a new connection is: an upgrade at the endpoint's path, which is ours, or HTTP, which is
uvicorn's.

Most often the first bytes of a connection are one whole upgrade request. It is read by the same
parser that uvicorn has, but without the objects that uvicorn keeps for a connection that stays
HTTP: a third of what a connection costs up to there. All else goes on as uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from socketcluster.engines import uvicorn_limits
from socketcluster.engines.base import ASGIScope, Endpoint
from socketcluster.engines.deflate import DeflateCache
from socketcluster.engines.upgrade import Open, Site, Upgrading
from socketcluster.engines.uvicorn_limits import MAX_HEADERS, MAX_REQUEST_HEAD, GuardedHttp

_HEAD_END = b"\r\n\r\n"

Headers = list[tuple[bytes, bytes]]


def opening_protocol(
    endpoint: Endpoint, connections: set[Any], open_connection: Open
) -> type[asyncio.Protocol]:
    """The class that uvicorn makes one of for each connection."""
    site = Site(endpoint, connections, open_connection, DeflateCache())
    http = type("UpgradingProtocol", (UpgradingProtocol,), {"site": site})
    return type("OpeningProtocol", (OpeningProtocol,), {"site": site, "http": http})


class OpeningProtocol(asyncio.Protocol):
    """A connection until its first bytes."""

    site: ClassVar[Site]
    http: ClassVar[type[UpgradingProtocol]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        self._too_slow = loop.call_later(uvicorn_limits.HEAD_SECONDS, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self._done()

    def shutdown(self) -> None:
        """What uvicorn calls when the server closes."""
        self.transport.close()

    def _done(self) -> None:
        self._too_slow.cancel()
        self._server_state.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        transport = self.transport
        upgrade = _upgrade_in(data)
        if upgrade is None or not _is_at(self.site.endpoint, upgrade[0]):
            self._server_state.connections.discard(self)
            http = self.http(self._config, self._server_state, self._app_state)
            http.too_slow = self._too_slow  # The time runs on until the head is there.
            http.connection_made(transport)
            transport.set_protocol(http)
            http.data_received(data)
            return
        self._done()
        url, headers, end = upgrade
        head = _Source(
            data[:end],
            get_local_addr(transport),
            get_remote_addr(transport),
            is_ssl(transport),
            self._config,
            self._app_state,
        )
        _upgrade(transport, head.scope(url, headers), data[end:], self.site, head)


@dataclass(slots=True)
class _Source:
    """What the scope of a request can be made from again; it takes a fifth of the memory."""

    head: bytes
    server: tuple[str, int | None] | None
    client: tuple[str, int] | None
    is_secure: bool
    config: Config
    app_state: dict[str, Any]

    def scope(self, url: bytes, headers: Headers) -> ASGIScope:
        """The scope, from a head that was parsed."""
        scope = {
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "server": self.server,
            "client": self.client,
            "root_path": self.config.root_path,
            "headers": headers,
            "state": self.app_state.copy(),
        }
        return _websocket_scope(scope, self.is_secure, url)

    def __call__(self) -> ASGIScope:
        upgrade = _upgrade_in(self.head)
        assert upgrade is not None
        return self.scope(*upgrade[:2])


class UpgradingProtocol(GuardedHttp):
    """HTTP/1.1 by uvicorn, with the endpoint's upgrades taken out."""

    site: ClassVar[Site]

    def upgrade(self, early: bytes) -> None:
        """See `GuardedHttp.upgrade`."""
        if not _is_at(self.site.endpoint, self.url):
            super().upgrade(early)
            return
        self.connections.discard(self)
        scope = _websocket_scope(self.scope, self.scheme == "https", self.url)
        _upgrade(self.transport, scope, early, self.site, None)


class _Head:
    """The head of a request, as the parser reports it."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def _upgrade_in(data: bytes) -> tuple[bytes, Headers, int] | None:
    """(URL, headers, length) of the upgrade request that bytes begin with, if it is a whole and
    simple one."""
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        end: int = upgrade.args[0]
    except httptools.HttpParserError:
        return None
    else:
        return None
    if parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
        return None
    names = [name for name, _ in head.headers]
    if (
        dict(head.headers).get(b"upgrade", b"").lower() != b"websocket"
        or names.count(b"connection") != 1  # Of several uvicorn looks at one.
        or data.find(_HEAD_END) + len(_HEAD_END) != end  # Another request is before it.
        or end > MAX_REQUEST_HEAD
        or len(names) > MAX_HEADERS
    ):
        return None
    return head.url, head.headers, end


def _is_at(endpoint: Endpoint, url: bytes) -> bool:
    return _path_of(url).rstrip("/") == endpoint.path.rstrip("/")


def _path_of(url: bytes) -> str:
    return unquote(url.partition(b"?")[0].decode("latin-1"))


def _websocket_scope(scope: Any, is_secure: bool, url: bytes) -> ASGIScope:
    raw_path, _, query = url.partition(b"?")
    return {
        **scope,
        "type": "websocket",
        "scheme": "wss" if is_secure else "ws",
        "path": _path_of(url),
        "raw_path": raw_path,
        "query_string": query,
        "subprotocols": _listed(scope["headers"], b"sec-websocket-protocol"),
        "extensions": {},
    }


def _upgrade(
    transport: asyncio.Transport,
    scope: ASGIScope,
    early: bytes,
    site: Site,
    again: Callable[[], ASGIScope] | None,
) -> None:
    upgrading = Upgrading(transport, scope, site, again)
    transport.set_protocol(upgrading)
    upgrading.start(early)


def _listed(headers: Headers, name: bytes) -> list[str]:
    values = ",".join(value.decode("latin-1") for n, value in headers if n == name)
    return [item.strip() for item in values.split(",") if item.strip()]
