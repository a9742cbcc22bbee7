"""DataType: the type of a handler's data or answer, as its function is annotated.

Types of msgspec and of the standard library are checked by msgspec, in its strict mode; types of
pydantic by pydantic, as their models are configured. pydantic is never needed for others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

import msgspec

from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidDataError
from socketcluster.handlers.checkers import MsgspecChecker, PydanticChecker
from socketcluster.handlers.ownership import owner_of, text_of_type

T = TypeVar("T")

_JSON = JSONCodec()
_MIN_BIN = MinBinCodec()
_ANY = (Any, object, inspect.Parameter.empty)


class DataType(Generic[T]):
    """The type of a handler's data or answer. `DataType.of` makes it.

    Attributes:
        annotation: the type, as written.
        kind: the library that checks it.
        is_any: whether nothing is checked.
        encodes_directly: whether `msgspec.json.encode` alone encodes a value as the JSON codec
            does, because no part of the type can be binary data.
        has_binary: whether a part of the type is binary data.
        has_floats: whether decoding may convert floats; msgspec takes long for some.
        may_collide: whether it hashes values whose hashes a peer can make equal.
        json_decoder: decodes JSON straight into the type, without the limits of a message.
            `refusal` makes a peer's error of the ValidationError that it raises; after any other
            ValueError or RecursionError `from_json` has to decide. None: it always has to.
        msgpack_decoder: the same for MessagePack.
    """

    __slots__ = (
        "_from_value",
        "_refusal",
        "_to_plain",
        "annotation",
        "encodes_directly",
        "has_binary",
        "has_floats",
        "is_any",
        "json_decoder",
        "kind",
        "may_collide",
        "msgpack_decoder",
    )

    def __init__(self, annotation: Any) -> None:
        """Raise InvalidArgumentsError if data of the type cannot be checked."""
        self.annotation: Any = annotation
        self.is_any: bool = any(annotation is kind for kind in _ANY)
        self.kind: Literal["msgspec", "pydantic"] = (
            "msgspec" if self.is_any else owner_of(annotation)
        )
        checker = (
            PydanticChecker(annotation)
            if self.kind == "pydantic"
            else MsgspecChecker(Any if self.is_any else annotation)
        )
        self._from_value: Callable[[Any], T] = _unchecked if self.is_any else checker.from_value
        self._refusal: Callable[[Any], InvalidDataError] = checker.refusal
        self._to_plain: Callable[[Any], Any] = checker.to_plain
        self.encodes_directly: bool = checker.encodes_directly
        self.has_binary: bool = checker.has_binary
        self.has_floats: bool = checker.has_floats
        self.may_collide: bool = checker.may_collide
        self.json_decoder: Callable[[bytes], Any] | None = (
            None if self.is_any else checker.json_decoder
        )
        self.msgpack_decoder: Callable[[bytes], Any] | None = (
            None if self.is_any else checker.msgpack_decoder
        )

    def __repr__(self) -> str:
        return f"<DataType {text_of_type(self.annotation)}>"

    @classmethod
    def of(cls, annotation: Any) -> DataType[Any]:
        """Return the DataType of a type; the same one for the same type.

        Raises:
            InvalidArgumentsError: data of the type cannot be checked; it says which part cannot.
        """
        try:
            hash(annotation)
        except TypeError:  # The metadata of an `Annotated` may be anything.
            return DataType(annotation)
        return _cached(annotation)

    def from_value(self, value: Any) -> T:
        """Check a decoded value, and return it as the type.

        Raises:
            InvalidDataError: it is not of the type; `path` says where.
        """
        return self._from_value(value)

    def from_json(self, data: bytes | msgspec.Raw) -> T:
        """Decode JSON, checked and within the limits of a message, straight into the type.

        Raises:
            InvalidMessageError: it is not JSON, or beyond the limits.
            InvalidDataError: it is not of the type; `path` says where.
        """
        value: T = _JSON.decode_as(bytes(data), self)
        return value

    def from_msgpack(self, data: bytes | msgspec.Raw) -> T:
        """Decode MessagePack, checked and within the limits of a message, into the type.

        Raises:
            InvalidMessageError: it is not MessagePack, or beyond the limits.
            InvalidDataError: it is not of the type; `path` says where.
        """
        value: T = _MIN_BIN.decode_as(bytes(data), self)
        return value

    def refusal(self, error: msgspec.ValidationError) -> InvalidDataError:
        """Return the error for the peer whose data a decoder refused."""
        return self._refusal(error)

    def to_plain(self, value: T) -> Any:
        """Return a value as the codecs encode it. Models of pydantic become plain types.

        Raises:
            EncodeError: pydantic cannot serialize the value.
        """
        return self._to_plain(value)


def _unchecked(value: Any) -> Any:
    return value


@lru_cache(maxsize=1024, typed=True)
def _cached(annotation: Any) -> DataType[Any]:
    return DataType(annotation)
