"""The type variable of requests and channels: their data is Any where no type is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    DataT = TypeVar("DataT", default=Any)
else:  # Before Python 3.13, a type variable of `typing` has no default.
    from typing import TypeVar

    DataT = TypeVar("DataT")
