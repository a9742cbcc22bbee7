"""Objects that msgspec does not encode by itself: models of pydantic."""

from __future__ import annotations

from typing import Any


def plain_object(value: Any) -> Any:
    """Return a model of pydantic as plain types, by its aliases and serializers.

    Raises:
        TypeError: it is no model.
        ValueError: pydantic cannot serialize it.
    """
    if not callable(getattr(type(value), "model_dump", None)):
        raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported")
    return value.model_dump(mode="json", by_alias=True, warnings="error")
