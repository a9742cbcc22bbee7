"""The min-bin codec: MessagePack with short packets. Source: npm sc-codec-min-bin 3.

`{"e": [event, data, cid?]}`, `{"p": [channel, data, cid?]}` for '#publish',
`{"r": [rid, error, data]}`; anything else is encoded as it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from socketcluster.errors import InvalidArgumentsError, InvalidMessageError


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
            InvalidMessageError: it is not MessagePack, or a text message.
        """
        if isinstance(message, str):
            raise InvalidMessageError("The message is text, and the codec is binary")
        try:
            value = self._decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InvalidMessageError(f"The message is not valid MessagePack: {error}") from error
        return [_lengthen(item) for item in value] if isinstance(value, list) else _lengthen(value)


def _shorten(packet: Any) -> Any:
    if not isinstance(packet, dict):
        return packet
    event, cid, data = packet.get("event"), packet.get("cid"), packet.get("data")
    if event is not None:
        if event == "#publish" and isinstance(data, dict):
            key, fields = "p", [data.get("channel"), data.get("data")]
        else:
            key, fields = "e", [event, data]
        return {key: fields if cid is None else [*fields, cid]}
    if packet.get("rid") is not None:
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
