"""Which server a command talks to, and how it is connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from socketcluster import AGClientSocket, MemoryTokenStore, create
from socketcluster.cli.exit_status import CommandError, from_environment, said, wrong_usage
from socketcluster.client.options import url_options
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.engines.connect_errors import redacted
from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    BadConnectionError,
    SocketProtocolError,
)
from socketcluster.protocol.state import CLOSE_CONNECT_TIMEOUT

DEFAULT_SECONDS = 10.0
TOKEN_VARIABLE = "SOCKETCLUSTER_TOKEN"
_HUNG_UP = "Socket hung up: "
# One client may be quicker to come back than the thousands that the defaults are meant for.
_RECONNECT = {"initial_delay": 500, "randomness": 500, "max_delay": 10_000}


Tell = Callable[[str], None]


class CodecName(StrEnum):
    """What a server speaks."""

    json = "json"
    min_bin = "min-bin"


_CODECS: dict[CodecName, Any] = {CodecName.json: JSONCodec, CodecName.min_bin: MinBinCodec}


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and how it is talked to. `seconds` is how long it may take to answer."""

    url: str
    token: str | None = None
    token_file: Path | None = None
    codec: CodecName = CodecName.json
    protocol_version: int = 2
    seconds: float = DEFAULT_SECONDS

    def socket(self, **options: Any) -> AGClientSocket:
        """A client that is not connected yet.

        Raises:
            InvalidOptionsError: the URL is none.
            CommandError: the token cannot be read.
        """
        store = MemoryTokenStore()
        token = self._token()
        if token is not None:
            store.save_token("token", token, {})
        return create(
            **url_options(self.url),
            auto_connect=False,
            auto_reconnect_options=_RECONNECT,
            auth_engine=store,
            auth_token_name="token",
            codec_engine=_CODECS[self.codec](),
            protocol_version=self.protocol_version,
            connect_timeout=self.seconds * 1000,
            ack_timeout=self.seconds * 1000,
            **options,
        )

    def _token(self) -> str | None:
        if self.token is not None and self.token_file is not None:
            raise wrong_usage("Give --token or --token-file, not both")
        if self.token_file is not None:
            return read_secret("token", self.token_file)
        return self.token or from_environment(TOKEN_VARIABLE)


def read_secret(what: str, path: Path) -> str:
    """The text of a file, without the line end that editors put there.

    Raises:
        CommandError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Cannot read the {what} {str(path)!r}: {said(error)}") from error
    if not text:
        raise CommandError(f"The {what} {str(path)!r} is empty")
    return text


@asynccontextmanager
async def connected(socket: AGClientSocket) -> AsyncIterator[None]:
    """Connect, and disconnect at the end.

    Raises:
        CommandError: it could not be connected, or the server did not take the token.
    """
    opened = socket.listener("connect").create_consumer()
    aborted = socket.listener("connectAbort").create_consumer()
    try:
        async with socket:
            status = (await opened.next()).value
            opened.return_()
            if status is not None and status.auth_token and not status.is_authenticated:
                why = "" if status.auth_error is None else f": {said(status.auth_error)}"
                raise CommandError(f"The server did not take the token{why}")
            yield
    except BadConnectionError as error:
        if not aborted.get_backpressure():
            raise
        event = (await aborted.next()).value
        raise CommandError(_why_not(socket, error, event)) from error


def _why_not(socket: AGClientSocket, error: BadConnectionError, event: Any) -> str:
    cause = error.__cause__
    where = redacted(socket.uri())
    if event.code == CLOSE_CONNECT_TIMEOUT:  # The error names an option that is not a command's.
        text = SOCKET_PROTOCOL_ERROR_STATUSES[event.code]
    else:
        text = event.reason or "it closed" if cause is None else said(cause)
    text = text.removeprefix(_HUNG_UP)
    return text if where in text else f"{where} could not be opened: {text} ({event.code})"


async def lost(closures: Any) -> None:
    """Wait for the first of 'close' events, and raise CommandError then."""
    event = (await closures.next()).value
    raise CommandError(f"The connection was lost: {event.reason or 'it closed'} ({event.code})")


async def complain(socket: AGClientSocket, tell: Tell) -> None:
    """Say on standard error what the server sends that makes no sense."""
    async for event in socket.listener("error"):
        if not isinstance(event.error, SocketProtocolError):  # That one is the loss.
            tell(said(event.error))


class Reporter:
    """Reports what happens to a client's connection on standard error.

    Create it before the client connects, so that it misses nothing.
    """

    def __init__(self, socket: AGClientSocket, tell: Tell) -> None:
        self._tell = tell
        self._errors = socket.listener("error").create_consumer()
        self._closures = socket.listener("close").create_consumer()
        self._connections = socket.listener("connect").create_consumer()

    async def run(self) -> None:
        """Report for ever, from the first connection on."""
        await self._connections.next()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_errors())
            group.create_task(self._report_closures())
            group.create_task(self._report_returns())

    async def _report_errors(self) -> None:
        last = ""
        async for event in self._errors:
            text = said(event.error)
            if isinstance(event.error, SocketProtocolError):
                text = f"Not connected: {text.removeprefix(_HUNG_UP)}"
            if text != last:  # Attempts that fail alike are said once.
                self._tell(text)
            last = text

    async def _report_closures(self) -> None:
        async for event in self._closures:
            if event.code in SOCKET_PROTOCOL_IGNORE_STATUSES:  # The others are errors.
                self._tell(f"Not connected: {event.reason or 'it closed'} ({event.code})")

    async def _report_returns(self) -> None:
        async for event in self._connections:
            self._tell("Connected again")
            if event.auth_error is not None:
                self._tell(f"The server did not take the token: {said(event.auth_error)}")
