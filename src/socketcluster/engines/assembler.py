"""Assembles frames into messages: reassembly, inflating, and the checks of RFC 6455."""

from __future__ import annotations

import codecs

from socketcluster.engines.deflate import Deflate, InflateError
from socketcluster.protocol.frames import may_be_sent

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING = 0x8, 0x9

CLOSE_WITHOUT_CODE = 1005
"""The code that stands for a close frame without one."""

_utf8 = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):
    """The peer broke the protocol; `code` is the close code."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembler:
    """Assembles the frames of one message of at most `limit` bytes."""

    __slots__ = ("_checker", "_deflate", "_fragments", "_limit", "_message", "_opcode", "_rsv1")

    def __init__(self, limit: int, deflate: Deflate | None) -> None:
        self._limit = limit
        self._deflate = deflate
        self._opcode: int | None = None
        self._message = bytearray()
        self._fragments = 0
        self._rsv1 = False
        self._checker: codecs.IncrementalDecoder | None = None

    def add(self, opcode: int, fin: bool, rsv1: bool, payload: bytes) -> tuple[int, bytes] | None:
        """Add a data frame. Returns (TEXT or BINARY, payload) when it completes the message.

        Raises:
            Violation: 1002 (a frame out of place), 1007 (not UTF-8, or not inflatable) or 1009
                (over the limit).
        """
        if opcode == CONTINUATION:
            if self._opcode is None:
                raise Violation(1002, "Unexpected continuation frame")
            if rsv1:
                raise Violation(1002, "RSV1 in a continuation frame")
        else:
            if self._opcode is not None:
                raise Violation(1002, "Expected a continuation frame")
            if rsv1 and self._deflate is None:
                raise Violation(1002, "RSV1 without an extension")
            self._opcode = opcode
            self._rsv1 = rsv1
            self._checker = _utf8() if opcode == TEXT else None
        if self._rsv1:
            payload = self._inflate(opcode, fin, rsv1, payload)
        self._check_size(payload)
        if self._checker is not None:
            try:
                self._checker.decode(payload, fin)
            except UnicodeDecodeError:
                raise Violation(1007, "Invalid UTF-8") from None
        if self._message or not fin:
            self._message += payload
        if not fin:
            return None
        return self._opcode, bytes(self._message) if self._message else payload

    @property
    def size(self) -> int:
        """Bytes of the message so far."""
        return len(self._message)

    def _check_size(self, payload: bytes) -> None:
        if len(self._message) + len(payload) > self._limit:
            raise Violation(1009, "Message too big")
        self._fragments += 1
        limit = max_fragments(self._limit)
        if self._fragments > limit:
            raise Violation(1009, f"A message may have {limit} fragments")

    def _inflate(self, opcode: int, fin: bool, rsv1: bool, payload: bytes) -> bytes:
        assert self._deflate is not None
        try:
            limit = self._limit - len(self._message)
            return self._deflate.inflate(opcode, fin, rsv1, payload, limit)
        except InflateError as error:
            raise Violation(error.code) from None


def max_fragments(limit: int) -> int:
    """The most fragments of a message of at most `limit` bytes."""
    return 1024 + limit // 64


class FrameReceiver:
    """Checks the frames of one connection and assembles them into messages.

    Attributes:
        assembler: the message in progress; None between messages.
        bytes_received: payload bytes of data frames so far.
        limit: bytes in a message.
    """

    __slots__ = ("_deflate", "assembler", "bytes_received", "limit")

    def __init__(self, limit: int, deflate: Deflate | None) -> None:
        self.limit: int = limit
        self._deflate = deflate
        self.assembler: Assembler | None = None
        self.bytes_received: int = 0

    def receive(
        self, opcode: int, fin: bool, rsv1: bool, reserved: bool, payload: bytes
    ) -> tuple[int, bytes] | None:
        """Receive a frame; `reserved` says whether RSV2 or RSV3 is set.

        Returns (opcode, payload) of a control frame, or of the message that the frame completes.

        Raises:
            Violation: 1002, 1007 or 1009, as `Assembler.add` does.
        """
        if reserved or (rsv1 and opcode >= CLOSE):
            raise Violation(1002, "Reserved bits are set")
        if opcode >= CLOSE:
            return opcode, payload
        if self.assembler is None:
            self.assembler = Assembler(self.limit, self._deflate)
        self.bytes_received += len(payload)
        message = self.assembler.add(opcode, fin, rsv1, payload)
        if message is not None:
            self.assembler = None
        return message

    @property
    def incomplete_size(self) -> int:
        """Bytes of the message in progress."""
        return 0 if self.assembler is None else self.assembler.size

    def close(self) -> None:
        """Drop the message in progress and the inflater's state."""
        self.assembler = self._deflate = None


def is_text(payload: bytes) -> bool:
    """Whether bytes are valid UTF-8."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_close(payload: bytes) -> tuple[int, str]:
    """The (code, reason) of a received close frame; code 1005 if it has none.

    Raises:
        Violation: 1002 for a code that must not be sent (RFC 6455, section 7.4), 1007 for a reason
            that is not UTF-8.
    """
    if not payload:
        return CLOSE_WITHOUT_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not may_be_sent(code):
        raise Violation(1002, "Invalid close code")
    if not is_text(payload[2:]):
        raise Violation(1007, "Invalid UTF-8 in a close reason")
    return code, payload[2:].decode()
