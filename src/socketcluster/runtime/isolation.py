"""Isolation of failures: an item that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def for_each(
    items: Iterable[T], do: Callable[[T], object], failed: Callable[[T, Exception], object]
) -> None:
    """Call `do(item)` for each item, and `failed(item, error)` for each that raises."""
    for item in items:
        try:
            do(item)
        except Exception as error:
            failed(item, error)
