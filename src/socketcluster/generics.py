"""Typing that Python 3.11 does not have: a type variable with a default, and TypeForm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeForm, TypeVar

    DataT = TypeVar("DataT", default=Any)
else:
    from typing import TypeVar

    DataT = TypeVar("DataT")
    TypeForm = type

__all__ = ["DataT", "TypeForm"]
