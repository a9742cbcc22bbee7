"""Completion of futures whose waiter may have been cancelled."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


def resolve(future: asyncio.Future[T], result: T) -> None:
    """Set a future's result, unless it is done."""
    if not future.done():
        future.set_result(result)


def complete(future: asyncio.Future[T], error: BaseException | None, result: T) -> None:
    """Set a future's exception if there is one, else its result, unless it is done.

    With `functools.partial(complete, future)` a function that calls back with (error, result) can
    be awaited.
    """
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
