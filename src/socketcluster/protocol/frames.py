"""Finished server frames: unmasked, final, built once and written to many.

Source: RFC 6455, section 5.2 (framing) and 5.5 (control frames).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_TEXT = 0x81
_BINARY = 0x82
_CLOSE = 0x88
_PONG = 0x8A
MAX_REASON_BYTES = 123


_head = struct.Struct(">BBH").pack
_SHORT = [bytes((_TEXT, size)) for size in range(126)]


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _head(first, 126, size) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """A text message; `payload` is UTF-8."""
    if len(payload) < 126:
        return _SHORT[len(payload)] + payload
    return _frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """A binary message."""
    return _frame(_BINARY, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping, whose payload (at most 125 bytes) it repeats."""
    return _frame(_PONG, payload)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to 123 bytes, between characters. 1005 means no code."""
    if code == 1005:
        return _frame(_CLOSE, b"")
    return _frame(_CLOSE, code.to_bytes(2, "big") + cut_reason(reason).encode())


def may_be_sent(code: int) -> bool:
    """Whether a close frame may have this code (RFC 6455, section 7.4)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def cut_reason(reason: str) -> str:
    """A reason that fits into a close frame."""
    encoded = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES]
    return encoded.decode("utf-8", "ignore")


_joined: tuple[Sequence[bytes], bytes] = ((), b"")


def join(frames: Sequence[bytes]) -> bytes:
    """Frames in one. What goes to many connections comes as the same list: joined once."""
    global _joined
    joined = _joined
    if frames is not joined[0]:
        _joined = joined = (frames, b"".join(frames))
    return joined[1]


def payload_start(frame: bytes) -> int:
    """Where the payload of a frame built here begins."""
    size = frame[1]
    return 2 if size < 126 else 4 if size == 126 else 10


def frame_payload(frame: bytes) -> tuple[bool, bytes]:
    """(whether it is text, the payload) of a frame built here."""
    return frame[0] == _TEXT, frame[payload_start(frame) :]
