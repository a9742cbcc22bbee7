"""Separates upgrades at the endpoint's path from all other HTTP, which uvicorn handles.

Most often the first bytes of a connection are one whole upgrade request. It is parsed by uvicorn's
parser, but without the objects that uvicorn keeps for an HTTP connection, which are a third of the
cost up to there. All other connections go to uvicorn's protocol.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from socketcluster.engines import request_limits
from socketcluster.engines.base import ASGIScope, Endpoint, Gate, Seat, UpgradeRefusedError
from socketcluster.engines.deflate import DeflateCache
from socketcluster.engines.request_limits import MAX_HEADERS, MAX_REQUEST_HEAD
from socketcluster.engines.upgrade import OpenConnection, UpgradeSite, Upgrading, refusal
from socketcluster.engines.uvicorn_limits import GuardedHttp

_HEAD_END = b"\r\n\r\n"

Headers = list[tuple[bytes, bytes]]


def opening_protocol(
    endpoint: Endpoint, connections: set[Any], open_connection: OpenConnection
) -> type[asyncio.Protocol]:
    """The protocol class for new connections: uvicorn makes an instance for each."""
    site = UpgradeSite(endpoint, connections, open_connection, DeflateCache())
    http = type("UpgradingProtocol", (UpgradingProtocol,), {"site": site})
    attributes = {"site": site, "http": http}
    if endpoint.admission is None:
        return type("OpeningProtocol", (OpeningProtocol,), attributes)
    return type("GatedProtocol", (GatedProtocol,), {**attributes, "gate": endpoint.admission})


class OpeningProtocol(asyncio.Protocol):
    """A new connection, until its first bytes arrive."""

    site: ClassVar[UpgradeSite]
    http: ClassVar[type[UpgradingProtocol]]
    seat: Seat | None = None

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
        self._waiting = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(request_limits.HEAD_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()

    def shutdown(self) -> None:
        """Close the connection; uvicorn calls this when the server closes."""
        self.transport.close()

    def _done(self) -> None:
        self._head_timer.cancel()
        self._server_state.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        pace = self.site.endpoint.pace
        if self._waiting:
            self._waiting += data
            if len(self._waiting) > MAX_REQUEST_HEAD:
                self.transport.pause_reading()
        elif pace.take():
            self._read(data)
        else:
            self._waiting = data
            self._head_timer.cancel()  # It does not time what the server takes.
            pace.wait(self._read_late)

    def _read_late(self) -> bool:
        transport, data = self.transport, self._waiting
        if transport.is_closing():
            return False
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(request_limits.HEAD_SECONDS, transport.abort)
        if len(data) > MAX_REQUEST_HEAD:
            transport.resume_reading()
        self._read(data)
        return True

    def _read(self, data: bytes) -> None:
        transport = self.transport
        upgrade = _upgrade_in(data)
        if upgrade is None or not _is_at(self.site.endpoint, upgrade[0]):
            self._server_state.connections.discard(self)
            http = self.http(self._config, self._server_state, self._app_state)
            http.head_timer = self._head_timer  # It runs on until the head is complete.
            http.seat = self.seat
            http.connection_made(transport)
            transport.set_protocol(http)
            http.data_received(data)
            return
        self.upgrade(data, *upgrade)

    def upgrade(self, data: bytes, url: bytes, headers: Headers, end: int) -> None:
        """Go on with an upgrade at the endpoint's path; its head ends at `end` of `data`."""
        transport = self.transport
        self._done()
        source = _ScopeSource(
            data[:end],
            _shared(get_local_addr(transport)),
            get_remote_addr(transport),
            is_ssl(transport),
            self._config,
            self._app_state,
        )
        scope = source.scope(url, headers)
        _upgrading(transport, scope, self.site, source, self.seat).start(data[end:])


class GatedProtocol(OpeningProtocol):
    """A new connection to an endpoint that limits connections."""

    gate: ClassVar[Gate]
    seat: Seat | None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.seat is not None:  # Taken before the TLS handshake.
            return
        client = get_remote_addr(transport)
        try:
            self.seat = self.gate.seat_peer(client[0] if client else None)
        except UpgradeRefusedError:
            # An answer would have to wait for the request, and for the client to read it.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.seat is not None:
            self.seat.release()

    def upgrade(self, data: bytes, url: bytes, headers: Headers, end: int) -> None:
        try:
            self.gate.check_room()
        except UpgradeRefusedError as refused:
            answer = refusal(refused.status, refused.message, refused.retry_after)
            self.transport.write(answer)
            self.transport.close()
            return
        super().upgrade(data, url, headers, end)


@dataclass(slots=True)
class _ScopeSource:
    """Makes a request's scope again when it is asked for, from a fifth of the scope's memory."""

    head: bytes
    server: tuple[str, int | None] | None
    client: tuple[str, int] | None
    is_secure: bool
    config: Config
    app_state: dict[str, Any]

    def scope(self, url: bytes, headers: Headers) -> ASGIScope:
        """The scope for a parsed head."""
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


@functools.lru_cache(maxsize=64)
def _shared(address: tuple[str, int | None] | None) -> tuple[str, int | None] | None:
    """Return one tuple for equal addresses: all connections of a listener have the same."""
    return address


class UpgradingProtocol(GuardedHttp):
    """uvicorn's HTTP/1.1 protocol, without the endpoint's upgrades, which go to `Upgrading`."""

    site: ClassVar[UpgradeSite]

    def upgrade(self, early: bytes) -> None:
        """See `GuardedHttp.upgrade`."""
        if not _is_at(self.site.endpoint, self.url):
            super().upgrade(early)
            return
        self.connections.discard(self)
        scope = _websocket_scope(self.scope, self.scheme == "https", self.url)
        _upgrading(self.transport, scope, self.site, None, self.seat).start_in_turn(early)


class _Head:
    """Collects a request's head from the parser."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def _upgrade_in(data: bytes) -> tuple[bytes, Headers, int] | None:
    """Parse an upgrade request.

    Returns (URL, headers, length), or None if `data` does not begin with a whole and simple one.
    """
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
        or names.count(b"connection") != 1  # uvicorn looks at one of several.
        or data.find(_HEAD_END) + len(_HEAD_END) != end  # Another request precedes it.
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
        "subprotocols": _comma_separated(scope["headers"], b"sec-websocket-protocol"),
        "extensions": {},
    }


def _upgrading(
    transport: asyncio.Transport,
    scope: ASGIScope,
    site: UpgradeSite,
    scope_again: Callable[[], ASGIScope] | None,
    seat: Seat | None,
) -> Upgrading:
    upgrading = Upgrading(transport, scope, site, scope_again, seat)
    transport.set_protocol(upgrading)
    return upgrading


def _comma_separated(headers: Headers, name: bytes) -> list[str]:
    values = ",".join(value.decode("latin-1") for n, value in headers if n == name)
    return [item.strip() for item in values.split(",") if item.strip()]
