"""Server frames: unmasked, unfragmented, built once and written to many connections.

Source: RFC 6455, section 5.2 (framing) and 5.5 (control frames).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from socketcluster.codecs.text import utf8

_TEXT = 0x81
_BINARY = 0x82
_CLOSE = 0x88
_PONG = 0x8A
RSV1 = 0x40
"""The bit in the first byte of a frame that marks a compressed message (RFC 7692)."""

MAX_REASON_BYTES = 123


_head = struct.Struct(">BBH").pack
_SHORT = [bytes((_TEXT, size)) for size in range(126)]


def build_frame(first: int, payload: bytes) -> bytes:
    """Build a frame; `first` is its first byte: FIN, RSV bits and opcode."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _head(first, 126, size) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """Build the frame of a text message; `payload` is UTF-8."""
    if len(payload) < 126:
        return _SHORT[len(payload)] + payload
    return build_frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """Build the frame of a binary message."""
    return build_frame(_BINARY, payload)


def frame_of(message: str | bytes) -> bytes:
    """Build the frame of an encoded message: text for str, binary for bytes."""
    if isinstance(message, str):
        return text_frame(utf8(message))
    return binary_frame(bytes(message))


class DroppableFrame(bytes):
    """The frame of a publish that may be dropped when its receiver is too slow."""


def pong_frame(payload: bytes) -> bytes:
    """Build the answer to a ping with the same payload, of at most 125 bytes."""
    return build_frame(_PONG, payload)


def close_frame(code: int, reason: str) -> bytes:
    """Build a close frame; the reason is cut to 123 bytes, between characters.

    A code that must not be sent, such as 1005, is left out.
    """
    return build_frame(_CLOSE, close_payload(code, reason))


def close_payload(code: int, reason: str) -> bytes:
    """Build the payload of a close frame; empty for a code that must not be sent."""
    if not may_be_sent(code):
        return b""
    return code.to_bytes(2, "big") + cut_reason(reason).encode()


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may have this code (RFC 6455, section 7.4)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def cut_reason(reason: str) -> str:
    """Cut a reason so that it fits into a close frame."""
    encoded = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES]
    return encoded.decode("utf-8", "ignore")


MAX_JOINED_KEPT = 64 * 1024
"""Bytes of the longest result that `join` caches. Joining 64 KiB takes a sixth of the time of the
system call that writes them."""

_joined: tuple[Sequence[bytes], bytes] = ((), b"")


def join(frames: Sequence[bytes]) -> bytes:
    """Concatenate frames.

    The publishes of one loop turn are written to every subscriber as the same list, so the last
    result is cached. For 16 small frames a hit takes a third of the time of joining them.
    """
    global _joined  # noqa: PLW0603  An object to hold it would cost a lookup for each write.
    remembered = _joined
    if frames is remembered[0]:
        return remembered[1]
    joined = b"".join(frames)
    if len(joined) <= MAX_JOINED_KEPT:
        _joined = (frames, joined)
    return joined


def payload_start(frame: bytes) -> int:
    """Return the position of the payload in a frame built here."""
    size = frame[1]
    return 2 if size < 126 else 4 if size == 126 else 10


def frame_payload(frame: bytes) -> tuple[bool, bytes]:
    """Return (whether it is text, the payload) of a frame built here."""
    return frame[0] == _TEXT, frame[payload_start(frame) :]
