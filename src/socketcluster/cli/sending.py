"""`pub`, `invoke` and `transmit`: send JSON from the command line or standard input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from socketcluster import AGClientSocket
from socketcluster.cli.client_settings import ClientSettings
from socketcluster.cli.connecting import connected, fail_when_lost, report_errors
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.lines import values
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.waiting import first_of
from socketcluster.errors import BadConnectionError, ResourceLimitError, SocketClusterError
from socketcluster.errors import TimeoutError as AnswerTimeoutError

_SENDS_PER_TURN = 100
"""Sends before the event loop gets a turn, for the counter, signals and the socket."""

T = TypeVar("T")

Send = Callable[[AGClientSocket, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SendOptions:
    """The options of a command that sends: to which name, and the arguments of `values`."""

    name: str
    data: str | None
    count: int | None

    def create_counter(self) -> Counter:
        """Create the counter; it is off where the user types the data, which it would overwrite."""
        return Counter(self.data not in (None, "-") or not sys.stdin.isatty())


async def publish(settings: ClientSettings, options: SendOptions) -> None:
    """Publish to a channel; each publish waits until the server has accepted the one before."""

    async def send(socket: AGClientSocket, value: Any) -> None:
        await socket.invoke_publish(options.name, value)

    await _send_values(settings, options, options.create_counter(), send)


async def invoke(settings: ClientSettings, options: SendOptions) -> None:
    """Call a procedure, one call after the other, and print the answers."""
    counter = options.create_counter()
    output = Output(counter)

    async def send(socket: AGClientSocket, value: Any) -> None:
        await output.write_json(await socket.invoke(options.name, value))

    await _send_values(settings, options, counter, send, output)


async def transmit(settings: ClientSettings, options: SendOptions) -> None:
    """Send events, and wait until the server has received all of them."""

    async def send(socket: AGClientSocket, value: Any) -> None:
        try:
            socket.transmit(options.name, value)
        except ResourceLimitError:
            await _wait_until_received(socket)
            socket.transmit(options.name, value)

    counter = options.create_counter()
    await _send_values(settings, options, counter, send, finish=_wait_until_received)


async def _wait_until_received(socket: AGClientSocket) -> None:
    """Wait until the server has received everything that was sent.

    If the client left earlier, the server would drop the events that it has not processed.
    """
    try:
        # Every server answers this call in order, even if with an error.
        await socket.invoke("#unsubscribe", "")
    except SocketClusterError as error:
        if not error.is_remote:
            raise


async def _send_values(
    settings: ClientSettings,
    options: SendOptions,
    counter: Counter,
    send: Send,
    output: Output | None = None,
    finish: Callable[[AGClientSocket], Awaitable[None]] | None = None,
) -> None:
    """Connect, send each value, and disconnect. `finish` runs after the last value."""
    socket = settings.create_socket(auto_reconnect=False)
    source = values(options.data, options.count)
    closures = socket.listener("close").create_consumer()

    async def send_all() -> None:
        async for value in source:
            await complete(send(socket, value), settings.seconds)
            counter.count += 1
            if counter.count % _SENDS_PER_TURN == 0:
                await asyncio.sleep(0)
        if finish is not None:
            await complete(finish(socket), settings.seconds)

    async with connected(socket):
        with counter.showing(options.name, "sent"):
            watchers = [fail_when_lost(closures), report_errors(socket, counter.report)]
            if output is not None:
                watchers.append(output.wait_for_broken_pipe())
            await first_of(send_all(), *watchers)


async def complete(work: Awaitable[T], seconds: float) -> T:
    """Await a send, and return its result; a missing answer raises CommandError."""
    try:
        return await work
    except AnswerTimeoutError as error:
        if error.is_remote:
            raise
        raise CommandError(f"No answer arrived in {seconds:g} seconds") from error
    except BadConnectionError as error:
        if error.is_remote:
            raise
        # Wait to be cancelled: `fail_when_lost` reports the loss and its reason.
        await asyncio.Event().wait()
        raise AssertionError from error
