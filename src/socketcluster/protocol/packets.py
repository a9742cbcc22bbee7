"""Packets: what a message says once it is decoded.

`{"event", "data", "cid"}` is a call, the same without `cid` an event, `{"rid", "data"|"error"}`
an answer; an array is a batch of them; anything else is a raw message.

Source: SocketCluster protocol 2, "Packets".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from socketcluster.codecs.text import whole_text
from socketcluster.errors import InvalidMessageError, InvalidRequestError, hydrate_error

SYSTEM_EVENTS = frozenset(
    {
        "#handshake",
        "#authenticate",
        "#removeAuthToken",
        "#publish",
        "#subscribe",
        "#unsubscribe",
    }
)
"""The protocol's own events. Source: SocketCluster protocol 2."""


class BinaryMessage(bytes):
    """A message that came in a binary frame; plain bytes stand for text as UTF-8."""

    __slots__ = ()


def public_message(message: bytes) -> str | bytes:
    """A message as users see it: str if it was text, else bytes."""
    return bytes(message) if type(message) is BinaryMessage else message.decode()


def internal_message(message: str | bytes) -> bytes:
    """The reverse of `public_message`."""
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
    it is an answer (`rid` set) or a raw message. `data` may be `Unparsed`, and `error` too."""

    event: str | None = None
    data: Any = None
    cid: int | float | None = None
    rid: int | float | None = None
    error: Any = None


class PublishPacket(msgspec.Struct, gc=False):
    """A '#publish' packet whose payload nobody has parsed."""

    event: str
    data: Publication
    cid: int | float | None = None


AnyPacket = Packet | PublishPacket


class Batch:
    """The packets of one message, each made when it is asked for: one that cannot be read is not
    the end of the others."""

    __slots__ = ("_items", "_make")

    def __init__(self, items: Sequence[Any], make: Callable[[Any], AnyPacket]) -> None:
        self._items = items
        self._make = make

    def __len__(self) -> int:
        return len(self._items)

    def packet(self, index: int) -> AnyPacket:
        """One of the packets.

        Raises:
            InvalidMessageError: the codec cannot read it.
        """
        return self._make(self._items[index])

    def readable_packets(self) -> Iterator[AnyPacket]:
        """The packets, with one that stands for nothing in the place of each unreadable one."""
        for index in range(len(self)):
            try:
                yield self.packet(index)
            except InvalidMessageError:
                yield RAW_PACKET


def is_answer(packet: Packet) -> bool:
    """Whether a packet answers a call."""
    return packet.event is None and packet.rid is not None


def answer_of(packet: Packet) -> tuple[BaseException | None, Any]:
    """The error and the data of an answer, parsed; the error says it when they cannot be."""
    error, data = packet.error, packet.data
    try:
        if type(error) is Unparsed:
            error = error.parse()
        if type(data) is Unparsed:
            data = data.parse()
    except InvalidMessageError as invalid:  # Rather than no answer at all.
        return invalid, None
    return (None if error is None else hydrate_error(error)), data


RAW_PACKET = Packet()
"""Stands for a message that is valid in the codec and no packet."""


def number(value: Any) -> int | float | None:
    """A value that may number a call, else None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def packet_from(value: Any) -> Packet:
    """The packet that a decoded value is; a wrong type in a field leaves that field out."""
    if not isinstance(value, dict):
        return RAW_PACKET
    event = value.get("event")
    return Packet(
        event=whole_text(event) if isinstance(event, str) else None,
        data=value.get("data"),
        cid=number(value.get("cid")),
        rid=number(value.get("rid")),
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
    return channel if channel.isascii() else whole_text(channel)
