"""Reads a picows connection: from the transport through the parser to the scheduler.

A read hands at most `READ_SIZE` bytes to the parser. Most reads hold one small message, which is
delivered at once and not counted; all else counts against the turn's budget, see
`frame_scheduler.py`. Until the first message is complete, the bytes read are limited too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from picows import WSListener, WSMsgType

from socketcluster.engines.assembler import FrameReceiver, is_text
from socketcluster.engines.base import ConnectionHandler, Endpoint
from socketcluster.engines.closed_transport import CLOSED_TRANSPORT
from socketcluster.engines.deflate import Deflate
from socketcluster.engines.frame_scheduler import PARSER_FAULT, FrameScheduler, SchedulerOwner
from socketcluster.engines.picows_parser import new_parser

READ_SIZE = 16 * 1024
"""Bytes of one read. Parsing so many bytes of empty frames takes a millisecond."""

_UNCOUNTED_TAIL = 384
"""Bytes behind a frame in the same read that are not worth counting: 64 empty frames.

A read with one message cannot be a flood, and to count it would cost a call 19 %.
"""

_SMALL_FRAME = 512
"""Bytes of a frame that costs one unit, as an empty one does: a turn's budget then is 64 KiB."""

_LARGE_FRAME = 64 * 1024
"""Bytes of a frame after which the parser, whose buffer never shrinks, is replaced."""

_GROWN_BUFFER = 2 * _LARGE_FRAME
"""Bytes of room in the parser's buffer that only a frame over `_LARGE_FRAME` makes it have."""

_FRAME_HEADER = 14
"""Bytes of the longest header of a client's frame."""

_TEXT = WSMsgType.TEXT
_DISCARDED = memoryview(bytearray(READ_SIZE))
"""Where bytes are read to once there is no parser."""

_NO_BYTES: Final = memoryview(b"")
"""One for all connections, for each would take 312 bytes."""


class ReaderOwner(SchedulerOwner, Protocol):
    """The connection, as its reader sees it."""

    def transport_lost(self) -> None:
        """Forget the transport."""


