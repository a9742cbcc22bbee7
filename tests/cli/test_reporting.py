"""What commands report about their connection, and what they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from cli.commands import SECONDS
from socketcluster import AGClientSocket
from socketcluster.cli.connecting import ConnectionReporter, fail_when_lost, report_errors
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.waiting import first_of, wait_writable
from socketcluster.errors import AuthError, InvalidMessageError, SocketProtocolError
from socketcluster.events import CloseEvent, ConnectEvent, ErrorEvent
from support import Running, soon, until


@pytest.fixture
async def client() -> AsyncIterator[AGClientSocket]:
    """A client that is never connected, for a test to emit events of."""
    made = AGClientSocket(auto_connect=False)
    yield made
    await made.wait_closed()


def connected(auth_error: BaseException | None = None) -> ConnectEvent:
    return ConnectEvent("id", 20000, False, auth_error)


def lost(code: int, reason: str = "") -> ErrorEvent:
    return ErrorEvent(SocketProtocolError(reason, code))


async def test_losses_and_returns_are_reported_each_once(
    client: AGClientSocket, running: Running
) -> None:
    lines: list[str] = []
    reporter = ConnectionReporter(client, lines.append)
    running.start(reporter.run())
    client.emit("connect", connected())
    for _ in range(2):
        client.emit("error", ErrorEvent(SocketProtocolError("Socket hung up: no way", 1006)))
    client.emit("error", ErrorEvent(InvalidMessageError("Not understood")))
    await until(lambda: len(lines) == 2)
    client.emit("close", CloseEvent(1006, "reported by its error"))
    client.emit("close", CloseEvent(1000, "Bye"))
    client.emit("close", CloseEvent(1001, None))
    await until(lambda: len(lines) == 4)
    client.emit("connect", connected())
    client.emit("connect", connected(AuthError("Not you")))
    await until(lambda: len(lines) == 7)
    assert lines == [
        "Not connected: no way",
        "Not understood",
        "Not connected: Bye (1000)",
        "Not connected: it closed (1001)",
        "Connected again",
        "Connected again",
        "The server rejected the token: Not you",
    ]


async def test_errors_other_than_the_loss_are_reported(
    client: AGClientSocket, running: Running
) -> None:
    lines: list[str] = []
    running.start(report_errors(client, lines.append))
    await asyncio.sleep(0)
    client.emit("error", lost(1006))
    client.emit("error", ErrorEvent(InvalidMessageError("Not understood")))
    await until(lambda: lines == ["Not understood"])


@pytest.mark.parametrize(("reason", "text"), [("Bye", "Bye"), (None, "it closed")])
async def test_a_lost_connection_ends_a_command(
    client: AGClientSocket, reason: str | None, text: str
) -> None:
    closures = client.listener("close").create_consumer()
    client.emit("close", CloseEvent(4100, reason))
    with pytest.raises(CommandError, match=rf"The connection was lost: {text} \(4100\)"):
        await soon(fail_when_lost(closures))


async def test_a_full_pipe_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(65536))
        waiting = asyncio.create_task(wait_writable(writing))
        done, _ = await asyncio.wait([waiting], timeout=0.01)
        assert not done
        os.read(reading, 1 << 20)
        async with asyncio.timeout(SECONDS):
            await waiting
    finally:
        os.close(reading)
        os.close(writing)


async def test_the_first_argument_decides_among_those_that_end_together() -> None:
    async def fail(text: str) -> None:
        raise CommandError(text)

    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(CommandError, match="first"):
        await first_of(wait(), fail("first"), fail("second"))
    assert cancelled.is_set()
