"""Fixtures: servers on port 0 that are closed, tasks that are stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from interop.matrix import table
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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the interop matrix."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
    ]
    if lines := table(reports):
        terminalreporter.section("Clients understood")
        for line in lines:
            terminalreporter.write_line(line)
