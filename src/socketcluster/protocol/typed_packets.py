"""Typed packets: short JSON messages whose data is decoded straight into a declared type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from socketcluster.codecs.json import MAX_DEPTH, finite
from socketcluster.codecs.scan import count_containers
from socketcluster.protocol.packets import Packet

NAME_AT = len(b'{"event":"')
"""Where the name of an event stands in a message, as clients encode it. Of any other message the
decoder refuses the event, so that the bytes before the name need no check."""


def encoded_name(name: str) -> bytes:
    """Return an event's name as it stands in a message."""
    try:
        return msgspec.json.encode(name)[1:-1]
    except UnicodeEncodeError:  # A lone surrogate, which no message has.
        return b'"'


def typed_decoder(name: str, kind: Any) -> Callable[[bytes], Packet]:
    """Make a decoder of the events and calls of one name, with data of one type.

    The decoder raises a `DECODE_ERRORS` for any other message, and for one that has to be decoded
    with more care.
    """
    # The literal refuses a message whose event is repeated with another name.
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("event", Literal[name]),
        ("data", kind, None) if kind is Any else ("data", kind),
        ("cid", int | float | None, None),
    ]
    packet: Any = msgspec.defstruct("TypedPacket", fields, bases=(Packet,), gc=False)
    decode: Callable[[bytes], Packet] = msgspec.json.Decoder(packet, float_hook=finite).decode
    if kind is not Any:
        return decode

    def decode_shallow(message: bytes) -> Packet:
        if count_containers(message) >= MAX_DEPTH:
            raise ValueError
        return decode(message)

    return decode_shallow
