"""The fields of an error on the wire: their names, values and types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "code": (int,),
    "status_code": (int,),
    "is_bad_token": (bool,),
    "type": (str,),
    "reason": (str,),
    "expiry": (str, int, float),
    "date": (str, int, float),
    "retry_after": (int, float),
}


def camel_case(field: str) -> str:
    """Return a field's name on the wire."""
    head, *tail = field.split("_")
    return head + "".join(part.capitalize() for part in tail)


def wire_value(value: Any) -> Any:
    """Return a field's value on the wire: a datetime is ISO 8601 in UTC."""
    if not isinstance(value, datetime):
        return value
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_type_of(field: str, value: object) -> bool:
    """Return whether a value has a type that the field may have in a peer's error."""
    types = _TYPES[field]  # True and False are integers, too.
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
