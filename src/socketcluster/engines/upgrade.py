"""Upgrades a connection to a WebSocket.

Checks the request (RFC 6455, section 4.2.1), asks the endpoint, and writes the answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from socketcluster.engines.base import (
    Accepted,
    ASGIScope,
    ConnectionHandler,
    Endpoint,
    Seat,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.engines.deflate import Deflate, DeflateCache, negotiate
from socketcluster.engines.request_limits import MAX_EARLY_DATA
from socketcluster.protocol.state import CLOSE_HUNG_UP

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

OpenConnection = Callable[
    [asyncio.Transport, ConnectionHandler, Endpoint, Deflate | None, set[Any], bytes], None
]
"""(transport, handler, endpoint, deflate, connections, bytes behind the request)"""


@dataclass(frozen=True, slots=True)
class UpgradeSite:
    """State that the connections of one listener share."""

    endpoint: Endpoint
    connections: set[Any]
    open_connection: OpenConnection
    cache: DeflateCache


class Upgrading(asyncio.Protocol):
    """A connection while the endpoint decides. Keeps the bytes that the client sends meanwhile.

    Args:
        scope_again: makes the scope once more, from less memory than it takes.
        seat: see `UpgradeRequest`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        scope: ASGIScope,
        site: UpgradeSite,
        scope_again: Callable[[], ASGIScope] | None,
        seat: Seat | None = None,
    ) -> None:
        self._transport = transport
        self._scope = scope
        self._request = UpgradeRequest(scope, scope_again)
        self._request.seat = seat
        self._site = site
        self._early = bytearray()
        self._task: asyncio.Task[None] | None = None
        site.connections.add(self)

    def start_in_turn(self, early: bytes) -> None:
        """Start as soon as the endpoint's pace allows it."""
        pace = self._site.endpoint.pace
        if pace.take():
            self.start(early)
        else:
            self._early += early
            pace.wait(self._start_late)

    def _start_late(self) -> bool:
        if self._transport.is_closing():
            return False
        self.start(b"")
        return True

    def start(self, early: bytes) -> None:
        """Check the request and ask the endpoint."""
        self._early += early
        fault = request_fault(self._scope)
        if fault is not None:
            self._refuse(*fault)
            return
        try:
            accepted = self._site.endpoint.open_now(self._request)
        except UpgradeRefusedError as refusal:
            self._refuse(refusal.status, refusal.message, refusal.retry_after)
            return
        except Exception as error:
            self._failed(error)
            return
        if accepted is not None:
            self._accept(accepted)
        else:
            self._task = asyncio.ensure_future(self._decide())

    def data_received(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > MAX_EARLY_DATA:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.connections.discard(self)
        self._request.leave()
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    async def _decide(self) -> None:
        try:
            accepted = await self._site.endpoint.open(self._request)
        except UpgradeRefusedError as refusal:
            self._refuse(refusal.status, refusal.message, refusal.retry_after)
            return
        except Exception as error:
            self._failed(error)
            return
        self._task = None
        if self._transport.is_closing():
            accepted.handler.connection_lost(CLOSE_HUNG_UP, "")
        else:
            self._accept(accepted)

    def _accept(self, accepted: Accepted) -> None:
        site = self._site
        headers = dict(self._scope["headers"])
        deflate = None
        answer = _accept_headers(headers[b"sec-websocket-key"])
        if accepted.subprotocol is not None:
            answer += b"Sec-WebSocket-Protocol: " + accepted.subprotocol.encode() + b"\r\n"
        if site.endpoint.deflate is not None:
            offer = b", ".join(
                v for n, v in self._scope["headers"] if n == b"sec-websocket-extensions"
            )
            agreed = negotiate(offer.decode("latin-1") or None, site.endpoint.deflate, site.cache)
            if agreed is not None:
                header, deflate = agreed
                answer += b"Sec-WebSocket-Extensions: " + header.encode() + b"\r\n"
        self._transport.write(answer + b"\r\n")
        site.connections.discard(self)
        self._request.condense()
        if len(self._early) > MAX_EARLY_DATA:
            self._transport.resume_reading()  # First: the handler may pause it again.
        site.open_connection(
            self._transport,
            accepted.handler,
            site.endpoint,
            deflate,
            site.connections,
            bytes(self._early),
        )

    def _failed(self, error: Exception) -> None:
        self._refuse(500, "Internal Server Error")
        asyncio.get_running_loop().call_exception_handler(
            {"message": "The endpoint failed to decide on an upgrade", "exception": error}
        )

    def _refuse(self, status: int, message: str, retry_after: int | None = None) -> None:
        self._transport.write(refusal(status, message, retry_after))
        self._transport.close()


def refusal(status: int, message: str, retry_after: int | None = None) -> bytes:
    """An HTTP response that refuses a request and ends the connection."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    body = message.encode("utf-8", "replace")
    lines = "Connection: close\r\n"
    if status == 426:
        lines = "Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
    if retry_after is not None:
        lines += f"Retry-After: {retry_after}\r\n"
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{lines}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def request_fault(scope: ASGIScope) -> tuple[int, str] | None:
    """Return (status, text) if a request is not a valid opening handshake, else None."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    if scope["method"] != "GET" or scope["http_version"] != "1.1":
        return 400, "A WebSocket is opened by GET with HTTP/1.1"
    if b"transfer-encoding" in headers or headers.get(b"content-length", [b"0"]) != [b"0"]:
        return 400, "A WebSocket is opened by a request without a body"
    if len(headers.get(b"host", ())) != 1:
        return 400, "Exactly one Host header is required"
    if headers.get(b"sec-websocket-version") != [b"13"]:
        return 426, "Sec-WebSocket-Version must be 13"
    keys = headers.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0].strip()):
        return 400, "Exactly one Sec-WebSocket-Key of 16 bytes in base64 is required"
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _accept_headers(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key.strip() + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n"
    )
