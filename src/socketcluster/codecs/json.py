"""The JSON codec, the default. Source: npm sc-formatter; RFC 8259.

Binary data is encoded as `{"base64": true, "data": "…"}` and left so when decoded. A message that
does not begin like an object or array is no JSON but a raw message, and decoded as its text.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from socketcluster.errors import InvalidArgumentsError, InvalidMessageError

MAX_DEPTH = 128
"""Levels of nesting in a message received: what is deeper might not be encoded again."""

_LEAVES = frozenset({str, int, float, bool, type(None), msgspec.Raw})
_BINARY = (bytes, bytearray, memoryview)
_STARTS_LIKE_JSON = re.compile(rb"[ \n\r\t]*[{\[]").match


class JSONCodec:
    """Encodes to JSON text, decodes text or UTF-8."""

    __slots__ = ("_decode", "_encode")

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, obj: Any) -> str:
        """JSON text.

        Raises:
            InvalidArgumentsError: something in it has no JSON form.
        """
        return self.encode_bytes(obj).decode()

    def encode_bytes(self, obj: Any) -> bytes:
        """JSON text as UTF-8; `msgspec.Raw` values are copied in as they are.

        Raises:
            InvalidArgumentsError: something in it has no JSON form.
        """
        try:
            return self._encode(_rewritten(obj) if _needs_rewriting(obj) else obj)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgumentsError(f"The data cannot be encoded as JSON: {error}") from error

    def decode(self, message: str | bytes) -> Any:
        """The value of JSON text; a text that is no object or array is returned as it is.

        Raises:
            InvalidMessageError: it begins like JSON and is not, or it could not be encoded
                again: an integer is too long, or there are more than `MAX_DEPTH` levels.
        """
        data = message.encode("utf-8", "surrogatepass") if isinstance(message, str) else message
        if not _STARTS_LIKE_JSON(data):
            return self._raw(message)
        try:
            value = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessageError(f"The message is not valid JSON: {error}") from error
        if may_be_deep(data) and deeper_than(value, MAX_DEPTH):
            raise InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")
        return value

    def _raw(self, message: str | bytes) -> str | bytes:
        if isinstance(message, str):
            return message
        try:
            return message.decode()
        except UnicodeDecodeError:
            return message

    def decode_value(self, data: bytes) -> Any:
        """The value of any JSON text, strings and numbers too: what `encode_bytes` was given.

        Raises:
            InvalidMessageError: as `decode`.
        """
        if _STARTS_LIKE_JSON(data):
            return self.decode(data)
        try:
            return self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidMessageError(f"The message is not valid JSON: {error}") from error


def may_be_deep(message: bytes) -> bool:
    """Whether a message has enough brackets to be nested too deeply."""
    return len(message) > MAX_DEPTH and message.count(b"[") + message.count(b"{") > MAX_DEPTH


def deeper_than(value: Any, limit: int) -> bool:
    """Whether a decoded value has more than `limit` levels of lists and dicts."""
    level = [value]
    for _ in range(limit):
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


def _needs_rewriting(value: Any) -> bool:
    """Whether it has binary data, or an object that may have some: msgspec would encode that
    as a mere string."""
    kind = type(value)
    if kind is dict:
        children = value.values()
    elif kind is list or kind is tuple:
        children = value
    else:
        return kind not in _LEAVES
    for child in children:  # noqa: SIM110  any() takes twice as long.
        if type(child) not in _LEAVES and _needs_rewriting(child):
            return True
    return False


def _rewritten(value: Any) -> Any:
    if type(value) in _LEAVES:
        return value
    if isinstance(value, _BINARY):
        return {"base64": True, "data": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _rewritten(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_rewritten(item) for item in value]
    plain = msgspec.to_builtins(value, builtin_types=_BINARY, str_keys=True)
    return _rewritten(plain) if isinstance(plain, dict | list) else plain
