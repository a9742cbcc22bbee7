"""Cancelling what may not have begun.

Python warns of a coroutine that is dropped before its first step. A task that is cancelled so
early closes its own coroutine, but not those that this one was given to await.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any


def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and close what its coroutine was given if that has not begun."""
    _close_given(task.get_coro())
    task.cancel()


def close(awaitable: object) -> None:
    """Close a coroutine, or anything else to await that has `close`, with what it was given."""
    _close_given(awaitable)
    if isinstance(awaitable, Awaitable) and hasattr(awaitable, "close"):
        awaitable.close()


def _close_given(awaitable: object) -> None:
    if (
        inspect.iscoroutine(awaitable)
        and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
        and awaitable.cr_frame is not None
    ):
        for given in list(awaitable.cr_frame.f_locals.values()):
            close(given)
