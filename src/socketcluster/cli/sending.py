"""`pub`, `invoke` and `transmit`: JSON from the command line or standard input to a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from socketcluster import AGClientSocket
from socketcluster.cli.connecting import Target, complain, connected, lost
from socketcluster.cli.exit_status import CommandError, first_of
from socketcluster.cli.lines import values
from socketcluster.cli.output import Counter, Output
from socketcluster.errors import BadConnectionError, ResourceLimitError, SocketClusterError
from socketcluster.errors import TimeoutError as AnswerTimeoutError

_TURN = 100
"""How many are sent before anything else gets its turn: the counter, Ctrl-C, the socket."""

Send = Callable[[AGClientSocket, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is to be sent: to which name, and what. See `values`."""

    name: str
    data: str | None
    count: int | None

    def counter(self) -> Counter:
        """What counts them; it would be in the way of somebody who types them."""
        return Counter(self.data not in (None, "-") or not sys.stdin.isatty())


async def publish(target: Target, outgoing: Outgoing) -> None:
    """Publish to a channel, each after the server has accepted the one before."""

    async def send(socket: AGClientSocket, value: Any) -> None:
        await socket.invoke_publish(outgoing.name, value)

    await _each(target, outgoing, outgoing.counter(), send)


async def invoke(target: Target, outgoing: Outgoing) -> None:
    """Call a procedure, one call after the other, and print the answers."""
    counter = outgoing.counter()
    output = Output(counter)

    async def send(socket: AGClientSocket, value: Any) -> None:
        await output.line(await socket.invoke(outgoing.name, value))

    await _each(target, outgoing, counter, send, output)


async def transmit(target: Target, outgoing: Outgoing) -> None:
    """Send events, and wait until the server has received them."""

    async def send(socket: AGClientSocket, value: Any) -> None:
        try:
            socket.transmit(outgoing.name, value)
        except ResourceLimitError:
            await _received(socket)
            socket.transmit(outgoing.name, value)

    await _each(target, outgoing, outgoing.counter(), send, finish=_received)


async def _received(socket: AGClientSocket) -> None:
    """Wait until the server has processed everything sent so far.

    It may drop events that are unprocessed when the connection closes.
    """
    try:
        # Every server answers this one, be it with an error, and in order.
        await socket.invoke("#unsubscribe", "")
    except SocketClusterError as error:
        if not error.is_remote:
            raise


async def _each(
    target: Target,
    outgoing: Outgoing,
    counter: Counter,
    send: Send,
    output: Output | None = None,
    finish: Callable[[AGClientSocket], Awaitable[None]] | None = None,
) -> None:
    socket = target.socket(auto_reconnect=False)
    source = values(outgoing.data, outgoing.count)
    closed = socket.listener("close").create_consumer()

    async def work() -> None:
        async for value in source:
            await answered(send(socket, value))
            counter.count += 1
            if counter.count % _TURN == 0:
                await asyncio.sleep(0)
        if finish is not None:
            await answered(finish(socket))

    async def answered(work: Awaitable[None]) -> None:
        try:
            await work
        except AnswerTimeoutError as error:
            if error.is_remote:
                raise
            raise CommandError(f"No answer came in {target.seconds:g} seconds") from error
        except BadConnectionError as error:
            if error.is_remote:
                raise
            await asyncio.Event().wait()  # `lost` ends this, and says why.

    async with connected(socket):
        with counter.showing(outgoing.name, "sent"):
            watching = () if output is None else (output.gone(),)
            await first_of(work(), lost(closed), complain(socket, counter.tell), *watching)
