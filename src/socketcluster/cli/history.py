"""`history`: the stored publishes of a channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from socketcluster import AGClientSocket, HistoryPage, Position
from socketcluster.cli.client_settings import ClientSettings
from socketcluster.cli.connecting import connected, fail_when_lost, report_errors
from socketcluster.cli.exit_status import CommandError, usage_error
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.reporting import describe
from socketcluster.cli.sending import complete
from socketcluster.cli.waiting import first_of
from socketcluster.errors import SocketClusterError

PAGE = 1000
"""The most publishes that one call returns."""


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """The part of a history to print, and how.

    Attributes:
        limit: the most publishes.
        since: where to begin; None for the oldest, or the newest.
        reverse: begin with the newest.
        as_json: print one object with the position, instead of the data of each publish.
    """

    channel: str
    limit: int
    since: Position | None
    reverse: bool
    as_json: bool


def position_of(text: str | None) -> Position | None:
    """Read a position as it is printed: EPOCH:OFFSET."""
    if text is None:
        return None
    epoch, _, offset = text.rpartition(":")
    if not epoch or not (offset.isascii() and offset.isdecimal()):
        raise usage_error(f"--since must be EPOCH:OFFSET, such as k3fG:17, not {text!r}")
    return Position(epoch, int(offset))


async def show_history(settings: ClientSettings, options: HistoryOptions) -> None:
    """Print the stored publishes of a channel, one JSON value per line."""
    counter = Counter()
    output = Output(counter)
    socket = settings.create_socket(auto_reconnect=False)
    closures = socket.listener("close").create_consumer()
    refusals = socket.listener("subscribeFail").create_consumer()  # Reported by `history`.
    async with connected(socket):
        socket.subscribe(options.channel)
        await first_of(
            _print(_pages(socket, options, settings.seconds), options, counter, output),
            fail_when_lost(closures),
            report_errors(socket, counter.report),
            output.wait_for_broken_pipe(),
        )
    refusals.return_()


async def _pages(
    socket: AGClientSocket, options: HistoryOptions, seconds: float
) -> AsyncIterator[HistoryPage]:
    since, left = options.since, options.limit
    while True:
        reading = socket.history(options.channel, since, min(left, PAGE), options.reverse)
        try:
            page = await complete(reading, seconds)
        except SocketClusterError as error:
            text = f"Cannot read the history of {options.channel!r}: {describe(error)}"
            raise CommandError(text) from error
        yield page
        since, left = page.position, left - len(page.publications)
        if not left or not page.publications:
            return


async def _print(
    pages: AsyncIterator[HistoryPage], options: HistoryOptions, counter: Counter, output: Output
) -> None:
    found: list[dict[str, Any]] = []
    is_complete, is_empty, position = True, True, ""
    async for page in pages:
        is_complete = is_complete and page.complete
        is_empty = is_empty and not page.publications
        position = f"{page.position.epoch}:{page.position.offset}"
        for publication in page.publications:
            if options.as_json:
                found.append({"data": publication.data, "offset": publication.offset})
            else:
                await output.write_json(publication.data)
    if options.as_json:
        await output.write_json(
            {"publications": found, "position": position, "complete": is_complete}
        )
    elif is_empty:
        counter.report(
            f"The server shows no publishes of {options.channel!r}. It shows those from before a "
            "client's subscription only if the rule has before_subscribing=True"
        )
    if not is_complete:
        counter.report("Some publishes are no longer stored")
