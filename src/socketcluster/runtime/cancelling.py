"""Cancellation: of tasks that have not started, and of the current task.

Python warns of a coroutine that is dropped before its first step. A task that is cancelled before
its first step closes its own coroutine, but not the coroutines among its arguments.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any


def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and close the coroutines among its arguments if it has not begun."""
    _close_arguments(task.get_coro())
    task.cancel()


def close(awaitable: object) -> None:
    """Close a coroutine or another awaitable, and the awaitables among its arguments."""
    _close_arguments(awaitable)
    if isinstance(awaitable, Awaitable) and callable(end := getattr(awaitable, "close", None)):
        end()


def is_cancelled(error: BaseException) -> bool:
    """Return whether an error is the cancellation of the current task, not of what it awaited."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _close_arguments(awaitable: object) -> None:
    if (
        inspect.iscoroutine(awaitable)
        and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
        and awaitable.cr_frame is not None
    ):
        for argument in list(awaitable.cr_frame.f_locals.values()):
            close(argument)
