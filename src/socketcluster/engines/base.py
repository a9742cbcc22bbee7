"""What a WebSocket engine is: it moves frames and knows nothing of the SocketCluster protocol.

The server is an `Endpoint`. An `Engine` listens on an address, hands every upgrade request at
`Endpoint.path` to `Endpoint.open`, and joins the `Connection` it made of it to the
`ConnectionHandler` it got back.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from socketcluster.engines.proxies import NO_PROXIES, TrustedProxies
from socketcluster.errors import InvalidArgumentsError

ASGIScope = MutableMapping[str, Any]
ASGIReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
ASGISend = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[ASGIScope, ASGIReceive, ASGISend], Awaitable[None]]


class UpgradeRefusedError(Exception):
    """Raised by `Endpoint.open`: the engine answers the upgrade with this HTTP status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class DeflateOptions:
    """permessage-deflate (RFC 7692) as the server offers it.

    Attributes:
        threshold: messages shorter than this many bytes are sent uncompressed.
        server_no_context_takeover: compress every message on its own; what is published is then
            compressed once for all subscribers.
        client_no_context_takeover: ask the client to do the same.
        server_max_window_bits, client_max_window_bits: 8 to 15, or None for the default.
        level: zlib level, 1 to 9.
    """

    threshold: int = 1024
    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    level: int = 6


class UpgradeRequest:
    """The HTTP request that opened a WebSocket; `socket.request` and `action.request`.

    All is read from its ASGI scope when it is asked for, as most sockets never are.

    Args:
        scope: the ASGI scope.
        again: makes the same scope once more, from less memory than it takes.

    Source: ASGI specification, HTTP & WebSocket.
    """

    __slots__ = ("_again", "_client", "_client_address", "_headers", "_proxies", "_scope", "_state")

    def __init__(self, scope: ASGIScope, again: Callable[[], ASGIScope] | None = None) -> None:
        self._scope: ASGIScope | None = scope
        self._again = again
        self._client: tuple[str | None, int | None] = scope.get("client") or (None, None)
        self._client_address: str | None = None
        self._headers: dict[str, str] | None = None
        self._proxies = NO_PROXIES
        self._state: dict[str, Any] | None = None

    @property
    def scope(self) -> ASGIScope:
        """The ASGI scope (built by the picows engine too)."""
        self._scope = self._read()
        self._again = None  # Whoever has it may change it: it is kept from now on.
        return self._scope

    def condense(self) -> None:
        """Keep only what the scope can be made from again, unless somebody has asked for it."""
        if self._again is not None:
            self._scope = self._headers = None

    def _read(self) -> ASGIScope:
        if self._scope is not None:
            return self._scope
        assert self._again is not None
        return self._again()

    @property
    def url(self) -> str:
        """The path, as it was sent, with the query string."""
        scope = self._read()
        raw_path = scope.get("raw_path")
        target = raw_path.decode("latin-1") if raw_path else scope["path"]
        query = scope.get("query_string", b"").decode("latin-1")
        return f"{target}?{query}" if query else target

    @property
    def path(self) -> str:
        """The path, decoded."""
        path: str = self._read()["path"]
        return path

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case names. Several values of one name are joined by ", ", and those
        of "cookie" by "; ".
        """
        if self._headers is None:
            headers: dict[str, str] = {}
            for raw_name, raw_value in self._read()["headers"]:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                if name in headers:
                    value = headers[name] + _separator(name) + value
                headers[name] = value
            self._headers = headers
        return self._headers

    def header(self, name: str) -> str | None:
        """One header by its lower-case name, as `headers` has it, or None."""
        if self._headers is not None:
            return self._headers.get(name)
        raw = name.encode("latin-1")
        found = [v.decode("latin-1") for n, v in self._read()["headers"] if n.lower() == raw]
        return _separator(name).join(found) if found else None

    @property
    def state(self) -> dict[str, Any]:
        """Free for middleware: what it learnt in HANDSHAKE_WS for later actions."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def remote_address(self) -> str | None:
        """The client's IP address, as the connection shows it; None on a Unix socket."""
        return self._client[0]

    @property
    def remote_port(self) -> int | None:
        """The client's port."""
        return self._client[1]

    @property
    def remote_family(self) -> str:
        """ "IPv4", "IPv6" or "unix"."""
        address = self.remote_address
        if not address:
            return "unix"
        return "IPv6" if ":" in address else "IPv4"

    @property
    def client_address(self) -> str | None:
        """The client's IP address: that of the connection, or the one that trusted proxies put
        into X-Forwarded-For. None on a Unix socket whose peers are not trusted.

        An IPv4 address in IPv6 form is given as IPv4. Under an ASGI server of your own the
        connection's address is what `scope["client"]` says.

        Source: the `trusted_proxies` option.
        """
        if self._client_address is None:
            self._client_address = self._proxies.client_address(
                self._client[0], lambda: self.header("x-forwarded-for") or ""
            )
        return self._client_address

    def trust(self, proxies: TrustedProxies) -> None:
        """Have `client_address` believe these proxies."""
        self._proxies = proxies
        self._client_address = None

    @property
    def forwarded_for_address(self) -> str | None:
        """The first address of X-Forwarded-For, if that header is there. A client can forge it:
        see `client_address`.
        """
        forwarded = (self.header("x-forwarded-for") or "").split(",")[0].strip()
        return forwarded or None

    @property
    def subprotocols(self) -> Sequence[str]:
        """The sub-protocols that the client offers."""
        return list(self._read().get("subprotocols") or ())


