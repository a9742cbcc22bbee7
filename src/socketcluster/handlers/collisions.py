"""Collisions: items of sets and keys of dicts whose hashes a peer can make equal.

Python seeds the hashes of texts, and not those of numbers: a set of 40,000 numbers with one hash
takes a minute. A type that hashes numbers is therefore checked before it is made.
"""

from __future__ import annotations

import decimal
import uuid
from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import inspect

from socketcluster.errors import InvalidDataError

MAX_COLLISIONS = 1000
"""How many items or keys may have one hash, or a hash that cannot be checked."""

_SAFE = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.EnumType,
    inspect.LiteralType,
)
_HASHED: dict[Any, Any] = {
    inspect.IntType: list[int],
    inspect.UUIDType: list[uuid.UUID],
    inspect.DecimalType: list[decimal.Decimal],
}


def hashed_in(kind: Any) -> inspect.Type | None:
    """Return the type of a container's items or keys if a peer can make their hashes equal."""
    hashed: inspect.Type
    if isinstance(kind, inspect.SetType | inspect.FrozenSetType):
        hashed = kind.item_type
    elif isinstance(kind, inspect.DictType) and not isinstance(kind.key_type, inspect.AnyType):
        hashed = kind.key_type
    else:
        return None
    kinds = hashed.types if isinstance(hashed, inspect.UnionType) else (hashed,)
    return None if all(isinstance(each, _SAFE) for each in kinds) else hashed


def check_collisions(values: Collection[Any], kind: inspect.Type) -> None:
    """Check the decoded items of a set, or the keys of a dict, before they are hashed.

    Raises:
        InvalidDataError: too many of them have one hash, or are not of the type.
    """
    if len(values) <= MAX_COLLISIONS:
        return
    wanted = _HASHED.get(type(kind))
    if wanted is None:
        raise _too_many("items or keys of a type whose hashes cannot be checked")
    try:
        checked = msgspec.convert(list(values), wanted, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidDataError(f"In a set, or among the keys of a dict: {error}", "$") from error
    if Counter(map(hash, checked)).most_common(1)[0][1] > MAX_COLLISIONS:
        raise _too_many("items or keys with the same hash")


def _too_many(what: str) -> InvalidDataError:
    return InvalidDataError(f"The data has more than {MAX_COLLISIONS:,} {what}", "$")
