"""The tests of the server run over TCP, and in memory, where waiting takes no time. Nothing
escapes into the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest

from socketcluster import AGServer, testing
from socketcluster.engines.registry import resolve_engine
from support import nothing_escapes


@pytest.fixture(autouse=True)
async def guarded() -> AsyncIterator[None]:
    """Fail a test in which an exception reached the loop's handler."""
    async with nothing_escapes():
        yield


@pytest.fixture(params=["picows", "memory"])
async def make_server(request: Any) -> AsyncIterator[Any]:
    """Make servers that are reached by an engine, or in memory; they are closed at the end.

    A test may ask for other ones: `parametrize("make_server", ["picows", "asgi"], indirect=True)`.
    """
    servers: list[AGServer] = []
    in_memory = request.param == "memory"

    async def make(server: AGServer | None = None, **options: Any) -> AGServer:
        options.setdefault("drain_timeout", 100)
        server = AGServer(**options) if server is None else server
        servers.append(server)
        if in_memory:
            await server.start()
        else:
            server.engine = resolve_engine(request.param, {})
            await server.listen(0)
        return server

    async with testing.clock(auto=True) if in_memory else nullcontext():
        yield make
        for server in servers:
            await server.close()
