"""One call that serves many: an item that fails is not the end of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def for_each(
    items: Iterable[T], do: Callable[[T], object], failed: Callable[[T, Exception], object]
) -> None:
    """Call `do(item)` for each item; `failed(item, error)` is called for one that raises."""
    for item in items:
        try:
            do(item)
        except Exception as error:
            failed(item, error)
