"""The JSON codec, the default. Source: npm sc-formatter; RFC 8259.

Binary data is encoded as `{"base64": true, "data": "…"}`, and decoding keeps that form. A message
that does not begin like an object or an array is a raw message: it decodes to its text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from socketcluster.codecs import scan
from socketcluster.codecs.base import COLLISIONS_FROM, TypedDecoder
from socketcluster.codecs.collector import MANY_CONTAINERS, pause_collector
from socketcluster.codecs.objects import plain_object
from socketcluster.codecs.text import utf8, whole_text
from socketcluster.errors import EncodeError, InvalidMessageError

MAX_DEPTH = 128
"""The most levels of nesting in a received message. A deeper value might be impossible to encode
again."""

SHORT = 512
"""Bytes of the longest text that is decoded without an estimate of its decoding time."""

_LEAVES = frozenset({str, int, float, bool, type(None), msgspec.Raw})
_BINARY = (bytes, bytearray, memoryview)
_ANY = msgspec.json.Decoder()
_SKIP = msgspec.json.Decoder(msgspec.Raw).decode
_PYTHON_FLOATS = msgspec.json.Decoder(float_hook=float)
_STRING = 0x22
_NUMBERS_REMEMBERED = 4096
_STARTS_LIKE_JSON = re.compile(rb"[ \n\r\t]*[{\[]").match


class JSONCodec:
    """Encodes to JSON text, and decodes text or UTF-8.

    A lone surrogate, which JavaScript leaves when it cuts a text inside an emoji, becomes U+FFFD in
    both directions.
    """

    __slots__ = ("_decode", "_encode")

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(float_hook=finite).decode

    def encode(self, obj: Any) -> str:
        """Encode to JSON text.

        Raises:
            EncodeError: something in it has no JSON form.
        """
        return self.encode_bytes(obj).decode()

    def encode_bytes(self, obj: Any) -> bytes:
        """Encode to JSON text as UTF-8; `msgspec.Raw` values are copied as they are.

        Raises:
            EncodeError: something in it has no JSON form.
        """
        try:
            return self._encode(_rewritten(obj) if _needs_rewriting(obj) else obj)
        except UnicodeEncodeError:
            pass  # A lone surrogate.
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _no_json(error) from error
        try:
            return self._encode(_rewritten(obj, whole_text))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _no_json(error) from error

    def encode_decoded(self, value: Any) -> bytes:
        """Encode a result of `decode` or `decode_value`, which contains no binary data."""
        try:
            return self._encode(value)
        except (ValueError, OverflowError):
            return self.encode_bytes(value)

    def decode(self, message: str | bytes) -> Any:
        """Decode JSON text; a text that is not an object or an array is returned unchanged.

        Raises:
            InvalidMessageError: it begins like JSON but is invalid, or the value could not be
                encoded again: an integer is too long, or there are more than `MAX_DEPTH` levels.
        """
        data = utf8(message) if isinstance(message, str) else message
        return self.decode_value(data) if starts_like_json(data) else self._raw(message)

    def _raw(self, message: str | bytes) -> str | bytes:
        if isinstance(message, str):
            return message
        try:
            return message.decode()
        except UnicodeDecodeError:
            return message

    def decode_value(self, data: bytes, levels: int = MAX_DEPTH) -> Any:
        """Decode any JSON text, strings and numbers too, with up to `levels` levels.

        Raises:
            InvalidMessageError: as `decode`.
        """
        try:
            return self._decode_checked(data, levels)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            whole = scan.without_lone_surrogates(data)
            if whole is data:
                raise _not_json(error) from error
        try:
            return self._decode_checked(whole, levels)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _not_json(error) from error

    def decode_as(self, data: bytes, kind: TypedDecoder, levels: int = MAX_DEPTH) -> Any:
        """Decode any JSON text, with up to `levels` levels, straight into a type.

        Raises:
            InvalidMessageError: as `decode`.
            InvalidDataError: the value is not of the type.
        """
        decode = kind.json_decoder
        if (
            decode is not None
            and not (kind.has_floats and scan.has_many_exponents(data))
            and not (kind.may_collide and len(data) > COLLISIONS_FROM)
        ):
            try:
                return self._decode_checked(data, levels, decode)
            except msgspec.ValidationError as error:
                if not kind.has_binary and self._is_json(data, levels):
                    raise kind.refusal(error) from error
            except (ValueError, RecursionError):
                pass  # A lone surrogate, for example.
        return kind.from_value(self.decode_value(data, levels))

    def _is_json(self, data: bytes, levels: int) -> bool:
        try:
            _SKIP(data)
        except msgspec.DecodeError:
            return False
        return self.is_valid(data, levels)

    def _decode_checked(
        self, data: bytes, levels: int, decode: Callable[[bytes], Any] | None = None
    ) -> Any:
        containers = scan.count_containers(data)
        if containers > levels and scan.deeper_than(data, levels):
            raise InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")
        pause = pause_collector() if containers > MANY_CONTAINERS else None
        try:
            if decode is not None:
                return decode(data)
            if len(data) <= SHORT:
                return self._decode(data)
            if scan.has_many_exponents(data):
                return _decode_exponents(data)
            return _ANY.decode(data)
        finally:
            del pause

    def is_valid(self, data: bytes, levels: int = MAX_DEPTH) -> bool:
        """Return whether JSON text from a `msgspec.Raw` can be decoded.

        msgspec has checked its syntax. The value of a long text is not built.
        """
        try:
            if not data.isascii():
                data.decode()
            if len(data) <= SHORT:
                if data[0] != _STRING:
                    self._decode_checked(data, levels)
                return True
            if scan.count_containers(data) > levels and scan.deeper_than(data, levels):
                return False
            if scan.may_overflow(data):
                self._decode_checked(data, levels)
        except (msgspec.DecodeError, ValueError, RecursionError, InvalidMessageError):
            return False
        return True


def starts_like_json(message: bytes) -> bool:
    """Return whether a message begins like an object or an array."""
    return _STARTS_LIKE_JSON(message) is not None


def _no_json(error: Exception) -> EncodeError:
    return EncodeError(f"The data cannot be encoded as JSON: {error}")


def _not_json(error: Exception) -> InvalidMessageError:
    return InvalidMessageError(f"The message is not valid JSON: {error}")


def finite(text: str) -> float:
    """Convert a JSON number that is not an integer.

    Raises:
        ValueError: it is too large.
    """
    value = float(text)
    if value - value:  # Infinite.
        raise _out_of_range(text)
    return value


def _out_of_range(text: str) -> ValueError:
    return ValueError(f"Number out of range: {text[:32]}")


def _decode_exponents(data: bytes) -> Any:
    # msgspec converts 1e300 in 10 µs, and Python in 0.4 µs. A cache would only delay the conversion
    # of numbers that differ. The value and the errors are the same on all three ways.
    if not scan.has_different_exponents(data):
        return msgspec.json.Decoder(float_hook=_Numbers().__getitem__).decode(data)
    if not scan.may_overflow(data):
        return _PYTHON_FLOATS.decode(data)
    conversion = _conversion()
    next(conversion)
    return msgspec.json.Decoder(float_hook=conversion.send).decode(data)


def _conversion() -> Generator[float, str, None]:
    """Convert the numbers that are sent, like `finite`: a generator resumes in half a call."""
    value = 0.0
    while True:
        text = yield value
        value = float(text)
        if value - value:
            raise _out_of_range(text)


class _Numbers(dict[str, float]):
    """A cache of converted numbers, by their text: some take long to convert."""

    __slots__ = ()

    def __missing__(self, text: str) -> float:
        value = float(text)
        if value - value:  # `finite` inlined, for texts with many different numbers.
            raise _out_of_range(text)
        if len(self) < _NUMBERS_REMEMBERED:
            self[text] = value
        return value


def _needs_rewriting(value: Any) -> bool:
    """Return whether a value contains binary data, or an object that may contain it.

    msgspec would encode binary data as a plain string.
    """
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


def _rewritten(value: Any, mended: Callable[[str], str] = str) -> Any:
    if type(value) is str:
        return mended(value)
    if type(value) in _LEAVES:
        return value
    if isinstance(value, _BINARY):
        return {"base64": True, "data": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {
            mended(key) if type(key) is str else key: _rewritten(item, mended)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_rewritten(item, mended) for item in value]
    plain = msgspec.to_builtins(value, builtin_types=_BINARY, str_keys=True, enc_hook=plain_object)
    return _rewritten(plain, mended) if isinstance(plain, dict | list | str) else plain
