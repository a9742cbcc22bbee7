"""The fast path: picows parses frames, on connections that uvicorn accepted.

The parser is made in `picows_parser.py`; what it leaves unchecked is checked in `messages.py`.

Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from socketcluster.engines.assembler import (
    CLOSE,
    PING,
    Violation,
    close_code,
)
from socketcluster.engines.base import (
    ASGIApp,
    Connection,
    ConnectionHandler,
    Endpoint,
    ListenAddress,
    Listener,
)
from socketcluster.engines.deflate import Deflate
from socketcluster.engines.gone import GONE
from socketcluster.engines.picows_reading import FrameReader
from socketcluster.engines.uvicorn_http import opening_protocol
from socketcluster.engines.uvicorn_server import UvicornListener
from socketcluster.protocol.frames import close_frame, cut_reason, join, pong_frame

CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame, or to read what was sent before it."""

FAIL_SECONDS = 0.1
"""How long a peer that broke the protocol may take to read why it is closed."""


class PicowsEngine:
    """`ws_engine="picows"`, the default."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Listener:
        """See `Engine.listen`."""
        connections: set[Any] = set()
        protocol = opening_protocol(endpoint, connections, open_connection)
        listener = UvicornListener(endpoint, app, address, protocol, connections)
        await listener.start()
        return listener


def open_connection(
    transport: asyncio.Transport,
    handler: ConnectionHandler,
    endpoint: Endpoint,
    deflate: Deflate | None,
    connections: set[Any],
    received: bytes,
) -> None:
    """Join an upgraded transport to its handler; `received` is what followed the request."""
    connection = PicowsConnection(transport, handler, endpoint, deflate, connections)
    connection.begin()
    handler.connection_made(connection)
    if received:
        connection.feed(received)


class PicowsConnection(FrameReader):
    """One WebSocket: a picows parser in front, the bare transport behind."""

    __slots__ = (
        "_backed_up",
        "_close_timer",
        "_code",
        "_connections",
        "_deflate",
        "_fileno",
        "_reason",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: ConnectionHandler,
        endpoint: Endpoint,
        deflate: Deflate | None,
        connections: set[Any],
    ) -> None:
        super().__init__(transport, handler, endpoint, deflate)
        encrypted = transport.get_extra_info("sslcontext") is not None
        self._fileno = -1 if encrypted else transport.get_extra_info("socket").fileno()
        # The answer to the request may still be with the transport.
        self._backed_up = transport.get_write_buffer_size() > 0
        self._deflate = deflate
        self._connections = connections
        self._close_timer: asyncio.TimerHandle | None = None
        self._code = 1006
        self._reason = ""
        connections.add(self)

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    # Reading

    def control_frame(self, opcode: int, payload: bytes) -> None:
        """See `FrameReader.control_frame`."""
        if opcode == PING:
            self._answer_ping(payload)
        elif opcode == CLOSE:
            self._close_received(payload)

    def _answer_ping(self, payload: bytes) -> None:
        if self._transport.get_write_buffer_size() > self._endpoint.max_outbound_buffer:
            self.abort()
        else:
            self._write_by_transport(pong_frame(payload))

    def _write_by_transport(self, data: bytes | memoryview) -> None:
        self._backed_up = True
        if not self._transport.is_closing():  # asyncio would log each write.
            self._transport.write(data)

    def _close_received(self, payload: bytes) -> None:
        try:
            code = close_code(payload)
        except Violation as violation:
            self.fail(violation.code, violation.reason)
            return
        if self._code == 1006:
            self._code = code
            self._reason = payload[2:].decode()
        self._send_close(code, "")
        self._transport.close()

    def fail(self, code: int, reason: str = "") -> None:
        """Close, and drop the connection soon after: the peer's answer cannot be relied on."""
        if not self._closing:
            self._send_close(code, cut_reason(reason))
            asyncio.get_running_loop().call_later(FAIL_SECONDS, self._transport.close)

    # Writing

    def write(self, frames: Sequence[bytes]) -> int:
        """See `Connection.write`."""
        if self._closing:
            return 0
        if self._deflate is not None:
            frames = self._deflate.compress(frames)
        data = frames[0] if len(frames) == 1 else join(frames)
        transport = self._transport
        if self._fileno < 0 or (self._backed_up and transport.get_write_buffer_size()):
            self._write_by_transport(data)
            return transport.get_write_buffer_size()
        # The transport has nothing to write: straight to the socket, which costs a third less.
        try:
            sent = os.write(self._fileno, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            if not self._paused:
                # The line is broken. What came before is still to be read, and reading finds
                # the end; the transport would end at once.
                return 0
            sent = 0
        if sent == len(data):
            return 0
        self._write_by_transport(memoryview(data)[sent:])
        return transport.get_write_buffer_size()

    def get_write_buffer_size(self) -> int:
        """See `Connection.get_write_buffer_size`."""
        return self._transport.get_write_buffer_size()

    def get_bytes_received(self) -> int:
        """See `Connection.get_bytes_received`."""
        return self._bytes_received + self._frames.bytes_received

    def get_activity(self) -> object:
        """See `Connection.get_activity`. The room in the parser's buffer tells of a frame that is
        not complete."""
        room = 0 if self._parser is None else len(self._parser.get_buffer(-1))
        return self.get_bytes_received(), self._other_frames, room

    def get_incomplete_size(self) -> int:
        """See `Connection.get_incomplete_size`. The first 200 KB of a frame are not seen."""
        return self._incomplete + self._frames.incomplete_size

    def close(self, code: int, reason: str) -> None:
        """See `Connection.close`."""
        self._send_close(code, cut_reason(reason))

    def _send_close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        # A transport that is closed waits for a peer that does not read: not for ever.
        loop = asyncio.get_running_loop()
        self._close_timer = loop.call_later(CLOSE_SECONDS, self._transport.abort)
        self._write_by_transport(close_frame(code, reason))
        self.shut()
        self.resume_reading()

    def abort(self) -> None:
        """See `Connection.abort`."""
        self.shut()
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = GONE
        self._fileno = -1
        if self._close_timer is not None:
            self._close_timer.cancel()
        super().connection_lost(error)

    def finish(self) -> None:
        """See `FrameReader.finish`."""
        if self not in self._connections:
            return
        self._connections.discard(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._closing = True
        handler = self._handler
        self._deflate = None
        self.free()
        handler.connection_lost(self._code, self._reason)


_: type[Connection] = PicowsConnection
