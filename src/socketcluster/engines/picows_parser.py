"""A picows parser of frames, without the connection that picows would make.

Every private name of picows is here. It gets a request that we make up, as the real one was
checked and answered already, and a transport of ours, where what it writes itself (its answer, a
close frame) ends.

Source: picows 2.3.1, to which the package is pinned.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from picows import (
    WSAutoPingStrategy,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from socketcluster.engines.assembler import CLOSE

_READ_BUFFER = 2048
"""Bytes that a parser reads at once, at first: the least that picows takes."""
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: socketcluster\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class ParserOwner(Protocol):
    """The picows listener that a parser gives its frames to."""

    def parser_failed(self, code: int) -> None:
        """The peer broke the protocol; `code` is the close code that picows chose."""


def new_parser(
    owner: ParserOwner, transport: asyncio.Transport, max_payload: int
) -> asyncio.BufferedProtocol:
    """A parser of what a transport receives, which gives its frames to the owner."""
    ours = _Transport(transport, owner)
    parser = WSProtocol(
        None,
        None,
        False,
        ours.listener,
        _QUIET,
        True,
        None,
        False,
        None,
        None,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,
        max_payload,
        None,
        _READ_BUFFER,
    )
    parser.connection_made(ours)
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
    """The transport as picows sees it: what it writes and closes, the owner decides on."""

    __slots__ = ("_owner", "_transport")

    def __init__(self, transport: asyncio.Transport, owner: ParserOwner) -> None:
        self._transport = transport
        self._owner = owner

    def listener(self, request: Any) -> WSUpgradeResponseWithListener:
        return WSUpgradeResponseWithListener(_RESPONSE, self._owner)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return _Socket(self._transport.get_extra_info("socket").fileno())
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 1  # So that it does not write to the socket behind our back.

    def write(self, data: bytes) -> None:
        # Its answer to our request, or the close frame for what the peer did wrong.
        if data[0] == 0x80 | CLOSE:
            self._owner.parser_failed(int.from_bytes(data[2:4], "big"))

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


_QUIET = _Quiet()


class _Response(WSUpgradeResponse):
    """picows' answer to our own request, which nobody reads: one does for all."""

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
