"""The fast path: picows parses frames, on connections that uvicorn accepted.

The parser is made in `picows_parser.py`; what it leaves unchecked is checked in `messages.py`.

Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from picows import WSListener, WSMsgType

from socketcluster.engines.base import (
    ASGIApp,
    Connection,
    ConnectionHandler,
    Endpoint,
    ListenAddress,
    Listener,
)
from socketcluster.engines.deflate import Deflate
from socketcluster.engines.messages import (
    CLOSE,
    PING,
    FrameReceiver,
    Violation,
    close_code,
    is_text,
)
from socketcluster.engines.opening import opening_protocol
from socketcluster.engines.picows_parser import feed, new_parser
from socketcluster.engines.uvicorn_host import UvicornListener
from socketcluster.protocol.frames import close_frame, cut_reason, join, pong_frame

CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame, or to read what was sent before it."""

FAIL_SECONDS = 0.1
"""How long a peer that broke the protocol may take to read why it is closed."""

_LARGE_READ = 64 * 1024


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
    transport.set_protocol(_NOBODY)  # uvloop keeps the last protocol that was no buffered one.
    connection.begin()
    handler.connection_made(connection)
    if received:
        connection.feed(received)


_NOBODY = asyncio.Protocol()
_TEXT = WSMsgType.TEXT


class PicowsConnection(WSListener):
    """One WebSocket: a picows parser in front, the bare transport behind."""

    __slots__ = (
        "_backed_up",
        "_close_timer",
        "_closing",
        "_code",
        "_connections",
        "_deflate",
        "_endpoint",
        "_fileno",
        "_frames",
        "_grown",
        "_handler",
        "_other_frames",
        "_parser",
        "_reason",
        "_transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: ConnectionHandler,
        endpoint: Endpoint,
        deflate: Deflate | None,
        connections: set[Any],
    ) -> None:
        self._transport = transport
        encrypted = transport.get_extra_info("sslcontext") is not None
        self._fileno = -1 if encrypted else transport.get_extra_info("socket").fileno()
        # The answer to the request may still be with the transport.
        self._backed_up = transport.get_write_buffer_size() > 0
        self._handler = handler
        self._endpoint = endpoint
        self._deflate = deflate
        self._connections = connections
        self._frames = FrameReceiver(handler, endpoint.max_payload, deflate)
        self._parser: Any = None
        self._grown = False
        self._other_frames = 0
        self._closing = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._code = 1006
        self._reason = ""
        connections.add(self)

    # Reading

    def begin(self) -> None:
        """Read from the transport, with a new parser."""
        self._parser = new_parser(self, self._transport, self._endpoint.max_payload)
        self._transport.set_protocol(self._parser)

    def feed(self, data: bytes) -> None:
        """Parse bytes that did not come through the transport."""
        feed(self._parser, data)

    def on_ws_connected(self, transport: Any) -> None:
        transport.request.headers.clear()  # Our own request's, kept for nobody.

    def on_ws_disconnected(self, transport: Any) -> None:
        self.lost()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        payload = frame.get_payload_as_bytes()
        kind = frame.msg_type
        frames = self._frames
        if (
            kind is _TEXT
            and frame.fin
            and not self._closing
            and frames.assembler is None
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and (payload.isascii() or is_text(payload))
        ):
            # The common case, written out: a whole text message.
            frames.bytes_received += len(payload)
            self._handler.text_received(payload)
        else:
            self._other_frame(int(kind), frame, payload)
        if len(payload) > _LARGE_READ or frame.tail_size > _LARGE_READ:
            self._grown = True
        if self._grown and frame.tail_size == 0 and not self._closing:
            # The parser's buffer grows and never shrinks; it is empty now.
            self._grown = False
            self.begin()

    def _other_frame(self, opcode: int, frame: Any, payload: bytes) -> None:
        self._other_frames += 1
        if self._closing:
            if opcode == CLOSE:
                self._close_received(payload)
            return
        try:
            if not self._frames.receive(opcode, frame, payload):
                self._control_frame(opcode, payload)
        except Violation as violation:
            self.fail(violation.code, violation.reason)

    def _control_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._answer_ping(payload)
        elif opcode == CLOSE:
            self._close_received(payload)

    def _answer_ping(self, payload: bytes) -> None:
        if self._transport.get_write_buffer_size() > self._endpoint.max_outbound_buffer:
            self.abort()
        else:
            self._write_own(pong_frame(payload))

    def _write_own(self, frame: bytes) -> None:
        self._backed_up = True
        self._transport.write(frame)

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

    def parser_failed(self, code: int) -> None:
        """picows found that the peer broke the protocol. The frame before the fault may still
        be delivered: it looks one frame ahead."""
        asyncio.get_running_loop().call_soon(self.fail, code or 1002)

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
            transport.write(data)
            return transport.get_write_buffer_size()
        # The transport has nothing to write: straight to the socket, which costs a third less.
        try:
            sent = os.write(self._fileno, data)
        except OSError:  # It is full, or broken, which the transport finds out by itself.
            sent = 0
        if sent == len(data):
            return 0
        self._backed_up = True
        transport.write(memoryview(data)[sent:])
        return transport.get_write_buffer_size()

    def get_write_buffer_size(self) -> int:
        """See `Connection.get_write_buffer_size`."""
        return self._transport.get_write_buffer_size()

    def get_bytes_received(self) -> int:
        """See `Connection.get_bytes_received`."""
        return self._frames.bytes_received

    def get_activity(self) -> object:
        """See `Connection.get_activity`. The room in the parser's buffer tells of a frame that is
        not complete."""
        room = 0 if self._parser is None else len(self._parser.get_buffer(-1))
        return self._frames.bytes_received, self._other_frames, room

    def close(self, code: int, reason: str) -> None:
        """See `Connection.close`."""
        self._send_close(code, cut_reason(reason))

    def _send_close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        self._closing = True
        # A transport that is closed waits for a peer that does not read: not for ever.
        loop = asyncio.get_running_loop()
        self._close_timer = loop.call_later(CLOSE_SECONDS, self._transport.abort)
        if not self._transport.is_closing():
            self._write_own(close_frame(code, reason))
        self._transport.resume_reading()

    def abort(self) -> None:
        """See `Connection.abort`."""
        self._closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        if not self._closing and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def lost(self) -> None:
        """The transport is gone."""
        self._closing = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._connections.discard(self)
        self._parser = None
        self._handler.connection_lost(self._code, self._reason)


_: type[Connection] = PicowsConnection
