"""A close ends in bounded time, whatever hangs, and the log names it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from socketcluster import AGServer
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.engines.registry import resolve_engine
from socketcluster.server import lifecycle
from support import connected, soon, until

IN_MEMORY = pytest.mark.parametrize("make_server", ["memory"], indirect=True)


class Hang:
    """Hangs until the end of the test, and ignores its cancellation."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.ended = 0

    async def stubborn(self) -> None:
        self.begun.set()
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                continue
        self.ended += 1


@pytest.fixture
async def hang() -> AsyncIterator[Hang]:
    """Let go at the end, so that no task outlives the test."""
    hang = Hang()
    yield hang
    hang.over.set()
    if hang.begun.is_set():
        await until(lambda: hang.ended > 0)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "socketcluster")
    return caplog


async def closed(server: AGServer, warnings: pytest.LogCaptureFixture, *expected: str) -> None:
    """Close the server in bounded time, and check what the log says."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await server.close()
    limit = server.options.milliseconds("drain_timeout") / 1000 + lifecycle.END_SECONDS
    assert loop.time() - started <= limit + 1
    found = [line for line in warnings.messages if line.startswith("The server closes, although ")]
    assert len(found) == 1
    for text in expected:
        assert text in found[0]
    await soon(server.serve_forever())


@IN_MEMORY
async def test_a_background_function(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture
) -> None:
    server = AGServer(drain_timeout=1000)

    @server.background
    async def tidy_up() -> None:
        await hang.stubborn()

    await make_server(server)
    await soon(hang.begun.wait())
    await closed(server, warnings, "a background function", "tidy_up (", "test_hanging.py:")


@IN_MEMORY
@pytest.mark.parametrize("kind", ["procedure", "receiver"])
async def test_a_handler_of_a_message(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture, kind: str
) -> None:
    server = AGServer(drain_timeout=1000)

    async def slow() -> None:
        await hang.stubborn()

    getattr(server, kind)("slow")(slow)
    await make_server(server)
    async with connected(server) as client:
        await client.send(client.packet("slow") if kind == "procedure" else {"event": "slow"})
        await soon(hang.begun.wait())
        await closed(server, warnings, "a handler has not ended", "slow (", "test_hanging.py:")
        await client.closed()


@IN_MEMORY
async def test_a_handler_of_an_event(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture
) -> None:
    server = AGServer(drain_timeout=1000)

    @server.on("disconnection")
    async def note() -> None:
        await hang.stubborn()

    await make_server(server)
    async with connected(server):
        await closed(server, warnings, "a handler has not ended", "note (")


class Database:
    """A value of a provider."""


class Session:
    """Another one, which was made earlier, and is cleaned up later."""


@IN_MEMORY
@pytest.mark.parametrize("scope", ["socket", "server"])
@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_the_clean_up_of_a_provider(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture, scope: Any, is_stubborn: bool
) -> None:
    server = AGServer(drain_timeout=1000)
    cleaned_up: list[str] = []

    @server.provide(scope=scope)
    async def session() -> AsyncIterator[Session]:
        try:
            yield Session()
        finally:
            cleaned_up.append("session")

    @server.provide(scope=scope)
    async def database() -> AsyncIterator[Database]:
        yield Database()
        await (hang.stubborn() if is_stubborn else asyncio.Event().wait())

    @server.procedure("use")
    async def use(session: Session, database: Database) -> bool:
        return isinstance(database, Database)

    await make_server(server)
    async with connected(server) as client:
        assert await client.call("use") is True
        await closed(server, warnings, "the clean-up of a provider", "database (")
        await client.closed()
    if not is_stubborn:
        assert cleaned_up == ["session"]


@IN_MEMORY
@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_the_broker(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture, is_stubborn: bool
) -> None:
    class HangingBroker(SimpleBroker):
        async def close(self) -> None:
            await (hang.stubborn() if is_stubborn else asyncio.Event().wait())

    server = await make_server(broker_engine=HangingBroker(), drain_timeout=1000)
    await closed(server, warnings, "the close of the broker", "HangingBroker.close (")


@pytest.mark.parametrize("engine", ["picows", "asgi"])
async def test_the_lifespan_of_the_application(
    engine: str, warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "END_SECONDS", 0.1)
    over, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await over.wait()
            ended.set()

    server = AGServer(app=app, drain_timeout=100)
    server.engine = resolve_engine(engine, {})
    await server.listen(0)
    await closed(server, warnings, f"the listener on port {server.source_port or ''}")
    assert "The application's lifespan has not answered lifespan.shutdown" in warnings.messages
    over.set()
    await soon(ended.wait())


@IN_MEMORY
async def test_a_close_that_has_given_up_can_be_repeated(
    make_server: Any, hang: Hang, warnings: pytest.LogCaptureFixture
) -> None:
    server: AGServer = await make_server(drain_timeout=1000)
    server.spawn(hang.stubborn())
    await soon(hang.begun.wait())
    await closed(server, warnings, "Hang.stubborn (")
    loop = asyncio.get_running_loop()
    started = loop.time()
    await server.close()
    assert loop.time() - started < 1


async def test_cancelling_a_close_that_hangs(hang: Hang) -> None:
    class HangingBroker(SimpleBroker):
        async def close(self) -> None:
            hang.begun.set()
            try:
                await hang.over.wait()
            finally:
                hang.ended += 1

    server = AGServer(broker_engine=HangingBroker(), drain_timeout=60_000)
    await server.start()
    closing = asyncio.create_task(server.close())
    await soon(hang.begun.wait())
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until(lambda: hang.ended == 1)
    hang.over.set()
    await soon(server.close())
