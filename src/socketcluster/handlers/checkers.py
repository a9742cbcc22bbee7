"""Checkers: one for the types of msgspec, one for those of pydantic.

Both have the same attributes; `DataType` chooses.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import re
import typing
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import inspect

from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.scan import may_overflow
from socketcluster.errors import EncodeError, InvalidArgumentsError, InvalidDataError
from socketcluster.handlers.binary import Readers, is_binary, kinds_in, with_binary
from socketcluster.handlers.collisions import hashed_in
from socketcluster.handlers.ownership import parts_of, text_of_type

MAX_MESSAGE = 1000
"""Characters of an error's message: it may quote a key that the peer chose."""

MAX_ERRORS = 1000
"""Errors of pydantic that are read: it collects all, each for a few microseconds."""

MAX_COLLIDING = 64 * 1024
"""Bytes of data for a type of pydantic that hashes numbers; see `collisions`."""

_HASHING = (dict, set, frozenset, collections.abc.Mapping, collections.abc.Set)
_SEEDED = (str, bytes, bool, float)

_PATH = re.compile(r"- at (?:`key` in )?`(\$.*)`$")
_JSON = JSONCodec()
_OPEN = (inspect.AnyType, inspect.CustomType)
_TEXTS = (inspect.StrType, inspect.AnyType)
_SUPPORTED = "a struct, a dataclass, a TypedDict, a type of the standard library, or Any"


class MsgspecChecker:
    """Checks data of a type that msgspec knows.

    Attributes:
        encodes_directly: whether `msgspec.json.encode` alone encodes values as the codec does.
        has_binary: whether a part of the type is binary data.
        has_floats: whether decoding may convert floats, which is slow for some.
        may_collide: whether it hashes values whose hashes a peer can make equal.
        json_decoder, msgpack_decoder: decode straight from bytes, as `TypedDecoder` says; None if
            `from_value` always decides.
    """

    def __init__(self, annotation: Any) -> None:
        """Raise InvalidArgumentsError if msgspec cannot check the type."""
        self._annotation = annotation
        try:
            whole = inspect.type_info(annotation)
            kinds = list(kinds_in(whole))
            json_decoder = msgspec.json.Decoder(annotation)
            msgpack_decoder = msgspec.msgpack.Decoder(annotation)
        except (TypeError, ValueError, NameError) as error:
            raise InvalidArgumentsError(
                f"Data of the type {text_of_type(annotation)} cannot be checked: {error}"
            ) from error
        for kind in kinds:
            _assert_supported(annotation, kind)
        # JavaScript has text keys only.
        self._has_other_keys = any(
            isinstance(kind, inspect.DictType) and not isinstance(kind.key_type, _TEXTS)
            for kind in kinds
        )
        is_open = any(isinstance(kind, _OPEN) for kind in kinds)
        self._read = Readers().reader(whole)
        self.has_binary: bool = any(map(is_binary, kinds))
        self.may_collide: bool = any(map(hashed_in, kinds))
        self.encodes_directly: bool = not is_open and not self.has_binary
        self.has_floats: bool = is_open or any(isinstance(k, inspect.FloatType) for k in kinds)
        self.json_decoder: Callable[[bytes], Any] | None = json_decoder.decode
        self.msgpack_decoder: Callable[[bytes], Any] | None = (
            # msgspec makes tuples of arrays that are keys of an Any: `MinBinCodec` refuses them.
            None if self._has_other_keys or is_open else msgpack_decoder.decode
        )

    def from_value(self, value: Any) -> Any:
        """Check a decoded value, and return it as the type."""
        try:
            if self._read is not None:
                value = self._read(value)
            if self._has_other_keys:
                return msgspec.convert(value, self._annotation, str_keys=True)
            return msgspec.convert(value, self._annotation)  # The keyword doubles the time.
        except msgspec.ValidationError as error:
            raise self.refusal(error) from error
        except RecursionError as error:
            raise _invalid("The data is nested too deep", "$") from error

    def refusal(self, error: msgspec.ValidationError) -> InvalidDataError:
        """Return the error for the peer."""
        message = str(error)
        found = _PATH.search(message)
        return _invalid(message, found[1] if found else "$")

    def to_plain(self, value: Any) -> Any:
        """Return the value: the codecs encode all types of msgspec."""
        return value


