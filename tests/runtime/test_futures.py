"""Completing futures whose waiter may have been canceled."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from socketcluster.runtime.futures import complete, resolve


async def test_a_future_is_completed_once() -> None:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    callback = partial(complete, future)
    callback(None, 1)
    callback(None, 2)
    callback(ValueError(), None)
    resolve(future, 3)
    assert await future == 1


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    complete(future, ValueError("no"), None)
    with pytest.raises(ValueError, match="no"):
        await future


async def test_a_canceled_future_ignores_its_result() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()
    resolve(future, 1)
    complete(future, None, 2)
    assert future.cancelled()
