"""The contract between a server and a WebSocket engine.

An engine moves frames and knows nothing of the SocketCluster protocol. A complete server on an
engine, which sends every message back, is this:

    class EchoHandler:
        def connection_made(self, connection):
            self.connection = connection

        def text_received(self, data):
            self.connection.write([text_frame(data)])

        def binary_received(self, data):
            self.connection.write([binary_frame(data)])

        def connection_lost(self, code, reason):
            pass

    class EchoEndpoint:
        path = "/"
        max_payload = max_first_message = 16 * 1024 * 1024
        max_outbound_buffer = 64 * 1024 * 1024
        deflate = None
        admission = None
        pace = Pace(16)

        def open_now(self, request):
            return Accepted(EchoHandler())

        async def open(self, request):
            return Accepted(EchoHandler())

    engine = resolve_engine("picows", {})
    listener = await engine.listen(EchoEndpoint(), http_application, ListenAddress(port=8000))

`socketcluster/testing/echo.py` is that program with a command line. An `Engine` listens on an
address, passes every upgrade request at `Endpoint.path` to `Endpoint.open`, and joins the
`Connection` that it makes of it to the `ConnectionHandler` that it gets back. All of these are used
in one event loop.

An engine guarantees to a handler:

- `connection_made` is called first and once, `connection_lost` last and once.
- Messages arrive whole and in order. None is skipped while the connection is open, and none follows
  `Connection.close`, `Connection.abort` or `connection_lost`.
- The messages of one connection in one loop turn are limited (see `turn_budget.py`), so that no
  sender delays the others.
- Input is limited before it is kept: by `max_payload`, and until the first message is complete by
  `max_first_message`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from socketcluster.engines.asgi_types import ASGIApp, ASGIReceive, ASGIScope, ASGISend
from socketcluster.engines.pace import Pace
from socketcluster.engines.upgrade_request import Seat, UpgradeRequest
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError

__all__ = [
    "CLOSE_SECONDS",
    "ASGIApp",
    "ASGIReceive",
    "ASGIScope",
    "ASGISend",
    "Accepted",
    "Connection",
    "ConnectionHandler",
    "DeflateOptions",
    "Endpoint",
    "Engine",
    "Gate",
    "ListenAddress",
    "Listener",
    "Pace",
    "Seat",
    "UpgradeRefusedError",
    "UpgradeRequest",
]

CLOSE_SECONDS = 3.0
"""Time for a peer to answer a close frame, or to read the frames before it."""


class UpgradeRefusedError(Exception):
    """An endpoint refuses an upgrade; the engine answers with this HTTP status and text."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """`retry_after` is the number of seconds in the Retry-After header, if it is sent."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Gate(Protocol):
    """The limits that an endpoint sets to connections before their requests are decided on."""

    def seat_peer(self, peer: str | None) -> Seat | None:
        """Count a new connection from an address, before its head is read; None for no seat.

        The peer of a Unix socket has no address.

        Raises:
            UpgradeRefusedError: there are too many. The engine drops the connection.
        """
        ...

    def check_room(self) -> None:
        """Check, before anything is made for an upgrade, whether there is room for one more.

        Raises:
            UpgradeRefusedError: there is none.
        """


@dataclass(frozen=True, slots=True)
class DeflateOptions:
    """Options of permessage-deflate (RFC 7692).

    Attributes:
        threshold: messages shorter than this many bytes are sent uncompressed.
        server_no_context_takeover: compress every message on its own; a publish is then compressed
            once for all subscribers.
        client_no_context_takeover: ask the client to do the same.
        server_max_window_bits: 9 to 15, or None for the default.
        client_max_window_bits: 8 to 15, or None for the default.
        level: zlib level, 1 to 9.

    Raises:
        InvalidOptionsError: a value is invalid.
    """

    threshold: int = 1024
    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    level: int = 6

    def __post_init__(self) -> None:
        for name in ("server_no_context_takeover", "client_no_context_takeover"):
            self._check(name, "True or False", type(getattr(self, name)) is bool)
        at_least = type(self.threshold) is int and self.threshold >= 0
        self._check("threshold", "an integer of at least 0", at_least)
        # zlib makes no raw stream with a window of 8 bits.
        for name, least, most in (
            ("server_max_window_bits", 9, 15),
            ("client_max_window_bits", 8, 15),
            ("level", 1, 9),
        ):
            value = getattr(self, name)
            within = type(value) is int and least <= value <= most
            default = value is None and name != "level"
            self._check(name, f"an integer from {least} to {most}", within or default)

    def _check(self, name: str, expected: str, is_valid: bool) -> None:
        if not is_valid:
            option = "per_message_deflate"
            value = getattr(self, name)
            raise InvalidOptionsError(
                f"The {option} option must have as {name} {expected}, not {value!r}", option
            )


