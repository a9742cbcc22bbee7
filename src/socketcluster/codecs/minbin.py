"""The min-bin codec: MessagePack with short packets. Source: npm sc-codec-min-bin 3.

`{"e": [event, data, cid?]}`, `{"p": [channel, data, cid?]}` for '#publish',
`{"r": [rid, error, data]}`; anything else is encoded as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from socketcluster.codecs.base import COLLISIONS_FROM, TypedDecoder
from socketcluster.codecs.collector import MANY_CONTAINERS, pause_collector
from socketcluster.codecs.json import MAX_DEPTH
from socketcluster.codecs.objects import plain_object
from socketcluster.codecs.scan import deeper_than
from socketcluster.codecs.text import with_whole_texts
from socketcluster.errors import EncodeError, InvalidMessageError

_EVENT_KEYS = frozenset({"event", "data", "cid"})
_ANSWER_KEYS = frozenset({"rid", "error", "data"})
_PUBLISH_KEYS = frozenset({"channel", "data"})
# The first bytes of arrays and maps. Source: the MessagePack specification.
_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_PLAIN = (bytes, bytearray, memoryview, datetime)
"""The types that MessagePack has, and JSON has not."""
_LONE_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


class MinBinCodec:
    """Encodes to MessagePack; binary data stays binary.

    A lone surrogate in a text becomes U+FFFD in both directions. The keys of maps are text or
    binary data; those of a message of at most 16 KiB also numbers, times, booleans or None.
    """

    __slots__ = ("_encode",)

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder(enc_hook=plain_object).encode

    def encode(self, obj: Any) -> bytes:
        """Encode a packet or a batch to a message.

        Raises:
            EncodeError: something in it has no MessagePack form.
        """
        short = [_shorten(item) for item in obj] if isinstance(obj, list) else _shorten(obj)
        try:
            try:
                return self._encode(short)
            except UnicodeEncodeError:
                plain = msgspec.to_builtins(short, builtin_types=_PLAIN)
                return self._encode(with_whole_texts(plain))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"The data cannot be encoded as MessagePack: {error}") from error

    def decode(self, message: bytes | str) -> Any:
        """Decode a message to a packet or a batch.

        Raises:
            InvalidMessageError: it is a text message, is not MessagePack, has a key that
                `MinBinCodec` does not allow, or has more than `MAX_DEPTH` levels, which might be
                impossible to encode again.
        """
        value = self.decode_short(message)
        return [lengthen(item) for item in value] if isinstance(value, list) else lengthen(value)

    def decode_short(self, message: bytes | str, levels: int = MAX_DEPTH) -> Any:
        """Decode any MessagePack with up to `levels` levels; packets keep their short form.

        Raises:
            InvalidMessageError: as `decode`.
        """
        if isinstance(message, str):
            raise InvalidMessageError("The message is text, and the codec is binary")
        containers = _count_containers(message)
        pause = pause_collector() if containers > MANY_CONTAINERS else None
        unpack = _UNPACK if len(message) <= COLLISIONS_FROM else _UNPACK_LONG
        try:
            _SKIP(message)  # Before anything is made: an array may claim more items than it has.
            try:
                value = unpack(message)
            except UnicodeDecodeError:
                value = unpack(_with_whole_texts(message))
        except TypeError as error:
            raise InvalidMessageError(
                f"A key of a map in the message is not text, binary data or a scalar: {error}"
            ) from error
        except (ValueError, OverflowError, RecursionError) as error:
            kind = "MessagePack" if unpack is _UNPACK else "MessagePack with text or binary keys"
            raise InvalidMessageError(f"The message is not valid {kind}: {error}") from error
        finally:
            del pause
        if containers > levels and _is_deep(value, levels):
            raise _too_deep()
        return value

    def decode_as(self, data: bytes, kind: TypedDecoder, levels: int = MAX_DEPTH) -> Any:
        """Decode any MessagePack with up to `levels` levels, if possible straight into a type.

        Raises:
            InvalidMessageError: as `decode`.
            InvalidDataError: the value is not of the type.
        """
        decode = kind.msgpack_decoder
        if decode is None or (kind.may_collide and len(data) > COLLISIONS_FROM):
            return kind.from_value(self.decode_short(data, levels))
        containers = _count_containers(data)
        pause = pause_collector() if containers > MANY_CONTAINERS else None
        try:
            value = decode(data)
        except (ValueError, RecursionError) as error:
            # No client of this codec sends very much binary data in its JSON form.
            if (
                isinstance(error, msgspec.ValidationError)
                and not (kind.has_binary and containers <= MANY_CONTAINERS)
                and _is_messagepack(data)
            ):
                raise kind.refusal(error) from error
            return kind.from_value(self.decode_short(data, levels))
        finally:
            del pause
        if containers > levels and _is_deep(value, levels):
            raise _too_deep()
        return value

    def open_event(self, message: bytes) -> OpenEvent | None:
        """Decode an event or a call except its data; None if `decode_short` has to decode it."""
        if not message.startswith(_EVENT_START):
            return None
        fields = message[len(_EVENT_START) :]
        try:
            try:
                return _OPEN(fields)
            except UnicodeDecodeError:
                return _OPEN(_with_whole_texts(fields))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def decode_data(self, data: msgspec.Raw, kind: TypedDecoder | None = None) -> Any:
        """Decode the data of an `OpenEvent`, or decode it into a type.

        Raises:
            InvalidMessageError: as `decode`.
            InvalidDataError: the value is not of the type.
        """
        if kind is not None:
            return self.decode_as(bytes(data), kind, MAX_DEPTH - 2)
        return self.decode_short(bytes(data), MAX_DEPTH - 2)


class OpenEvent(msgspec.Struct, array_like=True, gc=False):
    """The fields of an event or a call, with encoded data."""

    event: str
    data: msgspec.Raw = msgspec.Raw(b"\xc0")
    cid: int | float | None = None


_EVENT_START = b"\x81\xa1e"
_SKIP = msgspec.msgpack.Decoder(msgspec.Raw).decode
_OPEN = msgspec.msgpack.Decoder(OpenEvent).decode
# Of arrays that are keys msgspec makes tuples, whose hashes a peer can make equal. msgpack makes
# lists, which have no hash.
_MSGPACK = partial(msgpack.unpackb, timestamp=3, ext_hook=msgspec.msgpack.Ext)
_UNPACK: Callable[[bytes], Any] = partial(_MSGPACK, strict_map_key=False)
# Nor does Python seed the hashes of numbers and times: very many of them, chosen to meet in the
# same places of a dict, take seconds.
_UNPACK_LONG: Callable[[bytes], Any] = partial(_MSGPACK, strict_map_key=True)


def _too_deep() -> InvalidMessageError:
    return InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")


def _is_messagepack(data: bytes) -> bool:
    try:
        _SKIP(data)
    except msgspec.DecodeError:
        return False
    return True


def _count_containers(message: bytes) -> int:
    return len(message) - len(message.translate(None, _CONTAINERS))


def _with_whole_texts(message: bytes) -> bytes:
    # A lone surrogate has three bytes, as U+FFFD has: the lengths in the message stay correct.
    return _LONE_SURROGATE.sub("\ufffd".encode(), message)


_as_json = msgspec.json.Encoder(enc_hook=lambda odd: "").encode


def _is_deep(value: Any, levels: int) -> bool:
    # JSON text shows the levels, and encoding takes less time than decoding did. A value that has
    # no JSON form counts as a text.
    try:
        return deeper_than(_as_json(value), levels)
    except RecursionError:
        return True


def _shorten(packet: Any) -> Any:
    # A packet with other keys stays as it is: the short forms have no place for them.
    if not isinstance(packet, dict):
        return packet
    data = packet.get("data")
    if packet.get("event") is not None and packet.keys() <= _EVENT_KEYS:
        if (
            packet["event"] == "#publish"
            and isinstance(data, dict)
            and data.keys() == _PUBLISH_KEYS
        ):
            key, fields = "p", [data["channel"], data["data"]]
        else:
            key, fields = "e", [packet["event"], data]
        cid = packet.get("cid")
        return {key: fields if cid is None else [*fields, cid]}
    if packet.get("rid") is not None and packet.keys() <= _ANSWER_KEYS:
        return {"r": [packet["rid"], packet.get("error"), data]}
    return packet


def lengthen(packet: Any) -> Any:
    """Convert a packet from its short form."""
    if not isinstance(packet, dict) or len(packet) != 1:
        return packet
    ((key, fields),) = packet.items()
    if key not in ("e", "p", "r") or not isinstance(fields, list):
        return packet
    first, second, third = (*fields, None, None, None)[:3]
    if key == "r":
        return {"rid": first, "error": second, "data": third}
    if key == "e":
        long: dict[str, Any] = {"event": first, "data": second}
    else:
        long = {"event": "#publish", "data": {"channel": first, "data": second}}
    return long if third is None else {**long, "cid": third}
