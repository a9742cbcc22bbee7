"""A picows parser without the connection that picows would make.

Every private name of picows is used here. The parser gets a made-up upgrade request, because the
client's own was checked and answered already, and a made-up transport, which discards what the
parser writes.

Source: picows 2.3.1, `WSProtocol`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Protocol

import picows
import picows.picows
from picows import (
    WSAutoPingStrategy,
    WSListener,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from socketcluster.engines.assembler import CLOSE
from socketcluster.engines.compatibility import UnsupportedVersionError, require
from socketcluster.engines.tcp_options import FileNumber

require("picows", picows, "picows")
require("picows", picows.picows, "WSProtocol")
_WSProtocol: Any = picows.picows.WSProtocol  # type: ignore[attr-defined]

_READ_BUFFER = 2048
"""Bytes of a parser's buffer at first: the least that picows accepts."""

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: socketcluster\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

_MASKED_A = b"\x81\x81\0\0\0\0a"
"""The text message "a" as a client sends it."""


class ParserOwner(Protocol):
    """The listener, as its parser sees it, besides `picows.WSListener`."""

    def parser_failed(self, code: int) -> None:
        """Handle a violation of the protocol by the peer; `code` is the close code."""


def new_parser(
    owner: ParserOwner, transport: asyncio.Transport, max_payload: int
) -> asyncio.BufferedProtocol:
    """Make a parser for the bytes of a transport. The owner gets the frames."""
    parser_transport = _ParserTransport(transport, owner)
    parser = _WSProtocol(
        None,  # host and port
        None,  # path
        False,  # is client side
        parser_transport.listener,
        _SILENT,
        True,  # disconnect on exception
        None,  # handshake timeout
        False,  # auto ping
        None,
        None,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # auto pong
        max_payload,
        None,  # extra headers
        _READ_BUFFER,
    )
    parser.connection_made(parser_transport)
    feed(parser, _REQUEST)
    return parser  # type: ignore[no-any-return]


def feed(parser: asyncio.BufferedProtocol, data: bytes) -> None:
    """Parse bytes that did not come through the transport."""
    view = memoryview(data)
    while view:
        buffer: Any = parser.get_buffer(-1)
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        del buffer
        parser.buffer_updated(size)
        view = view[size:]


def check_parser() -> None:
    """Check that a parser of the installed picows parses a frame and reports a violation.

    Raises:
        UnsupportedVersionError: it does not.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()  # A parser can be made in a running loop only.
        try:
            loop.run_until_complete(_check_parser())
        finally:
            loop.close()
    else:
        _try_parser()


async def _check_parser() -> None:
    _try_parser()


@functools.cache
def _try_parser() -> None:
    listener = _TrialListener()
    try:
        parser = new_parser(listener, _TrialTransport(), 100)
        feed(parser, _MASKED_A + b"\x83\x80\0\0\0\0")
    except Exception as error:
        raise UnsupportedVersionError("picows", f"cannot be used as a parser: {error}") from error
    if listener.payloads != [b"a"] or listener.codes != [1002]:
        raise UnsupportedVersionError("picows", "parses frames differently")


class _TrialListener(WSListener):
    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.codes: list[int] = []

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.fin and not (frame.rsv1 or frame.rsv2 or frame.rsv3 or frame.tail_size < 0):
            self.payloads.append(frame.get_payload_as_bytes())

    def parser_failed(self, code: int) -> None:
        self.codes.append(code)


class _TrialTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"socket": FileNumber(-1)})


class _SilentLogger:
    """A logger for parsers that logs nothing: one client's violations are not worth a line."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    log = debug = info = warning = error = exception = _nothing


class _ParserTransport:
    """A parser's transport. What the parser writes and closes, its owner decides on."""

    __slots__ = ("_owner", "_transport")

    def __init__(self, transport: asyncio.Transport, owner: ParserOwner) -> None:
        self._transport = transport
        self._owner = owner

    def listener(self, request: Any) -> WSUpgradeResponseWithListener:
        return WSUpgradeResponseWithListener(_RESPONSE, self._owner)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return FileNumber(self._transport.get_extra_info("socket").fileno())
        return self._transport.get_extra_info(name, default)

    @staticmethod  # picows keeps it, and a method of each object would take 64 bytes.
    def get_write_buffer_size() -> int:
        return 1  # With an empty buffer picows would write to the socket itself.

    def write(self, data: bytes) -> None:
        # Either the answer to the made-up request, or the close frame for a violation.
        if data[0] == 0x80 | CLOSE:
            self._owner.parser_failed(int.from_bytes(data[2:4], "big"))

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


_SILENT = _SilentLogger()


class _Response(WSUpgradeResponse):
    """The answer to the made-up request. It is never read, so all parsers share one."""

    def __init__(self) -> None:
        answer = WSUpgradeResponse.create_101_response()
        self.version = answer.version
        self.status = answer.status
        self.headers = answer.headers
        self.body = None
        self._bytes = answer.to_bytes()

    def to_bytes(self) -> bytearray:
        answer: bytearray = self._bytes
        return answer


_RESPONSE = _Response()
