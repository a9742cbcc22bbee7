"""Packets: the decoded objects of the protocol.

`{"event", "data", "cid"}` is a call, the same without `cid` an event, `{"rid", "data"|"error"}`
an answer; an array is a batch of them; anything else is a raw message.

Source: SocketCluster protocol 2, "Packets".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from socketcluster.codecs.base import TypedDecoder
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
    """A message received in a binary frame. A text message is plain bytes, its UTF-8."""

    __slots__ = ()


def public_message(message: bytes) -> str | bytes:
    """Convert a received message for the application: str for text, else bytes."""
    return bytes(message) if type(message) is BinaryMessage else message.decode()


def internal_message(message: str | bytes) -> bytes:
    """Convert an application's message to the form of a received one."""
    return message.encode() if isinstance(message, str) else BinaryMessage(message)


ABSENT = msgspec.Raw()
"""A field that a packet does not have."""


class Publication(msgspec.Struct, gc=False):
    """The data of a '#publish', its payload and its id as the received bytes."""

    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = ABSENT


class Unparsed:
    """The data of a packet, kept as the received bytes until its value is needed.

    `parse(content)` decodes them, `parse(content, kind)` into a type.

    Attributes:
        size: bytes on the wire.
    """

    __slots__ = ("_content", "_parse", "size")

    def __init__(self, content: Any, size: int, parse: Callable[..., Any]) -> None:
        self.size: int = size
        self._content = content
        self._parse: Callable[..., Any] | None = parse

    def parse(self) -> Any:
        """Return the value. The first call decodes it, and drops the bytes.

        Raises:
            InvalidMessageError: the codec cannot decode it.
        """
        if self._parse is not None:
            self._content = self._parse(self._content)
            self._parse = None
        return self._content

    def parse_as(self, kind: TypedDecoder) -> Any:
        """Return the value as a type. The bytes stay, until `parse` is called.

        Raises:
            InvalidMessageError: the codec cannot decode it.
            InvalidDataError: it is not of the type.
        """
        if self._parse is None:
            return kind.from_value(self._content)
        return self._parse(self._content, kind)


class Packet(msgspec.Struct, gc=False):
    """One packet. `event` is None in an answer, which has a `rid`, and in a raw message.

    A field with a type that the protocol does not allow is None. `data` and `error` may be
    `Unparsed`.
    """

    event: str | None = None
    data: Any = None
    cid: int | float | None = None
    rid: int | float | None = None
    error: Any = None


class PublishPacket(msgspec.Struct, gc=False):
    """A '#publish' packet with an undecoded payload."""

    event: str
    data: Publication
    cid: int | float | None = None


AnyPacket = Packet | PublishPacket


class Batch:
    """The packets of one message, each decoded on access: an invalid one does not affect others.

    Attributes:
        items: the encoded or decoded packets.
        make: makes a packet of an item.
    """

    __slots__ = ("items", "make")

    def __init__(self, items: Sequence[Any], make: Callable[[Any], AnyPacket]) -> None:
        self.items: Sequence[Any] = items
        self.make: Callable[[Any], AnyPacket] = make

    def __len__(self) -> int:
        return len(self.items)

    def packet(self, index: int) -> AnyPacket:
        """Decode one packet.

        Raises:
            InvalidMessageError: the packet is invalid.
        """
        return self.make(self.items[index])

    def packets(self) -> Iterator[AnyPacket]:
        """Yield the packets, with `RAW_PACKET` in place of an invalid one."""
        for index in range(len(self)):
            try:
                yield self.packet(index)
            except InvalidMessageError:
                yield RAW_PACKET


def is_answer(packet: Packet) -> bool:
    """Return whether a packet is an answer."""
    return packet.event is None and packet.rid is not None


def answer_of(packet: Packet) -> tuple[BaseException | None, Any]:
    """Decode the error and the data of an answer; invalid data is an error, too."""
    error, data = packet.error, packet.data
    try:
        if type(error) is Unparsed:
            error = error.parse()
        if type(data) is Unparsed:
            data = data.parse()
    except InvalidMessageError as invalid:  # The call gets an answer all the same.
        return invalid, None
    return (None if error is None else hydrate_error(error)), data


RAW_PACKET = Packet()
"""The packet for a message that the codec accepts, but that is not a packet."""


def number(value: Any) -> int | float | None:
    """Return a value that can be the number of a call, else None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def packet_from(value: Any) -> Packet:
    """Make a packet of a decoded value; a field with a wrong type is None."""
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
    """Return the channel and the data of a '#publish' or a '#subscribe'."""
    if isinstance(data, Publication):
        return data.channel, data.data
    if isinstance(data, dict):
        return data.get("channel"), data.get("data")
    return None, None


def checked_channel(channel: Any, what: str, max_length: int) -> str:
    """Check a peer's channel name, and return it; `what` begins the message of the error.

    Raises:
        InvalidRequestError: it is not text, is empty, or is too long.
    """
    problem = f"{what} channel name was malformatted"
    if not isinstance(channel, str):
        raise InvalidRequestError(problem)
    if not channel:
        raise InvalidRequestError(f"{problem}: it is empty")
    if len(channel) > max_length:
        raise InvalidRequestError(f"{problem}: it is longer than {max_length} characters")
    return channel if channel.isascii() else whole_text(channel)