class FrameReader(WSListener, asyncio.BufferedProtocol):
    """The transport's protocol, and the listener of the parser behind it.

    A transport looks up `get_buffer` and `buffer_updated` once, when the protocol is set, so the
    latter can be the parser's own method, without a call in between.

    Attributes:
        scheduler: processes the frames.
    """

    __slots__ = (
        "_early",
        "_endpoint",
        "_first_left",
        "_frames",
        "_grown",
        "_handler",
        "_incomplete",
        "_other_frames",
        "_owner",
        "_parser",
        "_text_bytes",
        "_transport",
        "buffer_updated",
        "scheduler",
    )

    data_received = None  # uvloop would keep the one of the protocol before.

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: ConnectionHandler,
        endpoint: Endpoint,
        deflate: Deflate | None,
        owner: ReaderOwner,
    ) -> None:
        self._transport = transport
        self._handler: Any = handler
        self._endpoint = endpoint
        self._owner: ReaderOwner | None = owner
        self._frames = FrameReceiver(endpoint.max_first_message, deflate)
        self.scheduler: FrameScheduler = FrameScheduler(
            transport, self._frames, self, owner, self._first_text
        )
        self._first_left: int | None = endpoint.max_first_message + _FRAME_HEADER
        self._parser: Any = None
        self.buffer_updated: Callable[[int], None]  # type: ignore[assignment]
        self._early = _NO_BYTES
        self._grown = False  # The parser's buffer has grown, and still has bytes in it.
        self._other_frames = 0  # All but whole text messages.
        self._incomplete = 0  # Bytes of a large frame so far, once it is seen to be large.
        self._text_bytes = 0  # In whole text messages; the receiver counts the others.

    # From the transport

    def begin(self) -> None:
        """Read from the transport, with a new parser."""
        self._parser = new_parser(self, self._transport, self._endpoint.max_payload)
        self._incomplete = 0
        is_first = self._first_left is not None
        self._read_with(self._first_read if is_first else self._parser.buffer_updated)

    def _read_with(self, buffer_updated: Callable[[int], None]) -> None:
        self.buffer_updated = buffer_updated
        if not self.scheduler.lost:
            self._transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> Any:
        parser = self._parser
        room = _DISCARDED if parser is None else parser.get_buffer(-1)
        size = len(room)
        if size <= READ_SIZE:
            return room
        if size > _GROWN_BUFFER and not self._incomplete:
            # The parser doubles a buffer that is full, so it holds as much as there is room.
            self._incomplete = size
            self._read_with(self._large_read)
        return room[:READ_SIZE]

    def _large_read(self, size: int) -> None:
        self._incomplete += size
        self._parser.buffer_updated(size)

    def feed(self, data: bytes) -> None:
        """Parse bytes that arrived before the transport got this protocol."""
        self._early = memoryview(data)
        self.parse_more()

    @property
    def has_more(self) -> bool:
        """See `FrameSource.has_more`."""
        return len(self._early) > 0

    def parse_more(self) -> None:
        """See `FrameSource.parse_more`."""
        scheduler = self.scheduler
        while self._early and not scheduler.held and (scheduler.lost or not scheduler.paused):
            room = self.get_buffer(-1)
            size = min(len(room), len(self._early))
            room[:size] = self._early[:size]
            del room
            self._early = self._early[size:]
            self.buffer_updated(size)
        if self._early and not scheduler.held:
            scheduler.hold()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = CLOSED_TRANSPORT
        if self._owner is not None:
            self._owner.transport_lost()
        self.scheduler.transport_lost()

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
            self._end_of_first()
            self.scheduler.text_received(data)

    def binary_received(self, data: bytes) -> None:
        """See `FrameSource.binary_received`."""
        if self._first_left is not None:
            self._end_of_first()
        self._handler.binary_received(data)

    def _first_too_long(self) -> None:
        limit = self._endpoint.max_first_message
        if self._owner is not None:
            self._owner.fail(1009, f"The first message may have {limit} bytes")

    def _end_of_first(self) -> None:
        self._first_left = None
        self._frames.limit = self._endpoint.max_payload
        self.scheduler.text_received = self._handler.text_received
        if self._parser is not None:
            self._read_with(self._parser.buffer_updated)

    # From the parser

    def on_ws_connected(self, transport: Any) -> None:
        # The made-up request's, which are never read; all parsers' would take 180 bytes each.
        request = transport.request
        del request.method, request.path, request.version, request.headers

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        payload = frame.get_payload_as_bytes()
        size = len(payload)
        scheduler = self.scheduler
        if (
            scheduler.direct
            and frame.msg_type is _TEXT
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and not self._grown
            and (payload.isascii() or is_text(payload))
        ):
            # The common case, a whole text message, does not go through the scheduler, which
            # would cost a call 30 % more and a pipelined call 58 %.
            self._text_bytes += size
            scheduler.text_received(payload)
        else:
            self._other_frame(frame, payload)
        if size > _SMALL_FRAME:
            scheduler.count(size)
            if size > _LARGE_FRAME:
                self._shrink(frame.tail_size)
        elif frame.tail_size > _UNCOUNTED_TAIL:
            # `count(0)` inline: the call would cost a pipelined call 2.5 %.
            scheduler.budget -= 1
            if scheduler.budget <= 0:
                scheduler.budget_used(1)

    def _other_frame(self, frame: Any, payload: bytes) -> None:
        self._other_frames += 1
        reserved = bool(frame.rsv2 or frame.rsv3)
        self.scheduler.add(
            (int(frame.msg_type), bool(frame.fin), bool(frame.rsv1), reserved, payload)
        )
        if self._grown:
            self._shrink(frame.tail_size)

    def _shrink(self, tail: int) -> None:
        """Replace the parser, whose buffer has grown and never shrinks, once that is empty."""
        self._grown = tail > 0
        if self._parser is None:
            return
        if self._grown:
            self._incomplete = tail
            self._read_with(self._large_read)
        elif not (self.scheduler.shut or self.scheduler.lost):
            self.begin()

    def parser_failed(self, code: int) -> None:
        """See `ParserOwner.parser_failed`.

        Frames before the fault may still follow, for picows looks one frame ahead.
        """
        if self._parser is not None:  # It would keep all bytes that follow.
            self._parser = None
            self._read_with(_ignore)
        asyncio.get_running_loop().call_soon(self._add_fault, code or 1002)

    def _add_fault(self, code: int) -> None:
        self.scheduler.add((PARSER_FAULT, True, False, False, code.to_bytes(2, "big")))

    # Statistics and the end

    @property
    def bytes_received(self) -> int:
        """Payload bytes of data frames so far."""
        return self._text_bytes + self._frames.bytes_received

    @property
    def incomplete_size(self) -> int:
        """Bytes of the message in progress. The first 200 KB of a frame are not seen."""
        return self._incomplete + self._frames.incomplete_size

    def activity(self) -> object:
        """See `Connection.get_activity`."""
        # The room in the parser's buffer changes with a frame that is not complete.
        room = 0 if self._parser is None else len(self._parser.get_buffer(-1))
        return self.bytes_received, self._other_frames, room

    def free(self) -> None:
        """Drop received bytes and every reference back to the connection."""
        self.scheduler.free()
        self._parser = self._handler = self._owner = None
        self._early = _NO_BYTES
        self.buffer_updated = _ignore


def _ignore(_: Any) -> None:
    pass