def _separator(name: str) -> str:
    """What joins several values of a header. Source: RFC 6265, section 5.4, for cookies."""
    return "; " if name == "cookie" else ", "


class Connection(Protocol):
    """One open WebSocket, as the engine gives it to its handler. Used from the loop it runs in."""

    def write(self, frames: Sequence[bytes]) -> int:
        """Send finished server frames (unmasked, final, RSV bits 0), in order, in one go.

        The same bytes object, and the same list, may be given to many connections. An engine
        that compresses or that speaks in messages takes the payload out of the frame. Ignored
        once closed. Returns `get_write_buffer_size()`.
        """

    def get_write_buffer_size(self) -> int:
        """Bytes written and not yet taken by the kernel, pongs and close frames included."""

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""

    def get_activity(self) -> object:
        """A value that changes when bytes come in, also those of a control frame or of a message
        that is not complete yet, as far as the engine sees them. Asked only of a silent peer."""

    def get_incomplete_size(self) -> int:
        """Bytes held of a message that is not complete yet, as far as the engine sees them."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what was written; the reason is cut to 123 bytes.

        The handler's `connection_lost` follows: when the peer answers, or when it did not
        within a few seconds. No message is delivered after this call.
        """

    def abort(self) -> None:
        """Drop the connection without a close frame; `connection_lost(1006, "")` follows."""

    def pause_reading(self) -> None:
        """Stop reading from the peer, so that TCP pushes back. Messages already read may follow."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""


class ConnectionHandler(Protocol):
    """What the protocol side offers an engine: all called in the loop, none may raise or block."""

    def connection_made(self, connection: Connection) -> None:
        """The upgrade was answered; called once, before any message."""

    def text_received(self, data: bytes) -> None:
        """One whole text message: valid UTF-8, reassembled, inflated, within `max_payload`."""

    def binary_received(self, data: bytes) -> None:
        """One whole binary message, likewise."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Called once, last. 1005: a close frame without a code; 1006: none was received."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """`Endpoint.open`'s yes: who handles the connection, and the sub-protocol chosen, if any."""

    handler: ConnectionHandler
    subprotocol: str | None = None


class Endpoint(Protocol):
    """What a server is to its engine."""

    @property
    def path(self) -> str:
        """The URL path served; a request with or without its trailing slash is meant too."""

    @property
    def max_payload(self) -> int:
        """Bytes in one message, also after inflating; a longer one closes with 1009."""

    @property
    def max_first_message(self) -> int:
        """Bytes that may come before the first message is complete; more close with 1009."""

    @property
    def max_outbound_buffer(self) -> int:
        """Bytes that pongs and other answers of the engine itself may make a connection hold."""

    @property
    def deflate(self) -> DeflateOptions | None:
        """permessage-deflate, or None when it is off."""

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        """`open`, where nothing has to be waited for; else None, and nothing was done.

        Raises:
            UpgradeRefusedError: the upgrade is refused.
        """

    async def open(self, request: UpgradeRequest) -> Accepted:
        """Decide on an upgrade. Cancelled when the peer goes away before it is answered.

        Raises:
            UpgradeRefusedError: the upgrade is refused.
        """


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen. `uds` (a path) wins over host and port; port 0 lets the system choose.

    `fd` is a bound socket that this process has inherited, and wins over both. With `reuse_port`
    several processes listen on one port, and the system spreads connections among them.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    fd: int | None = None
    reuse_port: bool = False

    def __post_init__(self) -> None:
        if type(self.port) is not int or not 0 <= self.port <= 65535:
            raise InvalidArgumentsError(
                f"The port must be an integer from 0 to 65535, not {self.port!r}"
            )
        if not isinstance(self.host, str):
            raise InvalidArgumentsError(f"The host must be a text, not {self.host!r}")
        for name in ("uds", "ssl_certfile", "ssl_keyfile"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, str | os.PathLike):
                raise InvalidArgumentsError(f"{name} must be a path, not {path!r}")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise InvalidArgumentsError("ssl_keyfile needs ssl_certfile: give both")

    def url(self, port: int | None) -> str:
        """Where it is, for people; `port` is the one in use."""
        if self.uds is not None:
            return f"unix:{self.uds}"
        scheme = "http" if self.ssl_certfile is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}"


class Listener(Protocol):
    """A bound, accepting server."""

    @property
    def port(self) -> int | None:
        """The port in use; None on a Unix socket."""

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections go on. The port is free after this."""

    async def close(self) -> None:
        """Stop accepting, end what HTTP is still open, and free everything."""


class Engine(Protocol):
    """Listens, and turns upgrade requests into connections of an endpoint."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Listener:
        """Bind and accept. `app` answers plain HTTP, and WebSocket paths other than ours.

        Raises:
            OSError: the address cannot be bound or the certificate cannot be read.
        """
