"""PicowsConnector: opens a client's connections through picows.

Source: RFC 6455, section 4.1; picows 2.3.1, `ws_connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any

from picows import (
    WSError,
    WSFrame,
    WSInvalidURL,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)
from python_socks import ProxyError

from socketcluster.engines.assembler import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    FrameReceiver,
    Violation,
    parse_close,
)
from socketcluster.engines.base import CLOSE_SECONDS, Connection, ConnectionHandler
from socketcluster.engines.connect_errors import http_status, hung_up, not_opened, why
from socketcluster.engines.connector import ConnectRequest
from socketcluster.engines.deflate import Deflate, DeflateOffer, InflateError
from socketcluster.engines.tcp_options import UnixSocket
from socketcluster.protocol.frames import RSV1, close_payload, payload_start
from socketcluster.protocol.state import CLOSE_HUNG_UP

CLOSE_ROUNDS = 10
"""Times `CLOSE_SECONDS` for the bytes before a close frame to reach the server."""

_silent = logging.getLogger("socketcluster.client.picows")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class PicowsConnector:
    """The default `connector` of a client: connects through picows."""

    async def connect(self, request: ConnectRequest, handler: ConnectionHandler) -> None:
        """See `Connector.connect`."""
        offer = None if request.deflate is None else DeflateOffer(request.deflate)
        headers = dict(request.headers)
        if offer is not None:
            headers["Sec-WebSocket-Extensions"] = offer.header
        context = request.ssl
        if context is None and request.uri.startswith("wss:"):
            context = ssl.create_default_context()

        opened: list[PicowsClientConnection] = []

        def accept(_: WSUpgradeRequest, response: WSUpgradeResponse) -> WSListener:
            answer = response.headers.get("Sec-WebSocket-Extensions")
            if answer and offer is None:
                raise InflateError(1010)
            agreed = None if offer is None else offer.agreed(answer)
            opened.append(PicowsClientConnection(handler, request.max_payload, agreed))
            return opened[0]

        opening = _Opening(request.socket_path)
        try:
            await ws_connect(
                accept,
                request.uri,
                ssl_context=context,
                websocket_handshake_timeout=None,
                logger_name=_silent,
                enable_auto_pong=False,
                max_frame_size=request.max_payload,
                extra_headers=headers,
                max_redirects=0,
                proxy=request.proxy,
                socket_factory=opening.socket,
            )
        except WSInvalidURL:  # Its text has the whole URL, with its secrets.
            raise not_opened(request.uri, "this is no URL of a WebSocket") from None
        except (OSError, WSError, InflateError, ProxyError, ValueError) as error:
            opening.abandon()
            raise not_opened(
                request.uri, why(error), proxy=request.proxy, http_status=http_status(error)
            ) from error
        except BaseException:
            opening.abandon()
            raise
        if not opened:  # picows reports a server that hangs up before it answers as a success.
            raise not_opened(request.uri, "the server hung up without an answer")


class _Opening:
    """The socket of a connection that is being opened.

    picows leaves it open when it is cancelled while it waits for the answer to the upgrade request.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    async def socket(self, url: Any) -> socket.socket | None:
        """Connect a socket; picows closes it. None lets picows connect itself, to a SOCKS proxy."""
        if self._path is not None:
            self._socket = await _connected(UnixSocket(), self._path)
            return self._socket
        if url.scheme.startswith("socks"):
            return None
        loop = asyncio.get_running_loop()
        places = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        for number, (family, _, _, _, address) in enumerate(places, 1):
            try:
                tcp_socket = socket.socket(family, socket.SOCK_STREAM)
                self._socket = await _connected(tcp_socket, address)
                break
            except OSError:
                if number == len(places):
                    raise
        return self._socket

    def abandon(self) -> None:
        """Shut the socket down, so that picows notices and closes it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


async def _connected(unconnected: socket.socket, address: Any) -> socket.socket:
    unconnected.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(unconnected, address)
    except BaseException:
        unconnected.close()
        raise
    return unconnected


class PicowsClientConnection(WSListener):
    """One WebSocket of a client."""

    def __init__(self, handler: ConnectionHandler, limit: int, deflate: Deflate | None) -> None:
        self._handler = handler
        self._deflate = deflate
        self._limit = limit
        self._frames = FrameReceiver(limit, deflate)
        self._transport: WSTransport
        self._parser: Any = None
        self._frame_count = 0
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._code = CLOSE_HUNG_UP
        self._reason = ""

    # From picows

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        underlying = transport.underlying_transport
        self._parser = underlying.get_protocol()
        underlying.set_protocol(_LossReporter(self._parser, self._lost))
        self._handler.connection_made(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        opcode = int(frame.msg_type.value)
        payload = frame.get_payload_as_bytes()
        self._frame_count += 1
        if self._closing:
            if opcode == CLOSE:
                transport.disconnect()
            return
        reserved = bool(frame.rsv2 or frame.rsv3)
        try:
            message = self._frames.receive(
                opcode, bool(frame.fin), bool(frame.rsv1), reserved, payload
            )
            if message is not None:
                self._message(*message)
        except Violation as violation:
            self._fail(violation)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._timer is not None:
            self._timer.cancel()
        sent = transport.close_handshake.sent if transport.close_handshake else None
        if self._code == CLOSE_HUNG_UP and not self._closing and sent is not None:
            # picows found a violation by the server, and has sent this close frame.
            self._code, self._reason = int(sent.code.value), sent.reason or ""
        self._closing = True
        self._frames.close()
        self._deflate = None
        self._ending = asyncio.ensure_future(_end(transport))
        self._handler.connection_lost(self._code, self._reason)

    def _lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._reason = hung_up(why(error))

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._handler.text_received(payload)
        elif opcode == BINARY:
            self._handler.binary_received(payload)
        elif opcode == PING:
            if self.get_write_buffer_size() <= self._limit:
                self._transport.send_pong(payload)
        elif opcode == CLOSE:
            self._code, self._reason = parse_close(payload)
            self._closing = True
            self._transport.send(WSMsgType.CLOSE, payload[:2])
            self._disconnect_soon()

    def _fail(self, violation: Violation) -> None:
        self._code, self._reason = violation.code, violation.reason
        self._send_close(violation.code, violation.reason)
        self._disconnect_soon()

    def _disconnect_soon(self) -> None:
        self._transport.disconnect()
        self._limit_close()  # `disconnect` waits until everything is written, which may be never.

    def _limit_close(self) -> None:
        if self._timer is None:
            self._start_timer(CLOSE_ROUNDS)

    def _start_timer(self, rounds: int) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(
            CLOSE_SECONDS, self._close_timer, self._undelivered(), rounds - 1
        )

    def _undelivered(self) -> int:
        """Bytes that have not reached the server's kernel, as far as can be seen here."""
        raw = self._transport.underlying_transport.get_extra_info("socket")
        return self.get_write_buffer_size() + unacknowledged(raw)

    def _close_timer(self, undelivered: int, rounds: int) -> None:
        if rounds and undelivered:  # The close frame had not reached the server when this began.
            self._start_timer(rounds)
        else:
            self._transport.disconnect(False)

    # To the server

    def write(self, frames: Sequence[bytes]) -> int:
        """See `Connection.write`."""
        if self._closing:
            return 0
        if self._deflate is not None:
            frames = self._deflate.compress(frames)
        send = self._transport.send
        for frame in frames:
            first = frame[0]
            payload = memoryview(frame)[payload_start(frame) :]
            send(WSMsgType(first & 0x0F), payload, True, bool(first & RSV1))
        return self.get_write_buffer_size()

    def get_write_buffer_size(self) -> int:
        """See `Connection.get_write_buffer_size`."""
        return self._transport.underlying_transport.get_write_buffer_size()

    def get_bytes_received(self) -> int:
        """See `Connection.get_bytes_received`."""
        return self._frames.bytes_received

    def get_activity(self) -> object:
        """See `Connection.get_activity`."""
        # The room in the parser's buffer changes with a frame that is not complete.
        return self._frames.bytes_received, self._frame_count, len(self._parser.get_buffer(-1))

    def get_incomplete_size(self) -> int:
        """See `Connection.get_incomplete_size`. Parts of a single frame are not seen."""
        return self._frames.incomplete_size

    def close(self, code: int, reason: str) -> None:
        """See `Connection.close`."""
        if not self._closing:
            self._send_close(code, reason)
            self._limit_close()
            self._transport.underlying_transport.resume_reading()

    def _send_close(self, code: int, reason: str) -> None:
        self._closing = True
        self._transport.send(WSMsgType.CLOSE, close_payload(code, reason))

    def abort(self) -> None:
        """See `Connection.abort`."""
        self._closing = True
        self._transport.disconnect(False)

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        if not self._closing:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        if not self._closing:
            self._transport.underlying_transport.resume_reading()


def unacknowledged(raw: socket.socket) -> int:
    """Bytes that the kernel keeps because the other side has not acknowledged them.

    A closed socket may still lose them. 0 where the kernel does not tell.
    """
    try:
        return int.from_bytes(fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


_FORWARDED = ("get_buffer", "buffer_updated", "eof_received", "pause_writing", "resume_writing")


class _LossReporter(asyncio.BufferedProtocol):
    """Wraps a protocol of picows to report why the connection is lost, which picows does not.

    All other callbacks are picows' own methods, without a call in between.
    """

    def __init__(self, parser: Any, lost: Callable[[Exception | None], None]) -> None:
        self._parser = parser
        self._lost = lost
        for name in _FORWARDED:
            setattr(self, name, getattr(parser, name))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(exc)
        self._parser.connection_lost(exc)


async def _end(transport: WSTransport) -> None:
    # The end was reported already; asyncio would log an exception that is not retrieved.
    with contextlib.suppress(Exception):
        await transport.wait_disconnected()


_: type[Connection] = PicowsClientConnection
