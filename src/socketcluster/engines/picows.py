"""The fast path: picows parses frames, on connections that uvicorn accepted.

Every private name of picows is here. picows gets a request that was checked already and a
transport of ours; what it writes itself (a response, a close frame) ends here, and what it
leaves unchecked is checked in `messages.py`.

Source: RFC 6455; picows 2.3.1, to which the package is pinned.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from picows import (
    WSAutoPingStrategy,
    WSListener,
    WSMsgType,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

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
from socketcluster.engines.upgrade import upgrading_protocol
from socketcluster.engines.uvicorn_host import UvicornListener
from socketcluster.protocol.frames import close_frame, cut_reason, join, pong_frame

CLOSE_SECONDS = 3.0
"""How long a peer may take to answer a close frame, or to read what was sent before it."""

FAIL_SECONDS = 0.1
"""How long a peer that broke the protocol may take to read why it is closed."""

_LARGE_READ = 64 * 1024
_READ_BUFFER = 2048
"""Bytes that a parser reads at once, at first: the least that picows takes."""
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: socketcluster\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class PicowsEngine:
    """`ws_engine="picows"`, the default."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Listener:
        """See `Engine.listen`."""
        connections: set[Any] = set()
        protocol = upgrading_protocol(endpoint, connections, open_connection)
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


class _Quiet:
    """A logger that does not log: what a client does is not worth a line."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    log = debug = info = warning = error = exception = _nothing


class _Socket:
    """The socket as picows sees it: it sets TCP options, which a Unix socket has not."""

    __slots__ = ("_fileno",)

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno

    def fileno(self) -> int:
        return self._fileno

    def setsockopt(self, *args: Any) -> None:
        pass

    def getsockopt(self, *args: Any) -> int:
        return 0


class _Transport:
    """The transport as picows sees it: what it writes and closes, the connection decides on."""

    __slots__ = ("_connection", "_transport")

    def __init__(self, connection: PicowsConnection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return _Socket(self._transport.get_extra_info("socket").fileno())
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 1  # So that it does not write to the socket behind our back.

    def write(self, data: bytes) -> None:
        # Its answer to our request, or the close frame for what the peer did wrong.
        if data[0] == 0x80 | CLOSE:
            self._connection.parser_failed(int.from_bytes(data[2:4], "big"))

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


_QUIET = _Quiet()
_NOBODY = asyncio.Protocol()
_TEXT = WSMsgType.TEXT
# picows answers our own request, which nobody reads: one answer does for all.
_RESPONSE = WSUpgradeResponse.create_101_response()


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
        self._closing = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._code = 1006
        self._reason = ""
        connections.add(self)

    # Reading

    def begin(self) -> None:
        """Read from the transport, with a new parser."""
        parser = WSProtocol(
            None,
            None,
            False,
            self._listener,
            _QUIET,
            True,
            None,
            False,
            None,
            None,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,
            self._endpoint.max_payload,
            None,
            _READ_BUFFER,
        )
        parser.connection_made(_Transport(self, self._transport))
        self._parser = parser
        self.feed(_REQUEST)
        self._transport.set_protocol(parser)

    def _listener(self, request: Any) -> WSUpgradeResponseWithListener:
        return WSUpgradeResponseWithListener(_RESPONSE, self)

    def feed(self, data: bytes) -> None:
        """Parse bytes that did not come through the transport."""
        view = memoryview(data)
        while view:
            buffer = self._parser.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            del buffer
            self._parser.buffer_updated(size)
            view = view[size:]

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
        if (
            kind is _TEXT
            and frame.fin
            and not self._closing
            and self._frames.between_messages
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and (payload.isascii() or is_text(payload))
        ):
            # The common case, written out: a whole text message.
            self._frames.bytes_received += len(payload)
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
