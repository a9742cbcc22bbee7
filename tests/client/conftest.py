"""What holds for every test of the client: nothing escapes into the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support import nothing_escapes


@pytest.fixture(autouse=True)
async def guarded() -> AsyncIterator[None]:
    """Fail a test in which an exception reached the loop's handler."""
    async with nothing_escapes():
        yield
