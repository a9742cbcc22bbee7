"""`sub` and `listen`: print what a server sends, one JSON value per line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn

from socketcluster import AGClientSocket
from socketcluster.cli.client_settings import ClientSettings
from socketcluster.cli.connecting import ConnectionReporter, connected
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.reporting import describe
from socketcluster.cli.waiting import first_of


@dataclass(frozen=True, slots=True)
class ReceiveOptions:
    """The options of a command that receives.

    Attributes:
        names: channels or receivers.
        label: the key under which a line has its name: "channel" or "receiver".
        count: how many messages to print; None for no limit.
        seconds: the time limit; None for no limit.
        shows_names: print objects with the name and the data, instead of the data alone.
    """

    names: list[str]
    label: str
    count: int | None
    seconds: float | None
    shows_names: bool


async def subscribe(settings: ClientSettings, options: ReceiveOptions) -> None:
    """Print the messages that are published to channels."""
    socket = settings.create_socket()
    streams = {name: socket.channel(name).create_consumer() for name in options.names}
    for name in options.names:
        socket.subscribe(name)
    await _receive(socket, options, streams)


async def listen(settings: ClientSettings, options: ReceiveOptions) -> None:
    """Print the events that a server transmits."""
    socket = settings.create_socket()
    streams = {name: socket.receiver(name).create_consumer() for name in options.names}
    await _receive(socket, options, streams)


async def _receive(
    socket: AGClientSocket, options: ReceiveOptions, streams: dict[str, Any]
) -> None:
    counter = Counter()
    printer = _Printer(options, counter)
    reporter = ConnectionReporter(socket, counter.report)
    refusals = socket.listener("subscribeFail").create_consumer()
    kick_outs = socket.listener("kickOut").create_consumer()
    try:
        async with asyncio.timeout(options.seconds) as time_limit, connected(socket):
            with counter.showing(", ".join(streams), "messages"):
                await first_of(
                    *(printer.print_stream(name, stream) for name, stream in streams.items()),
                    printer.output.wait_for_broken_pipe(),
                    reporter.run(),
                    _fail_when_refused(refusals),
                    _fail_when_kicked_out(kick_outs),
                )
            time_limit.reschedule(None)  # Disconnecting may take longer.
    except TimeoutError as error:
        of = "" if options.count is None else f" of {options.count}"
        raise CommandError(
            f"Timed out: {counter.count}{of} messages arrived in {options.seconds:g} seconds"
        ) from error


class _Printer:
    """Prints the values of several streams, until the wanted number is reached."""

    def __init__(self, options: ReceiveOptions, counter: Counter) -> None:
        self._options = options
        self._counter = counter
        self._lock = asyncio.Lock()
        self.output = Output(counter)

    async def print_stream(self, name: str, stream: Any) -> None:
        """Print a stream's values; return when all streams together yielded enough."""
        async for data in stream:
            async with self._lock:
                if self._is_complete():
                    return
                line = {self._options.label: name, "data": data}
                await self.output.write_json(line if self._options.shows_names else data)
                self._counter.count += 1
                if self._is_complete():
                    return

    def _is_complete(self) -> bool:
        return self._counter.count == self._options.count


async def _fail_when_refused(refusals: Any) -> NoReturn:
    event = (await refusals.next()).value
    raise CommandError(f"Cannot subscribe to {event.channel!r}: {describe(event.error)}")


async def _fail_when_kicked_out(kick_outs: Any) -> NoReturn:
    event = (await kick_outs.next()).value
    reason = f": {event.message}" if event.message else ""
    raise CommandError(f"The server ended the subscription to {event.channel!r}{reason}")
