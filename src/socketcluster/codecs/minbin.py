"""The min-bin codec: MessagePack with short packets. Source: npm sc-codec-min-bin 3.

`{"e": [event, data, cid?]}`, `{"p": [channel, data, cid?]}` for '#publish',
`{"r": [rid, error, data]}`; anything else is encoded as it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from socketcluster.codecs.json import MAX_DEPTH, deeper_than
from socketcluster.errors import InvalidArgumentsError, InvalidMessageError

_EVENT_KEYS = frozenset({"event", "data", "cid"})
_ANSWER_KEYS = frozenset({"rid", "error", "data"})
_PUBLISH_KEYS = frozenset({"channel", "data"})
# The first bytes of arrays and maps. Source: the MessagePack specification.
_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])


class MinBinCodec:
    """Encodes to bytes; binary data stays binary."""

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
            return self._encode(short)
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
        try:
            value = self._decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InvalidMessageError(f"The message is not valid MessagePack: {error}") from error
        if _may_be_deep(message) and deeper_than(value, MAX_DEPTH):
            raise InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")
        return [_lengthen(item) for item in value] if isinstance(value, list) else _lengthen(value)


def _may_be_deep(message: bytes) -> bool:
    return len(message) - len(message.translate(None, _CONTAINERS)) > MAX_DEPTH


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