class Connection(Protocol):
    """One open WebSocket. The engine passes it to its handler; it is used in the engine's loop.

    No method blocks. Frames are sent in the order of the calls. After `close` or `abort` all
    methods may still be called and have no effect.
    """

    def write(self, frames: Sequence[bytes]) -> int:
        """Send finished server frames (unmasked, final, RSV bits 0), in order, in one go.

        The same bytes object, and the same list, may be passed to many connections. An engine
        that compresses, or sends messages instead of frames, extracts the payload. Returns
        `get_write_buffer_size()`.
        """
        ...

    def get_write_buffer_size(self) -> int:
        """Bytes written but not passed to the kernel yet, including pongs and close frames."""
        ...

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""
        ...

    def get_activity(self) -> object:
        """A value that changes whenever bytes arrive, as far as the engine sees them.

        Bytes of control frames and incomplete messages count. It is used for silent peers only.
        """

    def get_incomplete_size(self) -> int:
        """Bytes held of an incomplete message, as far as the engine sees them."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind the frames written before; the reason is cut to 123 bytes.

        1005 sends it without a code. An engine that cannot do so sends 4001 instead, after which
        clients come back at once, too.

        `connection_lost` follows when the peer has answered, at the latest after `CLOSE_SECONDS`.
        No message is delivered after this call.
        """

    def abort(self) -> None:
        """Drop the connection without a close frame.

        `connection_lost` follows, with 1006 and "" unless a close frame was received before.
        """

    def pause_reading(self) -> None:
        """Stop reading, so that TCP slows the peer down. Messages read before may still follow."""

    def resume_reading(self) -> None:
        """Resume reading after `pause_reading`."""


class ConnectionHandler(Protocol):
    """Handles one connection's messages.

    Methods are called in the engine's loop, and must not raise or block.
    """

    def connection_made(self, connection: Connection) -> None:
        """Called once, first, when the upgrade is answered."""

    def text_received(self, data: bytes) -> None:
        """Called with each whole text message: valid UTF-8, inflated, within `max_payload`."""

    def binary_received(self, data: bytes) -> None:
        """Called with each whole binary message: inflated, within `max_payload`."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Called once, last. Code 1005: a close frame without a code; 1006: no close frame."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An endpoint accepts an upgrade, with this handler and sub-protocol."""

    handler: ConnectionHandler
    subprotocol: str | None = None


class Endpoint(Protocol):
    """Decides about upgrades, and holds the limits of connections. A server implements it."""

    @property
    def path(self) -> str:
        """The URL path of WebSockets. A trailing slash makes no difference."""
        ...

    @property
    def max_payload(self) -> int:
        """Bytes in one message, after inflating; a longer one closes with 1009."""
        ...

    @property
    def max_first_message(self) -> int:
        """Bytes that may arrive until the first message is complete; more close with 1009."""
        ...

    @property
    def max_outbound_buffer(self) -> int:
        """Bytes that may wait to be written while the engine itself answers, with pongs."""
        ...

    @property
    def deflate(self) -> DeflateOptions | None:
        """permessage-deflate, or None when it is off."""

    @property
    def admission(self) -> Gate | None:
        """The limits of new connections, or None without any."""

    @property
    def pace(self) -> Pace:
        """The pace at which upgrade requests are read and answered."""
        ...

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        """Decide about an upgrade at once.

        Returns None, without side effects, if the decision has to wait: `open` is called then.

        Raises:
            UpgradeRefusedError: the upgrade is refused.
        """

    async def open(self, request: UpgradeRequest) -> Accepted:
        """Decide about an upgrade. Cancelled when the peer leaves before the answer.

        Raises:
            UpgradeRefusedError: the upgrade is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on: `fd`, else `uds`, else `host` and `port`.

    Attributes:
        host: a name or an IP address.
        port: 0 lets the system choose.
        uds: the path of a Unix socket.
        ssl_certfile, ssl_keyfile: paths of PEM files; the key may be in the certificate's file.
        fd: a bound socket that this process inherited.
        reuse_port: let several processes listen on one port; the system spreads the connections.

    Raises:
        InvalidArgumentsError: a value of the wrong type or range, or a key without a certificate.
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
        """The address as a URL for people; `port` is the one in use."""
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
        """Close the listening socket. The port is free then; open connections go on."""

    async def close(self) -> None:
        """Stop accepting, end open HTTP requests and connections, and free everything.

        Cancelling drops the rest without waiting for it.
        """


class Engine(Protocol):
    """Listens, and turns upgrade requests into an endpoint's connections."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Listener:
        """Bind and accept. Cancelling frees the address.

        `app` answers plain HTTP, and WebSockets at other paths than the endpoint's.

        Raises:
            OSError: the address cannot be bound or the certificate cannot be read.
        """
        ...
