"""Messages to packets and packets to frames: for JSON as fast as can be, else plainly.

A `Wire` is made once per server. What it hands out is finished server frames (`frames.py`), so
that one publish is encoded and framed once for all its subscribers. The payload of a publish
travels as bytes: JSON text with the JSON codec, else what the codec makes of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec, may_be_deep
from socketcluster.errors import InvalidArgumentsError, InvalidMessageError, SocketClusterError
from socketcluster.protocol.frames import binary_frame, text_frame
from socketcluster.protocol.packets import (
    Packet,
    PublishPacket,
    Unparsed,
    UnparsedPacket,
    packet_from,
    readable,
)

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

UNPARSED_ABOVE = 512
"""Bytes of a message above which to keep bytes costs less than to keep a value."""

_PACKET = msgspec.json.Decoder(Packet)
_UNPARSED = msgspec.json.Decoder(UnparsedPacket)
_PUBLISH = msgspec.json.Decoder(PublishPacket)
_ENCODE = msgspec.json.Encoder().encode
_ANY = msgspec.json.Decoder()
_PUBLISH_START = b'{"event":"#publish",'
_ANSWER_KEY = b'"rid"'
_FLAT = (str, int, float, bool, type(None))
_STRING = 0x22

Decoded = Packet | PublishPacket | list[Packet | PublishPacket]


class DroppableFrame(bytes):
    """The frame of a publish that may be dropped when its receiver is too slow."""


class Wire:
    """Decodes messages and builds frames with one codec.

    Attributes:
        unparsed_above: bytes of a message; of a longer one the data of a user's event or call
            is left `Unparsed`.
    """

    __slots__ = ("_droppable", "_encode_json", "_json", "_text", "codec", "unparsed_above")

    def __init__(
        self,
        codec: CodecEngine,
        droppable: Callable[[str], bool] = lambda channel: False,
        unparsed_above: int = sys.maxsize,
    ) -> None:
        self._droppable = droppable
        self.unparsed_above = unparsed_above
        self.use(codec)

    def use(self, codec: CodecEngine) -> None:
        """Encode and decode with another codec from now on."""
        self.codec = codec
        self._text = False
        self._json = codec if type(codec) is JSONCodec else None
        self._encode_json = codec.encode_bytes if type(codec) is JSONCodec else None

    def decode(self, message: bytes) -> Decoded:
        """A packet, or a list of them for a batch.

        Raises:
            InvalidMessageError: the codec cannot decode the message.
        """
        if self._json is not None and type(message) is bytes:
            try:
                if message.startswith(_PUBLISH_START):
                    publish = _PUBLISH.decode(message)
                    # A repeated key may have changed the event after it was looked at.
                    if publish.event == "#publish" and _is_sound(publish.data.data):
                        return publish
                if len(message) > self.unparsed_above:
                    kept = _UNPARSED.decode(message)
                    if kept.event is not None and kept.event not in SYSTEM_EVENTS:
                        data = Unparsed(kept.data, len(message), self._parse_json)
                        return Packet(kept.event, data, kept.cid)
                packet = _PACKET.decode(message)
                if type(packet.data) in _FLAT or not may_be_deep(message):
                    return packet
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # A batch, a raw message, or an error that the codec words.
        value = self._decode_any(message)
        if isinstance(value, list):
            return [packet_from(item) for item in value]
        packet = packet_from(value)
        if (
            len(message) > self.unparsed_above
            and packet.event is not None
            and packet.event not in SYSTEM_EVENTS
        ):
            packet.data = Unparsed(message, len(message), self._parse_any)
        return packet

    def _decode_any(self, message: bytes) -> Any:
        try:
            return self.codec.decode(message if self._json is not None else readable(message))
        except SocketClusterError:
            raise
        except Exception as error:
            raise InvalidMessageError(f"The message could not be decoded: {error}") from error

    def _parse_any(self, message: bytes) -> Any:
        return packet_from(self._decode_any(message)).data

    def _parse_json(self, data: msgspec.Raw) -> Any:
        assert self._json is not None
        return self._json.decode_value(bytes(data))

    def may_answer(self, message: bytes) -> bool:
        """Whether a message may have an answer in it; False only if it cannot. Much cheaper than
        to decode it, with the JSON codec."""
        return self._json is None or _ANSWER_KEY in message

    def frame(self, packet: Any) -> bytes:
        """The frame of one packet.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        if self._encode_json is not None:
            return text_frame(self._encode_json(packet))
        return frame_of(self.encode(packet))

    def answer_frame(self, rid: int | float, data: Any) -> bytes:
        """The frame of an answer with data.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        packet = {"rid": rid, "data": data}
        if self._encode_json is None or type(data) not in _FLAT:
            return self.frame(packet)
        # What has nothing to look for in it is encoded without a detour.
        return text_frame(_ENCODE(packet))

    def encode(self, packet: Any) -> str | bytes:
        """What the codec makes of a packet.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        try:
            return self.codec.encode(packet)
        except SocketClusterError:
            raise
        except Exception as error:
            raise InvalidArgumentsError(f"The data could not be encoded: {error}") from error

    def batch_item(self, packet: Any) -> tuple[Any, int]:
        """A packet made ready for a batch, and its size in bytes; it is checked now so that it
        cannot spoil the others later. A batch is a list of them, for `frame`.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        if self._encode_json is not None:
            encoded = self._encode_json(packet)
            return msgspec.Raw(encoded), len(encoded)
        return packet, len(self.encode(packet))

    def encode_payload(self, data: Any) -> bytes:
        """The payload of a publish as bytes that a broker carries.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        if type(data) is msgspec.Raw:
            return bytes(data)
        if self._encode_json is not None:
            return self._encode_json(data)
        encoded = self.encode(data)
        self._text = isinstance(encoded, str)
        return encoded.encode() if isinstance(encoded, str) else bytes(encoded)

    def decode_payload(self, payload: bytes) -> Any:
        """What `encode_payload` was given.

        Raises:
            InvalidMessageError: it is not something this codec encoded.
        """
        if self._json is not None:
            return self._json.decode_value(payload)
        try:
            # A payload of a codec that makes text is kept as UTF-8.
            return self.codec.decode(payload.decode() if self._text else payload)
        except SocketClusterError:
            raise
        except Exception as error:
            raise InvalidMessageError(f"The payload could not be decoded: {error}") from error

    def publish_frame(self, channel: str, payload: bytes) -> bytes:
        """The '#publish' frame for subscribers."""
        frame = self.frame(self.publish_packet(channel, payload))
        return DroppableFrame(frame) if self._droppable(channel) else frame

    def publish_packet(self, channel: str, payload: bytes) -> Any:
        """The '#publish' packet; with the JSON codec the payload stays as it is."""
        data = msgspec.Raw(payload) if self._json is not None else self.decode_payload(payload)
        return {"event": "#publish", "data": {"channel": channel, "data": data}}


def _is_sound(payload: msgspec.Raw) -> bool:
    """Whether a payload that was left unparsed can be parsed: a number may be too large, or the
    nesting too deep, which is left to the codec to say."""
    data = bytes(payload)
    if data[0] != _STRING:
        _ANY.decode(data)
        return not may_be_deep(data)
    return True


def frame_of(message: str | bytes) -> bytes:
    """The frame of an encoded message: text for str, binary for bytes."""
    if isinstance(message, str):
        return text_frame(message.encode())
    return binary_frame(bytes(message))
