"""The way in of a picows connection: from the transport to the parser, and on to frames.

A read hands at most `READ_SIZE` bytes to the parser. Most reads hold one small message, which is
carried out at once and not counted; all else is counted, see `picows_turns.py`. Until the first
message is complete the bytes read are counted too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from picows import WSMsgType

from socketcluster.engines.assembler import is_text
from socketcluster.engines.base import ConnectionHandler, Endpoint
from socketcluster.engines.deflate import Deflate
from socketcluster.engines.picows_parser import new_parser
from socketcluster.engines.picows_turns import FAULT, FrameTurns

READ_SIZE = 16 * 1024
"""Bytes of one read. Parsing so many bytes of empty frames takes a millisecond."""

_FEW = 384
"""Bytes behind a frame in the same read that are too few to be counted: 64 empty frames."""

_SMALL = 512
"""Bytes of a frame that counts like an empty one: as many as a turn has make 64 KiB."""

_LARGE = 64 * 1024
_SURELY_LARGE = 2 * _LARGE
"""Bytes of room that frames of up to `_LARGE` bytes do not make a parser have."""

_HEADER = 14
_TEXT = WSMsgType.TEXT
_SCRAP = memoryview(bytearray(READ_SIZE))


class FrameReader(FrameTurns, asyncio.BufferedProtocol):
    """The protocol of a transport, and the listener of the parser behind it.

    The transport calls what `get_buffer` and `buffer_updated` were when it was given the
    protocol; the latter is the parser's own.
    """

    __slots__ = (
        "_bytes_received",
        "_early",
        "_first_left",
        "_incomplete",
        "_other_frames",
        "_parser",
        "_room",
        "buffer_updated",
    )

    data_received = None  # uvloop would keep that of the protocol before.

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: ConnectionHandler,
        endpoint: Endpoint,
        deflate: Deflate | None,
    ) -> None:
        super().__init__(transport, handler, endpoint, deflate)
        self._text_received = self._first_text
        self._first_left: int | None = endpoint.max_first_message + _HEADER
        self._parser: Any = None
        self._room: Callable[[int], memoryview]
        self._early = memoryview(b"")
        self._other_frames = 0
        self._incomplete = 0  # Bytes of a large frame so far, once it is seen to be large.
        self._bytes_received = 0  # In whole text messages; the others are counted by `_frames`.

    # From the transport

    def begin(self) -> None:
        """Read from the transport, with a new parser."""
        self._parser = new_parser(self, self._transport, self._endpoint.max_payload)
        self._room = self._parser.get_buffer
        self._incomplete = 0
        is_first = self._first_left is not None
        self._read_with(self._first_read if is_first else self._parser.buffer_updated)

    def _read_with(self, buffer_updated: Callable[[int], None]) -> None:
        self.buffer_updated = buffer_updated  # type: ignore[assignment, method-assign]
        if not self._gone:
            self._transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> Any:
        room = self._room(-1)
        size = len(room)
        if size <= READ_SIZE:
            return room
        if size > _SURELY_LARGE and not self._incomplete:
            # The parser has doubled its buffer, for it was full: it has as much as there is room.
            self._incomplete = size
            self._read_with(self._large_read)
        return room[:READ_SIZE]

    def _large_read(self, size: int) -> None:
        self._incomplete += size
        self._parser.buffer_updated(size)

    def feed(self, data: bytes) -> None:
        """Parse bytes that did not come through the transport, before those that do."""
        self._early = memoryview(data)
        self.parse_more()

    @property
    def has_more(self) -> bool:
        """See `FrameTurns.has_more`."""
        return len(self._early) > 0

    def parse_more(self) -> None:
        """See `FrameTurns.parse_more`."""
        while self._early and not self._held and (self._gone or not self._paused):
            room = self.get_buffer(-1)
            size = min(len(room), len(self._early))
            room[:size] = self._early[:size]
            del room
            self._early = self._early[size:]
            self.buffer_updated(size)
        if self._early and not self._held:
            self._hold()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        if self._closing or not (self._queue or self._early):
            self.finish()
        else:
            self._schedule()

    # The first message

    def _first_read(self, size: int) -> None:
        self._parser.buffer_updated(size)
        if self._first_left is not None:
            self._first_left -= size
            if self._first_left < 0:
                self._first_too_long()

    def _first_text(self, data: bytes) -> None:
        if len(data) > self._endpoint.max_first_message:
            self._first_too_long()
        else:
            self.first_received()
            self._text_received(data)

    def _first_too_long(self) -> None:
        limit = self._endpoint.max_first_message
        self.fail(1009, f"The first message may have {limit} bytes")

    def first_received(self) -> None:
        """See `FrameTurns.first_received`."""
        if self._first_left is None:
            return
        self._first_left = None
        self._frames.limit = self._endpoint.max_payload
        self._text_received = self._handler.text_received
        if self._parser is not None:
            self._read_with(self._parser.buffer_updated)

    # From the parser

    def on_ws_connected(self, transport: Any) -> None:
        transport.request.headers.clear()  # Our own request's, kept for nobody.

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        payload = frame.get_payload_as_bytes()
        size = len(payload)
        if (
            self._straight
            and frame.msg_type is _TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and (payload.isascii() or is_text(payload))
        ):
            # The common case, written out: a whole text message.
            self._bytes_received += size
            self._text_received(payload)
        else:
            self._other_frame(frame, payload)
        if size > _SMALL:
            self._count(size)
            if size > _LARGE:
                self._shrink(frame.tail_size)
        elif frame.tail_size > _FEW:
            self._left -= 1
            if self._left <= 0:
                self._count_on(1)

    def _other_frame(self, frame: Any, payload: bytes) -> None:
        self._other_frames += 1
        reserved = bool(frame.rsv2 or frame.rsv3)
        self._take((int(frame.msg_type), bool(frame.fin), bool(frame.rsv1), reserved, payload))
        if self._grown:
            self._shrink(frame.tail_size)

    def _shrink(self, tail: int) -> None:
        """Replace the parser once it is empty: its buffer has grown and never shrinks."""
        self._grown = tail > 0
        if self._grown and self._parser is not None:
            self._incomplete = tail
            self._read_with(self._large_read)
        if not (self._grown or self._closing or self._gone) and self._parser is not None:
            self.begin()
        self._set_straight()

    def parser_failed(self, code: int) -> None:
        """picows found that the peer broke the protocol. Frames before the fault may still be
        delivered: it looks one frame ahead."""
        if self._parser is not None:  # It would keep all that comes.
            self._parser = None
            self._room = _scrap
            self._read_with(_ignore)
        asyncio.get_running_loop().call_soon(self._parser_failed, code or 1002)

    def _parser_failed(self, code: int) -> None:
        self._take((FAULT, True, False, False, code.to_bytes(2, "big")))

    def free(self) -> None:
        """Keep nothing that was received, nor what may refer back to this."""
        self._straight = False
        self._frames.close()
        self._parser = self._queue = self._handler = None
        self._early = memoryview(b"")
        self._room = _scrap
        self._text_received = self.buffer_updated = _ignore  # type: ignore


def _scrap(_: int) -> memoryview:
    return _SCRAP


def _ignore(_: Any) -> None:
    pass
