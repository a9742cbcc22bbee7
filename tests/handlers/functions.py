"""Functions that handlers are made of, annotated in a module without the names of the tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal


def plain(data: int) -> int:
    """Add one."""
    return data + 1


async def asynchronous(data: int) -> int:
    return data + 1


def unresolvable(data: Decimal) -> None: ...


class Adder:
    """An object that is called."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, data: int) -> int:
        return data + self.number

    def method(self, data: int) -> int:
        return data + self.number


class AsyncAdder(Adder):
    async def __call__(self, data: int) -> int:  # type: ignore[override]
        return data + self.number


def add(number: int, data: int) -> int:
    return data + number


def passing_on(function: Callable[..., Any]) -> Any:
    """Decorate with a plain wrapper."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper


def awaiting(function: Callable[..., Any]) -> Any:
    """Decorate with an async wrapper."""

    @functools.wraps(function)
    async def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper


def unnamed(function: Callable[..., Any]) -> Any:
    """Decorate with a wrapper that hides the signature."""

    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper
