"""The connection of a client command: opening it, losing it, and reporting both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from socketcluster import AGClientSocket
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.reporting import describe
from socketcluster.engines.connect_errors import redacted
from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    BadConnectionError,
    SocketProtocolError,
)
from socketcluster.protocol.state import CLOSE_CONNECT_TIMEOUT

_HUNG_UP_PREFIX = "Socket hung up: "

Report = Callable[[str], None]


@asynccontextmanager
async def connected(socket: AGClientSocket) -> AsyncGenerator[None, None]:
    """Connect a client, and disconnect it at the end.

    Raises:
        CommandError: the connection failed, or the server rejected the token.
    """
    opened = socket.listener("connect").create_consumer()
    aborted = socket.listener("connectAbort").create_consumer()
    try:
        async with socket:
            status = (await opened.next()).value
            opened.return_()
            if status is not None and status.auth_token and not status.is_authenticated:
                reason = "" if status.auth_error is None else f": {describe(status.auth_error)}"
                raise CommandError(f"The server rejected the token{reason}")
            yield
    except BadConnectionError as error:
        if not aborted.get_backpressure():
            raise
        event = (await aborted.next()).value
        raise CommandError(_describe_failed_attempt(socket, error, event)) from error


def _describe_failed_attempt(socket: AGClientSocket, error: BadConnectionError, event: Any) -> str:
    cause = error.__cause__
    url = redacted(socket.uri())
    if event.code == CLOSE_CONNECT_TIMEOUT:  # The error names an option that commands do not have.
        text = SOCKET_PROTOCOL_ERROR_STATUSES[event.code]
    else:
        text = event.reason or "it closed" if cause is None else describe(cause)
    text = text.removeprefix(_HUNG_UP_PREFIX)
    hint = "" if "Invalid origin" not in text else ". Give an origin that it accepts with --origin"
    return (text if url in text else f"{url} could not be opened: {text} ({event.code})") + hint


async def fail_when_lost(closures: Any) -> NoReturn:
    """Wait for the first of a consumer's 'close' events, then raise CommandError."""
    event = (await closures.next()).value
    raise CommandError(f"The connection was lost: {event.reason or 'it closed'} ({event.code})")


async def report_errors(socket: AGClientSocket, report: Report) -> None:
    """Report a client's 'error' events, except the loss of its connection."""
    async for event in socket.listener("error"):
        if not isinstance(event.error, SocketProtocolError):
            report(describe(event.error))


class ConnectionReporter:
    """Reports how a client that reconnects loses its connection and gets it back.

    Make it before the client connects, so that it misses no event.
    """

    def __init__(self, socket: AGClientSocket, report: Report) -> None:
        self._report = report
        self._errors = socket.listener("error").create_consumer()
        self._closures = socket.listener("close").create_consumer()
        self._connections = socket.listener("connect").create_consumer()

    async def run(self) -> None:
        """Report until cancelled, starting with the first connection."""
        await self._connections.next()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_errors())
            group.create_task(self._report_closures())
            group.create_task(self._report_connections())

    async def _report_errors(self) -> None:
        last = ""
        async for event in self._errors:
            text = describe(event.error)
            if isinstance(event.error, SocketProtocolError):
                text = f"Not connected: {text.removeprefix(_HUNG_UP_PREFIX)}"
            if text != last:  # Attempts that fail in the same way are reported once.
                self._report(text)
            last = text

    async def _report_closures(self) -> None:
        async for event in self._closures:
            # The other codes are emitted as 'error' too.
            if event.code in SOCKET_PROTOCOL_IGNORE_STATUSES:
                self._report(f"Not connected: {event.reason or 'it closed'} ({event.code})")

    async def _report_connections(self) -> None:
        async for event in self._connections:
            self._report("Connected again")
            if event.auth_error is not None:
                self._report(f"The server rejected the token: {describe(event.auth_error)}")
