"""`sub` and `listen`: what a server sends, one JSON per line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn

from socketcluster import AGClientSocket
from socketcluster.cli.connecting import Reporter, Target, connected
from socketcluster.cli.exit_status import CommandError, first_of, said
from socketcluster.cli.output import Counter, Output


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be received: of which names, how many, and in how many seconds.

    `shows_names` makes each line an object with the name under `label`, and "data".
    """

    names: list[str]
    label: str
    count: int | None
    seconds: float | None
    shows_names: bool


async def subscribe(target: Target, wanted: Wanted) -> None:
    """Print what is published to channels."""
    socket = target.socket()
    streams = {name: socket.channel(name).create_consumer() for name in wanted.names}
    for name in wanted.names:
        socket.subscribe(name)
    await _receive(socket, wanted, streams)


async def listen(target: Target, wanted: Wanted) -> None:
    """Print the events that a server transmits."""
    socket = target.socket()
    streams = {name: socket.receiver(name).create_consumer() for name in wanted.names}
    await _receive(socket, wanted, streams)


async def _receive(socket: AGClientSocket, wanted: Wanted, streams: dict[str, Any]) -> None:
    counter = Counter()
    printer = _Printer(wanted, counter)
    reporter = Reporter(socket, counter.tell)
    refused = socket.listener("subscribeFail").create_consumer()
    kicked = socket.listener("kickOut").create_consumer()
    try:
        async with asyncio.timeout(wanted.seconds) as limit, connected(socket):
            with counter.showing(", ".join(streams), "messages"):
                await first_of(
                    *(printer.print(name, stream) for name, stream in streams.items()),
                    printer.output.gone(),
                    reporter.run(),
                    _refused(refused),
                    _kicked_out(kicked),
                )
            limit.reschedule(None)  # It was in time, however long it takes to leave.
    except TimeoutError as error:
        of = "" if wanted.count is None else f" of {wanted.count}"
        raise CommandError(
            f"The time is over: {counter.count}{of} messages came in {wanted.seconds:g} seconds"
        ) from error


class _Printer:
    """Prints what streams yield, until there is enough of it."""

    def __init__(self, wanted: Wanted, counter: Counter) -> None:
        self._wanted = wanted
        self._counter = counter
        self._turn = asyncio.Lock()
        self.output = Output(counter)

    async def print(self, name: str, stream: Any) -> None:
        """Print a stream; it returns when there is enough of all."""
        async for data in stream:
            async with self._turn:
                if self._is_enough():
                    return
                line = {self._wanted.label: name, "data": data}
                await self.output.line(line if self._wanted.shows_names else data)
                self._counter.count += 1
                if self._is_enough():
                    return

    def _is_enough(self) -> bool:
        return self._counter.count == self._wanted.count


async def _refused(failures: Any) -> NoReturn:
    event = (await failures.next()).value
    raise CommandError(f"Cannot subscribe to {event.channel!r}: {said(event.error)}")


async def _kicked_out(kicks: Any) -> NoReturn:
    event = (await kicks.next()).value
    why = f": {event.message}" if event.message else ""
    raise CommandError(f"The server ended the subscription to {event.channel!r}{why}")
