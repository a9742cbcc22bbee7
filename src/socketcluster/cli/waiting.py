"""Waiting in the event loop: for file descriptors, and for the first of several coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def wait_readable(descriptor: int) -> None:
    """Wait until a file descriptor can be read, or its other end is closed.

    Raises:
        PermissionError: it is a regular file, which is always ready.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_writable(descriptor: int) -> None:
    """Wait until a file descriptor can be written."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Wait until the first of several coroutines ends, and cancel the others.

    Raises what that coroutine raised. If several end in the same turn of the loop, the first
    argument among them decides.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _resolve(future: asyncio.Future[None]) -> None:
    # The loop may call this again before the waiting task removes it.
    if not future.done():
        future.set_result(None)
