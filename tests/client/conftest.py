"""A check around every test of the client: no exception reaches the loop's handler."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
async def nothing_escapes() -> AsyncIterator[None]:
    """Fail a test in which an exception reached the loop's handler."""
    escaped: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    yield
    await asyncio.sleep(0)
    gc.collect()
    assert escaped == []
