"""The wire format: decodes messages to packets and encodes packets to frames, with one codec.

JSON has a fast path. A server or a client has one `Wire`. It makes finished
server frames (`frames.py`), so that a packet is encoded and framed once for all its receivers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from socketcluster.codecs.base import CodecEngine, TypedDecoder
from socketcluster.codecs.json import MAX_DEPTH, SHORT, JSONCodec
from socketcluster.codecs.minbin import MinBinCodec, lengthen
from socketcluster.codecs.scan import count_containers
from socketcluster.errors import InvalidMessageError, SocketClusterError
from socketcluster.protocol.frames import frame_of, text_frame
from socketcluster.protocol.json_packets import (
    DECODE_ERRORS,
    PUBLISH_START,
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
    public_message,
)
from socketcluster.protocol.payloads import Payloads, encode

UNPARSED_ABOVE = 512
"""Bytes of a message above which the bytes take less memory than the decoded value."""

_ENCODE = msgspec.json.Encoder().encode
_ANSWER_KEY = b'"rid"'
_FLAT = (str, int, float, bool, type(None))


def largest_uncounted(messages: int, size: int) -> int:
    """Return the size up to which a message is decoded at once, and counted by number alone.

    As many messages of this size as the limit `messages` allows fit into the limit `size`, in
    bytes.
    """
    return min(UNPARSED_ABOVE, size // messages)


class Wire:
    """Decodes messages and makes frames with one codec.

    Attributes:
        codec: the codec.
        payloads: decodes and frames the payloads of publishes.
        unparsed_above: bytes of a message; of a longer one the data of an application's event or
            call is left `Unparsed`.
    """

    __slots__ = (
        "_encode_json",
        "_json",
        "_short",
        "codec",
        "payloads",
        "unparsed_above",
    )

    codec: CodecEngine

    def __init__(
        self,
        codec: CodecEngine,
        droppable: Callable[[str], bool] = lambda channel: False,
        unparsed_above: int = sys.maxsize,
        make_payloads: type[Payloads] = Payloads,
    ) -> None:
        self.unparsed_above: int = unparsed_above
        self.payloads: Payloads = make_payloads(codec, droppable)
        self.use(codec)

    def use(self, codec: CodecEngine) -> None:
        """Use another codec from now on."""
        self.codec = codec
        self.payloads.use(codec)
        self._json = codec if type(codec) is JSONCodec else None
        self._short = min(self.unparsed_above, SHORT) if self._json is not None else -1
        self._encode_json = codec.encode_bytes if type(codec) is JSONCodec else None

    def decode(self, message: bytes) -> AnyPacket | Batch:
        """Decode a message to a packet or a batch.

        Raises:
            InvalidMessageError: the codec cannot decode it.
        """
        if len(message) <= self._short:
            try:
                if message.startswith(PUBLISH_START):
                    short = read_short_publish(self._json, message)
                    if short is not None:
                        return short
                packet = decode_packet(message)
                # The common case is inlined: one more function call would add a tenth to its time.
                if type(packet.data) in _FLAT or count_containers(message) < MAX_DEPTH:
                    return packet
            except DECODE_ERRORS:
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
        value = codec.decode_short(public_message(message))
        if isinstance(value, list):
            return Batch(value, lambda item: packet_from(lengthen(item)))
        return packet_from(lengthen(value))

    def _value_of(self, message: bytes) -> Any:
        try:
            return self.codec.decode(public_message(message))
        except SocketClusterError:
            raise
        except Exception as error:
            raise InvalidMessageError(f"The message could not be decoded: {error}") from error

    def _data_of(self, message: bytes, kind: TypedDecoder | None = None) -> Any:
        data = packet_from(self._value_of(message)).data
        return data if kind is None else kind.from_value(data)

    def cid_of(self, message: bytes) -> int | None:
        """Find a call's number in a message that cannot be decoded; None if that fails."""
        return None if self._json is None else cid_of(message)

    def may_answer(self, message: bytes) -> bool:
        """Return whether a message may contain an answer; False rules it out.

        With the JSON codec this is much cheaper than decoding.
        """
        return self._json is None or _ANSWER_KEY in message

    def may_be_batch(self, message: bytes) -> bool:
        """Return whether a message may be a batch; False rules it out.

        With the JSON codec this is much cheaper than decoding.
        """
        return self._json is None or message.lstrip(b" \t\r\n").startswith(b"[")

    def frame(self, packet: Any) -> bytes:
        """Encode and frame one packet.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        if self._encode_json is not None:
            return text_frame(self._encode_json(packet))
        return frame_of(self.encode(packet))

    def answer_frame(self, rid: int | float, data: Any, *, directly: bool = False) -> bytes:
        """Encode and frame an answer with data.

        `directly` says that the data contains no binary data, by its type.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        packet = {"rid": rid, "data": data}
        if self._encode_json is None or not (directly or type(data) in _FLAT):
            return self.frame(packet)
        # A scalar contains no binary data. Looking for it would take a fifth of the time.
        try:
            return text_frame(_ENCODE(packet))
        except (TypeError, ValueError, OverflowError, RecursionError):
            return self.frame(packet)

    def encode(self, packet: Any) -> str | bytes:
        """Encode a packet with the codec.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        return encode(self.codec, packet)

    def batch_item(self, packet: Any) -> tuple[Any, int]:
        """Encode or check a packet for a batch, and return it with its size in bytes.

        It is checked now so that it cannot fail the whole batch later. `frame` takes a list of
        such packets.

        Raises:
            EncodeError: the codec cannot encode it.
        """
        if self._encode_json is not None:
            encoded = self._encode_json(packet)
            return msgspec.Raw(encoded), len(encoded)
        return packet, len(self.encode(packet))
