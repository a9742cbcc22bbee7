"""The library that checks data of a type: msgspec, or pydantic for its own types.

Neither checks the types of the other: msgspec would refuse a pydantic model, and a pydantic model
would take a struct unchecked.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from socketcluster.errors import InvalidArgumentsError

Owner = Literal["msgspec", "pydantic"]

_PYDANTIC_MODULES = ("annotated_types", "pydantic", "pydantic_core", "pydantic_extra_types")
_PYDANTIC_MARKS = ("__pydantic_core_schema__", "__get_pydantic_core_schema__")
_MSGSPEC = (msgspec.Struct, msgspec.UnsetType, msgspec.Raw, msgspec.msgpack.Ext)


def owner_of(annotation: Any) -> Owner:
    """Return the library that checks data of a type.

    Raises:
        InvalidArgumentsError: the type has parts of both, or a part that cannot be resolved.
    """
    msgspec_part = pydantic_part = None
    for part in parts_of(annotation):
        if pydantic_part is None and _is_pydantic(part):
            pydantic_part = part
        elif msgspec_part is None and _is_msgspec(part):
            msgspec_part = part
    if pydantic_part is None:
        return "msgspec"
    if msgspec_part is not None:
        raise InvalidArgumentsError(
            f"{text_of_type(annotation)} mixes msgspec's {text_of_type(msgspec_part)} with "
            f"pydantic's {text_of_type(pydantic_part)}: make both of one library"
        )
    return "pydantic"


def parts_of(annotation: Any) -> Iterator[Any]:
    """Yield all types and `Annotated` metadata in a type, those of its classes' fields too.

    Raises:
        InvalidArgumentsError: a field's annotation cannot be resolved.
    """
    seen: set[int] = set()
    waiting: list[Any] = [annotation]
    for part in waiting:  # It grows meanwhile.
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += _inside(part)


def text_of_type(annotation: Any) -> str:
    """Return a type as a programmer writes it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return f"`{annotation.__qualname__}`"
    return f"`{annotation!r}`".replace("typing.", "")


def _inside(part: Any) -> list[Any]:
    origin = typing.get_origin(part)
    if origin is Literal:
        return []
    if origin is typing.Annotated:
        return [part.__origin__, *part.__metadata__]
    if origin is not None:
        return [origin, *typing.get_args(part)]
    if isinstance(part, typing.NewType):
        return [part.__supertype__]
    if hasattr(part, "__value__"):  # `type X = …`
        return [part.__value__]
    return _fields_of(part) if isinstance(part, type) else []


def _fields_of(kind: type) -> list[Any]:
    fields = getattr(kind, "__pydantic_fields__", None)
    if isinstance(fields, dict):
        return [inner for field in fields.values() for inner in (field.annotation, *field.metadata)]
    if not (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or hasattr(kind, "__attrs_attrs__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    ):
        return []
    try:
        return list(typing.get_type_hints(kind, include_extras=True).values())
    except (NameError, TypeError, AttributeError) as error:
        raise InvalidArgumentsError(
            f"A field's annotation in {text_of_type(kind)} cannot be resolved: {error}"
        ) from error


def _is_pydantic(part: Any) -> bool:
    kind = part if isinstance(part, type) else type(part)
    if kind.__module__.partition(".")[0] in _PYDANTIC_MODULES:
        return True
    return any(mark in kind.__dict__ for mark in _PYDANTIC_MARKS)


def _is_msgspec(part: Any) -> bool:
    return isinstance(part, msgspec.Meta) or (isinstance(part, type) and issubclass(part, _MSGSPEC))