class PydanticChecker:
    """Checks data of a type that pydantic knows. Its attributes are those of `MsgspecChecker`."""

    encodes_directly = False
    has_floats = False
    may_collide = False  # It refuses long data instead.
    msgpack_decoder = None

    def __init__(self, annotation: Any) -> None:
        """Raise InvalidArgumentsError if pydantic is not installed, or cannot check the type."""
        try:
            import pydantic  # noqa: PLC0415  Optional.
            import pydantic_core  # noqa: PLC0415
        except ImportError as error:
            raise InvalidArgumentsError(
                f"Data of the type {text_of_type(annotation)} is checked by pydantic, which is not "
                "installed: install it with `pip install pydantic`, or use msgspec.Meta"
            ) from error
        self._annotation = annotation
        try:
            self._adapter = pydantic.TypeAdapter[Any](annotation)
        except (pydantic.errors.PydanticUserError, TypeError, NameError) as error:
            raise InvalidArgumentsError(
                f"Data of the type {text_of_type(annotation)} cannot be checked: {error}"
            ) from error
        self._error = pydantic.ValidationError
        self._to_jsonable = pydantic_core.to_jsonable_python
        self._serialization_error = pydantic_core.PydanticSerializationError
        self.json_decoder: Callable[[bytes], Any] | None = self._from_json
        parts = list(parts_of(annotation))
        self.has_binary: bool = any(part in (bytes, bytearray) for part in parts)
        self._most = MAX_COLLIDING if any(map(_hashes_numbers, parts)) else None

    def _check_length(self, data: bytes | str) -> None:
        if self._most is not None and len(data) > self._most:
            raise _invalid(
                f"The data has more than the {self._most:,} bytes that are possible for a type of "
                "pydantic with a set or a dict of values other than texts",
                "$",
            )

    def _from_json(self, data: bytes) -> Any:
        self._check_length(data)
        if may_overflow(data) or b"NaN" in data or b"Infinity" in data:
            _JSON.decode_value(data)  # pydantic takes numbers that are not finite.
        try:
            return self._adapter.validate_json(data)
        except self._error as error:
            if self.has_binary or (error.error_count() == 1 and _is_no_json(error)):
                raise
            raise self.refusal(error) from error

    def from_value(self, value: Any) -> Any:
        """Check a decoded value, and return it as the type."""
        try:
            try:
                text = json.dumps(value)
            except TypeError:  # Binary data of MessagePack.
                return self._adapter.validate_python(value)
            self._check_length(text)
            return self._adapter.validate_json(text)
        except self._error as error:
            if self.has_binary:
                binary = with_binary(value)
                if binary != value:
                    with contextlib.suppress(self._error):
                        return self._adapter.validate_python(binary)
            raise self.refusal(error) from error
        except RecursionError as error:
            raise _invalid("The data is nested too deep", "$") from error

    def refusal(self, error: Any) -> InvalidDataError:
        """Return the error for the peer: the first of pydantic's errors."""
        count = error.error_count()
        if count > MAX_ERRORS:
            return _invalid(f"The data has {count} errors", "$")
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = "$" + "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]
        )
        message = first["msg"] if path == "$" else f"{first['msg']} - at `{path}`"
        return _invalid(f"{message} (and {count - 1} more)" if count > 1 else message, path)

    def to_plain(self, value: Any) -> Any:
        """Serialize a value by its model: aliases, and its own serializers."""
        mode: Literal["python", "json"] = "python" if self.has_binary else "json"
        try:
            plain = self._adapter.dump_python(value, mode=mode, by_alias=True, warnings="error")
            return self._with_binary(plain) if self.has_binary else plain
        except (self._serialization_error, ValueError, TypeError) as error:
            raise EncodeError(
                f"The value cannot be encoded as {text_of_type(self._annotation)}: "
                + " ".join(str(error).split())
            ) from error

    def _with_binary(self, value: Any) -> Any:
        """Convert all but binary data to JSON types."""
        if isinstance(value, bytes | bytearray):
            return value
        if isinstance(value, dict):
            return {self._to_jsonable(k): self._with_binary(v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._with_binary(item) for item in value]
        return self._to_jsonable(value)


def _hashes_numbers(part: Any) -> bool:
    """Return whether a type is a set or a dict of values whose hashes a peer can make equal."""
    arguments = typing.get_args(part)
    if arguments:
        return typing.get_origin(part) in _HASHING and arguments[0] not in _SEEDED
    return part in (set, frozenset)


Checker = MsgspecChecker | PydanticChecker


def _is_no_json(error: Any) -> bool:
    kind: str = error.errors(include_url=False, include_input=False)[0]["type"]
    return kind == "json_invalid"


def _invalid(message: str, path: str) -> InvalidDataError:
    return InvalidDataError(message[:MAX_MESSAGE], path[:MAX_MESSAGE])


def _assert_supported(annotation: Any, kind: inspect.Type) -> None:
    part: Any = None
    if isinstance(kind, inspect.CustomType) and kind.cls is not object:
        part = kind.cls
    elif isinstance(kind, inspect.RawType | inspect.ExtType):
        part = msgspec.Raw if isinstance(kind, inspect.RawType) else msgspec.msgpack.Ext
    if part is not None:
        raise InvalidArgumentsError(
            f"Data of the type {text_of_type(annotation)} cannot be checked, because of "
            f"{text_of_type(part)}: use {_SUPPORTED}"
        )
