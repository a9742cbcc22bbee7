"""uvicorn's WebSocket protocol, with a budget for each loop turn.

A read may bring 256 KiB, and `websockets` takes some 10 µs for a frame, however small.
"""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Generator
from typing import Any, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.streams import StreamReader

from socketcluster.engines.assembler import max_fragments
from socketcluster.engines.closed_transport import CLOSED_TRANSPORT
from socketcluster.engines.compatibility import require
from socketcluster.engines.turn_budget import TURN_BUDGET, turn_cost
from socketcluster.protocol.state import CLOSE_HUNG_UP

require(
    "uvicorn",
    WebSocketsSansIOProtocol,
    *("connection_made", "connection_lost", "data_received", "run_asgi", "send"),
    *("handle_connect", "handle_cont", "handle_events", "handle_parser_exception", "handle_ping"),
    *("send_receive_event_to_app", "start_keepalive"),
)
require("websockets", StreamReader, "at_eof", "discard", "read_exact")

_EMPTY_FRAME = 6
"""Bytes of an empty frame of a client."""

_MIN_FRAMES = 32
"""Empty frames in the smallest piece that is parsed at once, even over the budget."""

_MAX_PIECE = 32 * 1024
"""Bytes of one large frame that are parsed at once."""


class _Reader(StreamReader):
    """A reader that knows how many bytes the parser waits for."""

    _wanted = 0

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        self._wanted = n
        return super().read_exact(n)

    def at_eof(self) -> Generator[None, None, bool]:
        self._wanted = 0
        return super().at_eof()

    def missing(self) -> int:
        """Bytes of the present frame that the parser waits for; 0 or less between frames."""
        return self._wanted - len(self.buffer)


class BudgetedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which parses within a budget for each loop turn.

    Attributes:
        own_path: the path where the limits of this package's endpoint hold; None for nowhere.
        max_first_message: bytes that may arrive there before the first message is complete; None
            for no limit.
    """

    transport: Any
    frames: Any

    own_path: ClassVar[str | None] = None
    max_first_message: ClassVar[int | None] = None

    _reader: _Reader
    _unparsed = b""
    _first_left: int | None = None
    _lost: tuple[Exception | None] | None = None
    _finished = False
    _scheduled = False

    def connection_made(self, transport: BaseTransport) -> None:
        self._reader = self.conn.reader = _Reader()
        self.conn.parser = self.conn.parse()  # The former parser keeps the former reader.
        next(self.conn.parser)
        super().connection_made(transport)

    def is_own(self) -> bool:
        """Whether it was opened at the endpoint's path."""
        own = self.own_path
        return own is not None and self.scope["path"].rstrip("/") == own.rstrip("/")

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._unparsed += data
            self._hold()
        else:
            self._parse(data)

    def _hold(self) -> None:
        # Else `receive` would resume reading after it has delivered a message.
        self.read_paused = False
        self.transport.pause_reading()

    def _parse(self, data: bytes) -> None:
        start, budget = 0, TURN_BUDGET
        while start < len(data) and budget > 0 and self.conn.parser_exc is None:
            piece = data[start : start + self._piece_size(budget)]
            start += len(piece)
            self.conn.receive_data(piece)
            budget -= len(self.conn.events) + turn_cost(len(piece)) - 1
            self.handle_events()
            if self.conn.parser_exc is not None:
                self.handle_parser_exception()
            self._count_first(len(piece))
        self._unparsed = data[start:] if self.conn.parser_exc is None else b""
        if self._unparsed:
            self._hold()
            if not self._scheduled:
                self._scheduled = True
                self.loop.call_soon(self._next_turn)

    def _piece_size(self, budget: int) -> int:
        small = _EMPTY_FRAME * max(budget, _MIN_FRAMES)
        if self._first_left is not None:  # Its limit is checked after each piece.
            return small
        return max(small, min(self._reader.missing(), _MAX_PIECE))

    def _next_turn(self) -> None:
        self._scheduled = False
        data, self._unparsed = self._unparsed, b""
        self._parse(data)
        if self._unparsed:
            return
        if self._lost is not None:
            self._finish(*self._lost)
        elif not self.read_paused:
            self.transport.resume_reading()

    # The first message, and the fragments of each

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete and self.is_own():
            self._first_left = self.max_first_message

    def _count_first(self, size: int) -> None:
        if self._first_left is not None:
            self._first_left -= size
            if self._first_left < 0:
                self._fail(f"The first message may have {self.max_first_message} bytes")

    def send_receive_event_to_app(self) -> None:
        self._first_left = None
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        limit = max_fragments(self.config.ws_max_size)
        if len(self.frames) >= limit and not event.fin:
            self._fail(f"A message may have {limit} fragments")

    def _fail(self, reason: str) -> None:
        self._first_left = None
        self._unparsed = b""
        self.frames = []
        if not self.close_sent:
            self.conn.fail(1009, reason)
            self.handle_parser_exception()

    # The end

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if self.is_own():
            # The application has waited for the peer already; uvicorn would wait another 10 s.
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._unparsed and not self.close_sent:
            self._lost = (exc,)
            self.transport = CLOSED_TRANSPORT
        else:
            self._finish(exc)

    def _finish(self, exc: Exception | None) -> None:
        received = self.conn.close_rcvd
        code, reason = (received.code, received.reason) if received else (CLOSE_HUNG_UP, "")
        # uvicorn queues 1005 behind it, which is never read.
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        super().connection_lost(exc)
        self._finished = True
        self.transport = CLOSED_TRANSPORT
        self._unparsed = b""
        self.frames = []
        conn: Any = self.conn
        # The parser refers to itself, and an exception to the frames it passed through. Without
        # this the garbage collector would have to free them, with all that was received.
        conn.parser.close()
        conn.parser = conn.parser_exc = None
        conn.reader.discard()
        conn.extensions = conn.events = []
