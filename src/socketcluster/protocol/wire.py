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
from socketcluster.codecs.json import MAX_DEPTH, SHORT, JSONCodec
from socketcluster.codecs.minbin import MinBinCodec, lengthen
from socketcluster.codecs.scan import count_containers
from socketcluster.codecs.text import utf8
from socketcluster.errors import InvalidArgumentsError, InvalidMessageError, SocketClusterError
from socketcluster.protocol.frames import binary_frame, text_frame
from socketcluster.protocol.json_packets import (
    PUBLISH_START,
    UNREADABLE,
    cid_of,
    decode_packet,
    read,
    read_short_publish,
)
from socketcluster.protocol.packets import (
    SYSTEM_EVENTS,
    AnyPacket,
    Batch,
    Packet,
    Unparsed,
    packet_from,
    readable,
)

UNPARSED_ABOVE = 512
"""Bytes of a message above which to keep bytes costs less than to keep a value."""

_ENCODE = msgspec.json.Encoder().encode
_SKIP = msgspec.json.Decoder(msgspec.Raw).decode
_ANSWER_KEY = b'"rid"'
_FLAT = (str, int, float, bool, type(None))


def largest_uncounted(messages: int, size: int) -> int:
    """Bytes of a message up to which its data is parsed at once and counts by its number alone:
    so many messages, the limit of their number, are within the limit of bytes."""
    return min(UNPARSED_ABOVE, size // messages)


class DroppableFrame(bytes):
    """The frame of a publish that may be dropped when its receiver is too slow."""


class Wire:
    """Decodes messages and builds frames with one codec.

    Attributes:
        unparsed_above: bytes of a message; of a longer one the data of a user's event or call
            is left `Unparsed`.
    """

    __slots__ = (
        "_droppable",
        "_encode_json",
        "_json",
        "_short",
        "_text",
        "codec",
        "unparsed_above",
    )

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
        self._text = _makes_text(codec)
        self._json = codec if type(codec) is JSONCodec else None
        self._short = min(self.unparsed_above, SHORT) if self._json is not None else -1
        self._encode_json = codec.encode_bytes if type(codec) is JSONCodec else None

    def decode(self, message: bytes) -> AnyPacket | Batch:
        """A packet, or a batch of them.

        Raises:
            InvalidMessageError: the codec cannot decode the message.
        """
        if len(message) <= self._short:
            try:
                if message.startswith(PUBLISH_START):
                    short = read_short_publish(self._json, message)
                    if short is not None:
                        return short
                packet = decode_packet(message)
                # The common case, in one function: to call another takes a tenth as long again.
                if type(packet.data) in _FLAT or count_containers(message) < MAX_DEPTH:
                    return packet
            except UNREADABLE:
                pass
        codec = self._json
        if codec is None:
            return self._decode_plainly(message)
        return read(codec, message, self.unparsed_above)

    def _decode_plainly(self, message: bytes) -> AnyPacket | Batch:
        codec = self.codec
        if type(codec) is MinBinCodec:
            return self._decode_min_bin(codec, message)
        value = self._value_of(message)
        if isinstance(value, list):
            return Batch(value, packet_from)
        packet = packet_from(value)
        if (
            len(message) > self.unparsed_above
            and packet.event is not None
            and packet.event not in SYSTEM_EVENTS
        ):
            packet.data = Unparsed(message, len(message), self._data_of)
        return packet

    def _decode_min_bin(self, codec: MinBinCodec, message: bytes) -> AnyPacket | Batch:
        if len(message) > self.unparsed_above:
            opened = codec.open_event(message)
            if opened is not None and opened.event not in SYSTEM_EVENTS:
                data = Unparsed(opened.data, len(message), codec.decode_data)
                return Packet(opened.event, data, opened.cid)
        value = codec.decode_short(readable(message))
        if isinstance(value, list):
            return Batch(value, lambda item: packet_from(lengthen(item)))
        return packet_from(lengthen(value))

    def _value_of(self, message: bytes) -> Any:
        try:
            return self.codec.decode(readable(message))
        except SocketClusterError:
            raise
        except Exception as error:
            raise InvalidMessageError(f"The message could not be decoded: {error}") from error

    def _data_of(self, message: bytes) -> Any:
        return packet_from(self._value_of(message)).data

    def cid_of(self, message: bytes) -> int | None:
        """The number of the call that a message which cannot be decoded is, if that can be seen."""
        return None if self._json is None else cid_of(message)

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
        try:
            return text_frame(_ENCODE(packet))
        except (UnicodeEncodeError, OverflowError):
            return self.frame(packet)

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
        return utf8(encoded) if isinstance(encoded, str) else bytes(encoded)

    def payload_of_decoded(self, value: Any) -> bytes:
        """`encode_payload` of a value that was decoded here and that nobody has changed.

        Raises:
            InvalidArgumentsError: the codec cannot encode it.
        """
        return (
            self.encode_payload(value) if self._json is None else self._json.encode_decoded(value)
        )

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

    def decode_sound(self, payload: bytes) -> Any:
        """`decode_payload` of what was checked before: its levels are not counted again."""
        if self._json is not None:
            return self._json.decode_value(payload, sys.maxsize)
        return self.decode_payload(payload)

    def check_payload(self, payload: bytes) -> None:
        """Check what another process published, without building its value where that is possible.

        Raises:
            InvalidMessageError: as `decode_payload`.
        """
        if self._json is not None:
            try:
                if self._json.is_sound(bytes(_SKIP(payload))):
                    return
            except UNREADABLE:
                pass
        self.decode_payload(payload)

    def publish_frame(self, channel: str, payload: bytes) -> bytes:
        """The '#publish' frame for subscribers."""
        frame = self.frame(self.publish_packet(channel, payload))
        return DroppableFrame(frame) if self._droppable(channel) else frame

    def publish_packet(self, channel: str, payload: bytes) -> Any:
        """The '#publish' packet; with the JSON codec the payload stays as it is."""
        data = msgspec.Raw(payload) if self._json is not None else self.decode_payload(payload)
        return {"event": "#publish", "data": {"channel": channel, "data": data}}


def _makes_text(codec: CodecEngine) -> bool:
    """Whether a codec's messages are text: asked of it once, with a packet."""
    if type(codec) in (JSONCodec, MinBinCodec):
        return type(codec) is JSONCodec
    try:
        return isinstance(codec.encode({"rid": 1}), str)
    except Exception:
        return True  # It encodes nothing, and this will be said where it is to.


def frame_of(message: str | bytes) -> bytes:
    """The frame of an encoded message: text for str, binary for bytes."""
    if isinstance(message, str):
        return text_frame(utf8(message))
    return binary_frame(bytes(message))
