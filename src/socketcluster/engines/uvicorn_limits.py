r"""uvicorn's HTTP/1.1 and WebSocket protocols, with limits on requests that uvicorn does not have.

Both engines use these two protocols. A plain uvicorn can use them as well:

    uvicorn main:server --http socketcluster.engines.uvicorn_limits:GuardedHttp \
                        --ws socketcluster.engines.uvicorn_limits:GuardedWebSocket

They use private names of uvicorn's protocols, as `uvicorn_websocket.py` and `uvicorn_http.py` do.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.protocol import OPEN

from socketcluster.engines import request_limits
from socketcluster.engines.base import Endpoint, Seat
from socketcluster.engines.compatibility import require
from socketcluster.engines.request_limits import MAX_EARLY_DATA, MAX_REQUEST_HEAD, head_too_large
from socketcluster.engines.upgrade import refusal, request_fault
from socketcluster.engines.uvicorn_websocket import BudgetedWebSocket

require(
    "uvicorn",
    HttpToolsProtocol,
    *("connection_made", "connection_lost", "data_received", "handle_websocket_upgrade"),
    *("on_body", "on_header", "on_headers_complete", "on_message_complete", "on_url"),
    *("_should_upgrade", "_start_asgi_task", "_unset_keepalive_if_required"),
)

_PLACEHOLDER_REQUEST = b"GET / HTTP/1.1\r\n\r\n"
"""Makes `websockets` report a request, which is then replaced by the one that was parsed."""


class _RefusedError(Exception):
    """Raised inside a callback of the parser, to stop it: (status, text) of the answer."""


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits on the size of a request's head and on its time.

    Attributes:
        head_timer: drops the connection when a head is late, or a refused client lingers.
        seat: the connection's place among those of its address, if they are limited.
    """

    head_timer: asyncio.TimerHandle | None = None
    seat: Seat | None = None
    cycle: RequestResponseCycle
    _in_head = True
    _head_size = 0  # Bytes since the last body: of a head, or of trailers.
    _refused = False
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self.seat is not None:
            self.seat.release()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        if self.head_timer is None:
            self.head_timer = self.loop.call_later(
                request_limits.HEAD_SECONDS, self.transport.abort
            )

    def _stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    @property
    def _is_busy(self) -> bool:
        """Whether a request is not answered in full yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        if not self._is_busy:  # Else the next head waits until this request is answered.
            self._start_timer()
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
                self.parser.feed_data(data[start:end])  # pyright: ignore[reportOptionalMemberAccess]
            except httptools.HttpParserUpgrade as upgrade:
                end = start + upgrade.args[0]
                if self._should_upgrade():
                    self._check_upgrade()
                    self.upgrade(bytes(data[end:]))
                    # This protocol is done, and refers to itself through its parser: without this
                    # the garbage collector would have to free it.
                    self.__dict__.clear()
                    return
                # The client offered another protocol: answer as if it had not.
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, _RefusedError):
                    raise error.__context__ from None
                raise _RefusedError(400, "Invalid HTTP request received.") from error
            start = end

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # Else it is a trailer, which ASGI does not pass on.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        self._stop_timer()
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
        """Go on as a WebSocket; `early` are the bytes behind the request."""
        protocol_class = self.ws_protocol_class
        if protocol_class is None or not issubclass(protocol_class, GuardedWebSocket):
            self.handle_websocket_upgrade()
            return
        self.connections.discard(self)
        protocol = protocol_class(self.config, self.server_state, self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.seat = self.seat
        protocol.begin(self.url, self.headers, early)

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error, unless an earlier request's answer has begun, and close."""
        self._refused = True
        begun = False
        if self._answering is not None and not self._answering.response_complete:
            begun = self._answering.response_started
            self._answering.disconnected = True
            self._answering.message_event.set()
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]
        self._stop_timer()
        self._unset_keepalive_if_required()
        transport = self.transport
        if not begun:
            transport.write(refusal(status, message))
        if begun or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            self.flow.resume_reading()
        self.head_timer = self.loop.call_later(request_limits.LINGER_SECONDS, transport.abort)


class GuardedWebSocket(BudgetedWebSocket):
    """uvicorn's WebSocket protocol, with limits that uvicorn does not have.

    - It uses the head that `GuardedHttp` parsed, because `websockets` refuses lines over 8 KiB and
      more than 128 headers.
    - It keeps bytes that arrive before its answer, for which `websockets` has no state.
    - It limits the pongs for a client that does not read.
    - It does not write to a closing transport, which would log each write.
    - At `own_path` it sends no pings, for the server there has its own; uvicorn's close a
      connection that does not answer within 20 s.

    Attributes:
        max_outbound_buffer: a ping drops the connection while more bytes than these wait to be
            written.
    """

    max_outbound_buffer: ClassVar[int] = 4 * 1024 * 1024
    seat: Seat | None = None
    _request: Request | None = None
    _early = b""

    def begin(self, url: bytes, headers: list[tuple[bytes, bytes]], early: bytes) -> None:
        """Open a WebSocket with a parsed request; `early` are the bytes behind it."""
        pairs = [(name.decode("ascii"), value.decode("latin-1")) for name, value in headers]
        self._request = Request(url.decode("ascii"), Headers(pairs))
        super().data_received(_PLACEHOLDER_REQUEST)
        if early:
            self.data_received(early)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(self._request or event)
        self._request = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.seat is not None:
            self.seat.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_complete or not self.handshake_initiated:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) > MAX_EARLY_DATA:
            self.transport.pause_reading()

    async def send(self, message: ASGISendEvent) -> None:
        if self._is_leaving() and message["type"] == "websocket.send":
            # `receive` still delivers earlier messages; an error here would end the application.
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
        """Whether the connection is broken, and the application does not know yet."""
        closing = self.transport.is_closing() and not self._finished
        return closing and self.conn.state is OPEN

    def start_keepalive(self) -> None:
        if not self.is_own():
            super().start_keepalive()

    def handle_ping(self) -> None:
        if self.transport.is_closing():
            self.conn.data_to_send()  # Else `websockets` would keep the pong.
        elif self.transport.get_write_buffer_size() > self.max_outbound_buffer:
            self.transport.abort()
        else:
            super().handle_ping()


def guarded_websocket(endpoint: Endpoint) -> type[GuardedWebSocket]:
    """The WebSocket protocol with an endpoint's limits."""
    limits = {
        "max_outbound_buffer": endpoint.max_outbound_buffer,
        "own_path": endpoint.path,
        "max_first_message": endpoint.max_first_message,
    }
    return type("WebSocket", (GuardedWebSocket,), limits)
