"""`presence` and `channels`: who is subscribed to channels, and which channels there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from socketcluster import AGClientSocket
from socketcluster.cli.client_settings import ClientSettings
from socketcluster.cli.connecting import connected, fail_when_lost, report_errors
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.receiving import ReceiveOptions, subscribe
from socketcluster.cli.sending import complete
from socketcluster.cli.waiting import first_of
from socketcluster.patterns import Pattern
from socketcluster.presence.rule import PREFIX

PROCEDURE = "$channels"
"""The procedure that lists channels. A server has it only if the application declares it: names of
channels are often secrets, and middleware that allows what it does not know would show them all."""

PAGE = 1000


async def show_members(settings: ClientSettings, options: ReceiveOptions) -> None:
    """Print the members of channels, and their changes."""
    names = [PREFIX + name for name in options.names]
    await subscribe(
        settings,
        ReceiveOptions(names, options.label, options.count, options.seconds, options.shows_names),
    )


async def list_channels(settings: ClientSettings, pattern: str) -> None:
    """Print the channels that a pattern matches, one JSON value per line."""
    Pattern(pattern)  # A wrong one is refused here.
    counter = Counter()
    output = Output(counter)
    socket = settings.create_socket(auto_reconnect=False)
    closures = socket.listener("close").create_consumer()
    async with connected(socket):
        await first_of(
            _print_pages(socket, pattern, output, settings.seconds),
            fail_when_lost(closures),
            report_errors(socket, counter.report),
            output.wait_for_broken_pipe(),
        )


async def _print_pages(
    socket: AGClientSocket, pattern: str, output: Output, seconds: float
) -> None:
    cursor: str | None = None
    is_complete = True
    while True:
        query = {"pattern": pattern, "limit": PAGE, "cursor": cursor}
        page = _page(await complete(socket.invoke(PROCEDURE, query), seconds))
        for channel in page["channels"]:
            await output.write_json(channel)
        is_complete = is_complete and page.get("complete") is not False
        cursor = page.get("cursor")
        if cursor is None:
            break
    if not is_complete:
        raise CommandError("A server did not answer: its channels are missing")


def _page(answer: Any) -> Mapping[str, Any]:
    if isinstance(answer, dict):
        page = cast("dict[str, Any]", answer)
        if isinstance(page.get("channels"), list):
            return page
    raise CommandError(
        f"The server's procedure {PROCEDURE!r} must answer with a ChannelsPage, the result of "
        "exchange.channels"
    )
