"""pytest fixtures, for tests that run with pytest-asyncio or anyio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol, Unpack

import pytest

from socketcluster import testing
from socketcluster.client.option_types import ClientOptionsDict
from socketcluster.client.socket import AGClientSocket
from socketcluster.server.option_types import ServerOptionsDict
from socketcluster.server.server import AGServer

DRAIN_TIMEOUT = 100
"""Milliseconds that a server of `ag_server` waits for open calls when it is closed."""


class ServerFactory(Protocol):
    """The type of the fixture `ag_server`."""

    async def __call__(
        self, server: AGServer | None = None, **options: Unpack[ServerOptionsDict]
    ) -> AGServer:
        """Start `server`, or a server made with `options`; it is closed when the test ends."""
        ...


class ClientFactory(Protocol):
    """The type of the fixture `ag_client`."""

    async def __call__(
        self, server: AGServer, **options: Unpack[ClientOptionsDict]
    ) -> AGClientSocket:
        """Connect a client in memory, as `socketcluster.testing.connect` does.

        It is disconnected when the test ends.
        """
        ...


@pytest.fixture
def ag_server(_ag_cleanup: AsyncExitStack) -> ServerFactory:
    """A factory of servers: `await ag_server(auth_key="…")`, or `await ag_server(server)`."""

    async def make(
        server: AGServer | None = None, **options: Unpack[ServerOptionsDict]
    ) -> AGServer:
        if server is None:
            options.setdefault("drain_timeout", DRAIN_TIMEOUT)
            server = AGServer(**options)
        await _ag_cleanup.enter_async_context(server)
        await server.start()
        return server

    return make


@pytest.fixture
def ag_client(_ag_cleanup: AsyncExitStack) -> ClientFactory:
    """A factory of clients: `socket = await ag_client(server)`."""

    async def make(server: AGServer, **options: Unpack[ClientOptionsDict]) -> AGClientSocket:
        return await _ag_cleanup.enter_async_context(testing.connect(server, **options))

    return make


@pytest.fixture
def _ag_cleanup(request: pytest.FixtureRequest) -> AsyncExitStack:
    """An exit stack that is unwound at the end of the test, in its event loop."""
    if "anyio_backend" in request.fixturenames:
        name = "_ag_cleanup_by_anyio"
    elif request.config.pluginmanager.has_plugin("asyncio"):
        name = "_ag_cleanup_by_pytest_asyncio"
    else:
        raise pytest.UsageError(
            "ag_server and ag_client need tests that run by pytest-asyncio or anyio: install one"
        )
    stack: AsyncExitStack = request.getfixturevalue(name)
    return stack


async def _cleanup() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


_ag_cleanup_by_anyio = pytest.fixture(_cleanup, name="_ag_cleanup_by_anyio")

try:
    import pytest_asyncio
except ImportError:
    pass
else:
    _ag_cleanup_by_pytest_asyncio = pytest_asyncio.fixture(
        _cleanup, name="_ag_cleanup_by_pytest_asyncio"
    )
