"""Envelopes: fields that a payload carries between nodes, before its data.

An envelope is the byte 0xC1, a byte for the kind of the fields, their length in one byte, the
fields, and the payload. No JSON, no other UTF-8 text and no MessagePack begins with 0xC1.
"""

from __future__ import annotations

import struct

MARK = 0xC1

TRACE = 1
"""The `traceparent` of the publish, as ASCII. Source: W3C Trace Context, section 3.2."""

STORED = 2
"""The place of a stored publish: its offset and that of the publish before it, in eight bytes each,
the highest first, then the epoch as ASCII."""

MAX_FIELDS = 255
_HEAD = 3
_OFFSETS = struct.Struct(">QQ")


def envelop(kind: int, fields: bytes, payload: bytes) -> bytes:
    """Put a payload into an envelope. The fields take at most `MAX_FIELDS` bytes."""
    return bytes((MARK, kind, len(fields))) + fields + payload


def open_envelope(message: bytes) -> tuple[int, bytes, bytes] | None:
    """Return (kind, fields, payload) of an envelope; None for another message."""
    if len(message) < _HEAD or message[0] != MARK:
        return None
    end = _HEAD + message[2]
    if len(message) < end:
        return None
    return message[1], message[_HEAD:end], message[end:]


def envelop_stored(epoch: str, offset: int, previous: int, payload: bytes) -> bytes:
    """Put a stored publish into its envelope. See STORED."""
    return envelop(STORED, _OFFSETS.pack(offset, previous) + epoch.encode("ascii"), payload)


def read_stored(fields: bytes) -> tuple[str, int, int] | None:
    """Return (epoch, offset, previous) of the fields of a STORED envelope; None if they are wrong.

    Other programs can publish on the backend, so the fields may be anything.
    """
    if len(fields) <= _OFFSETS.size:
        return None
    offset, previous = _OFFSETS.unpack_from(fields)
    epoch = fields[_OFFSETS.size :]
    if previous >= offset or not epoch.isascii():
        return None
    return epoch.decode("ascii"), offset, previous
