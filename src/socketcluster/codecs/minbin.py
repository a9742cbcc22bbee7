"""The min-bin codec: MessagePack with short packets. Source: npm sc-codec-min-bin 3.

`{"e": [event, data, cid?]}`, `{"p": [channel, data, cid?]}` for '#publish',
`{"r": [rid, error, data]}`; anything else is encoded as it is.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from socketcluster.codecs.collector import MANY_CONTAINERS, rest_collector
from socketcluster.codecs.json import MAX_DEPTH
from socketcluster.codecs.scan import deeper_than
from socketcluster.codecs.text import with_whole_texts
from socketcluster.errors import InvalidArgumentsError, InvalidMessageError

_EVENT_KEYS = frozenset({"event", "data", "cid"})
_ANSWER_KEYS = frozenset({"rid", "error", "data"})
_PUBLISH_KEYS = frozenset({"channel", "data"})
# The first bytes of arrays and maps. Source: the MessagePack specification.
_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_HALF_CHARACTER = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


class MinBinCodec:
    """Encodes to bytes; binary data stays binary. Half a character in a text becomes U+FFFD both
    ways."""

    __slots__ = ("_decode", "_encode")

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode

    def encode(self, obj: Any) -> bytes:
        """The message for a packet or a batch.

        Raises:
            InvalidArgumentsError: something in it has no MessagePack form.
        """
        short = [_shorten(item) for item in obj] if isinstance(obj, list) else _shorten(obj)
        try:
            try:
                return self._encode(short)
            except UnicodeEncodeError:
                return self._encode(with_whole_texts(short))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgumentsError(
                f"The data cannot be encoded as MessagePack: {error}"
            ) from error

    def decode(self, message: bytes | str) -> Any:
        """The packet or batch of a message.

        Raises:
            InvalidMessageError: it is not MessagePack, or a text message, or has more than
                `MAX_DEPTH` levels, which might not be encoded again.
        """
        if isinstance(message, str):
            raise InvalidMessageError("The message is text, and the codec is binary")
        containers = len(message) - len(message.translate(None, _CONTAINERS))
        rest = rest_collector() if containers > MANY_CONTAINERS else None
        try:
            try:
                value = self._decode(message)
            except UnicodeDecodeError:
                # As long as U+FFFD, so that the lengths in the message stay true.
                value = self._decode(_HALF_CHARACTER.sub("\ufffd".encode(), message))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InvalidMessageError(f"The message is not valid MessagePack: {error}") from error
        finally:
            del rest
        if containers > MAX_DEPTH and _is_deep(value):
            raise InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")
        return [_lengthen(item) for item in value] if isinstance(value, list) else _lengthen(value)


_as_json = msgspec.json.Encoder(enc_hook=lambda extension: None).encode


def _is_deep(value: Any) -> bool:
    # In JSON text the levels can be seen, and to encode it takes less than it took to decode it.
    try:
        return deeper_than(_as_json(value), MAX_DEPTH)
    except (TypeError, ValueError):
        return _is_deep_with_odd_keys(value)
    except RecursionError:
        return True


def _is_deep_with_odd_keys(value: Any) -> bool:
    # A map with keys that are no texts or numbers, which JavaScript never sends.
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _shorten(packet: Any) -> Any:
    # What has other keys is left as it is: the short forms have no place for them.
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


def _lengthen(packet: Any) -> Any:
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
