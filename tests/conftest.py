"""Fixtures: servers on port 0 that are closed, tasks that are stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from socketcluster import AGServer
from support import Running

MakeServer = Callable[..., Awaitable[AGServer]]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Tasks of the test."""
    tasks = Running()
    yield tasks
    await tasks.stop()


@pytest.fixture
async def make_server() -> AsyncIterator[MakeServer]:
    """Make servers that listen; they are closed at the end."""
    servers: list[AGServer] = []

    async def make(server: AGServer | None = None, **options: Any) -> AGServer:
        options.setdefault("drain_timeout", 100)
        server = AGServer(**options) if server is None else server
        servers.append(server)
        await server.listen(0)
        return server

    yield make
    for server in servers:
        await server.close()
