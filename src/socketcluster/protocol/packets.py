"""Packets: what a message says once it is decoded.

`{"event", "data", "cid"}` is a call, the same without `cid` an event, `{"rid", "data"|"error"}`
an answer; an array is a batch of them; anything else is a raw message.

Source: SocketCluster protocol 2, "Packets".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from socketcluster.errors import InvalidRequestError


class BinaryMessage(bytes):
    """A message that came in a binary frame; plain bytes stand for text as UTF-8."""

    __slots__ = ()


def readable(message: bytes) -> str | bytes:
    """A message as users see it: str if it was text, else bytes."""
    return bytes(message) if type(message) is BinaryMessage else message.decode()


def unreadable(message: str | bytes) -> bytes:
    """The reverse of `readable`."""
    return message.encode() if isinstance(message, str) else BinaryMessage(message)


class Publication(msgspec.Struct, gc=False):
    """The data of '#publish' with its payload left as the bytes received."""

    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class Unparsed:
    """The data of a packet, kept as the bytes received until somebody wants its value.

    Attributes:
        size: bytes on the wire.
    """

    __slots__ = ("_kept", "_parse", "size")

    def __init__(self, kept: Any, size: int, parse: Callable[[Any], Any]) -> None:
        self.size = size
        self._kept = kept
        self._parse: Callable[[Any], Any] | None = parse

    def parse(self) -> Any:
        """The value. It is built once; the bytes are dropped then.

        Raises:
            InvalidMessageError: the codec cannot decode it.
        """
        if self._parse is not None:
            self._kept = self._parse(self._kept)
            self._parse = None
        return self._kept


class Packet(msgspec.Struct, gc=False):
    """One packet. A field of a type the protocol does not know is None; `event` None means that
    it is an answer (`rid` set) or a raw message. `data` may be `Unparsed`."""

    event: str | None = None
    data: Any = None
    cid: int | float | None = None
    rid: int | float | None = None
    error: Any = None


class UnparsedPacket(msgspec.Struct, gc=False):
    """A packet whose data nobody has parsed."""

    event: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    cid: int | float | None = None


class PublishPacket(msgspec.Struct, gc=False):
    """A '#publish' packet whose payload nobody has parsed."""

    event: str
    data: Publication
    cid: int | float | None = None


def is_answer(packet: Packet) -> bool:
    """Whether a packet answers a call."""
    return packet.event is None and packet.rid is not None


RAW_PACKET = Packet()
"""Stands for a message that is valid in the codec and no packet."""


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def packet_from(value: Any) -> Packet:
    """The packet that a decoded value is; a wrong type in a field leaves that field out."""
    if not isinstance(value, dict):
        return RAW_PACKET
    event = value.get("event")
    return Packet(
        event=event if isinstance(event, str) else None,
        data=value.get("data"),
        cid=_number(value.get("cid")),
        rid=_number(value.get("rid")),
        error=value.get("error"),
    )


def channel_and_data(data: Any) -> tuple[Any, Any]:
    """The channel and the data that '#publish' and '#subscribe' carry."""
    if isinstance(data, Publication):
        return data.channel, data.data
    if isinstance(data, dict):
        return data.get("channel"), data.get("data")
    return None, None


def checked_channel(channel: Any, what: str, max_length: int) -> str:
    """A peer's channel name; `what` it is for begins the error.

    Raises:
        InvalidRequestError: it is no text, empty, or too long.
    """
    problem = f"{what} channel name was malformatted"
    if not isinstance(channel, str):
        raise InvalidRequestError(problem)
    if not channel:
        raise InvalidRequestError(f"{problem}: it is empty")
    if len(channel) > max_length:
        raise InvalidRequestError(f"{problem}: it is longer than {max_length} characters")
    return channel
