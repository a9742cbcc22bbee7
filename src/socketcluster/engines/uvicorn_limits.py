"""HTTP/1.1 and WebSocket by uvicorn, with the limits on requests that uvicorn does not have.

Both engines use these two protocols. A plain uvicorn can be given them as well:

    uvicorn main:server --http socketcluster.engines.uvicorn_limits:GuardedHttp \\
                        --ws socketcluster.engines.uvicorn_limits:GuardedWebSocket

The private names of uvicorn's protocols are here and in `opening.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import OPEN

from socketcluster.engines.upgrade import MAX_EARLY_DATA, refusal, request_fault
from socketcluster.engines.uvicorn_slices import SlicedWebSocket

MAX_REQUEST_HEAD = 64 * 1024
"""Bytes of the request line and the headers of one request."""

MAX_HEADERS = 200

HEAD_SECONDS = 10.0
"""How long a client may take to send the head of a request, and for a TLS handshake."""

LINGER_SECONDS = 1.0
"""How long a refused client may take to read why. Until then it is read from: a connection that is
closed with unread data is reset, and its client would not see the answer."""

_ANY_REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def head_too_large(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a head is over the limits, by its parts."""
    sizes = [len(name) + len(value) + 4 for name, value in headers]
    return len(sizes) > MAX_HEADERS or len(url) + sum(sizes) > MAX_REQUEST_HEAD


class _RefusedError(Exception):
    """Raised out of the parser, which stops it: (status, text) of the answer."""


class GuardedHttp(HttpToolsProtocol):
    """HTTP/1.1 by uvicorn, with a bound on the size of a request's head and on its time."""

    too_slow: asyncio.TimerHandle | None = None
    _in_head = True
    _head_size = 0  # Bytes since the last body: of a head, or of trailers.
    _refused = False
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def _await_head(self) -> None:
        if self.too_slow is None:
            self.too_slow = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self.too_slow is not None:
            self.too_slow.cancel()
            self.too_slow = None

    @property
    def _is_busy(self) -> bool:
        """Whether a request has not been answered in full."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        if not self._is_busy:  # Else the next head waits for the answer to this request.
            self._await_head()
        try:
            self._parse(memoryview(data))
        except _RefusedError as refused:
            self.refuse(*refused.args)

    def _parse(self, data: memoryview) -> None:
        start = 0
        while start < len(data):
            end = min(len(data), start + MAX_REQUEST_HEAD - self._head_size)
            if end == start:
                raise _RefusedError(431, "Request head too large")
            self._head_size += end - start
            try:
                self.parser.feed_data(data[start:end])
            except httptools.HttpParserUpgrade as upgrade:
                end = start + upgrade.args[0]
                if self._should_upgrade():
                    self._check_upgrade()
                    self.upgrade(bytes(data[end:]))
                    # Nobody needs it any more, and it refers to itself by its parser: without
                    # this the garbage collector would have to find it.
                    self.__dict__.clear()
                    return
                # Another protocol was offered: the request is answered as one without an offer.
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, _RefusedError):
                    raise error.__context__ from None
                raise _RefusedError(400, "Invalid HTTP request received.") from error
            start = end

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # Else it is a trailer, which no application is given.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        self._stop_waiting()
        if head_too_large(self.url, self.headers):
            raise _RefusedError(431, "Request head too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _check_upgrade(self) -> None:
        if self._is_busy:
            raise _RefusedError(400, "An earlier request of this connection is not answered yet")
        scope: Any = self.scope
        fault = request_fault(scope)
        if fault is not None:
            raise _RefusedError(*fault)

    def upgrade(self, early: bytes) -> None:
        """Go on as a WebSocket; `early` is what followed the request."""
        kind = self.ws_protocol_class
        if kind is None or not issubclass(kind, GuardedWebSocket):
            self.handle_websocket_upgrade()
            return
        self.connections.discard(self)
        protocol = kind(self.config, self.server_state, self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.begin(self.url, self.headers, early)

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error, unless an earlier answer has begun, and close."""
        self._refused = True
        begun = False
        if self._answering is not None and not self._answering.response_complete:
            begun = self._answering.response_started
            self._answering.disconnected = True
            self._answering.message_event.set()
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]
        self._stop_waiting()
        self._unset_keepalive_if_required()
        transport = self.transport
        if not begun:
            transport.write(refusal(status, message))
        if begun or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            self.flow.resume_reading()
        self.too_slow = self.loop.call_later(LINGER_SECONDS, transport.abort)


class GuardedWebSocket(SlicedWebSocket):
    """WebSocket by uvicorn. It takes the head that was parsed already, as `websockets` takes no
    line over 8 KiB and no more than 128 headers; it keeps what comes before its answer, which
    `websockets` has no state for; pongs to a client that does not read are bounded; and nothing is
    written to a transport that is closing, which would log each write.

    Attributes:
        max_outbound_buffer: bytes waiting past which a ping drops the connection.

    At `own_path` the pings of uvicorn, which close a connection that has not answered one for 20 s,
    are left out: what is served there has its own.
    """

    max_outbound_buffer: ClassVar[int] = 4 * 1024 * 1024
    _request: Request | None = None
    _early = b""

    def begin(self, url: bytes, headers: list[tuple[bytes, bytes]], early: bytes) -> None:
        """Open a WebSocket by a request that was parsed; `early` is what followed it."""
        pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers]
        self._request = Request(url.decode("ascii"), Headers(pairs))
        super().data_received(_ANY_REQUEST)
        if early:
            self.data_received(early)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(self._request or event)
        self._request = None

    def data_received(self, data: bytes) -> None:
        if self.handshake_complete or not self.handshake_initiated:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) > MAX_EARLY_DATA:
            self.transport.pause_reading()

    async def send(self, message: ASGISendEvent) -> None:
        if self._is_leaving() and message["type"] == "websocket.send":
            # `receive` goes on until it has delivered what came before.
            await self.writable.wait()
            return
        await super().send(message)
        if self._early and self.handshake_complete:
            early, self._early = self._early, b""
            if len(early) > MAX_EARLY_DATA:
                self.transport.resume_reading()
            if not self.close_sent:
                super().data_received(early)

    def _is_leaving(self) -> bool:
        """Whether the line is broken, and the application is not told yet."""
        closing = self.transport.is_closing() and not self.disconnected
        return closing and self.conn.state is OPEN

    def start_keepalive(self) -> None:
        if not self.is_own():
            super().start_keepalive()

    def handle_ping(self) -> None:
        if self.transport.is_closing():
            self.conn.data_to_send()  # Else it would keep the pong.
        elif self.transport.get_write_buffer_size() > self.max_outbound_buffer:
            self.transport.abort()
        else:
            super().handle_ping()
