"""Pages of histories, as an application reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from socketcluster.brokers.storing import Page, Position
from socketcluster.codecs.text import whole_text
from socketcluster.errors import InvalidArgumentsError, UsageError
from socketcluster.history.options import MAX_SIZE
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.stored import StoredPublishes

MAX_ID = 64
"""Characters of the id of a publish."""


@dataclass(frozen=True, slots=True)
class HistoryPublication:
    """One publish of a history.

    Attributes:
        data: that of the publish.
        offset: its number in the history.
    """

    data: Any
    offset: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of a history, read at one moment.

    Attributes:
        publications: from the oldest to the newest; the other way round if it was read backwards.
        position: where a further read goes on.
        complete: whether nothing is missing between the start that was asked for and the first
            publication: it is still stored, and its epoch is the present one.
    """

    publications: list[HistoryPublication]
    position: Position
    complete: bool


def checked_id(id: Any) -> str | None:
    """Check the id of a publish; return it with U+FFFD for each lone surrogate.

    Raises:
        InvalidArgumentsError: it is not a str of 1 to 64 characters.
    """
    if id is not None and (not isinstance(id, str) or not 0 < len(id) <= MAX_ID):
        raise InvalidArgumentsError(
            f"The id of a publish must be a str of 1 to {MAX_ID} characters, not {id!r}"
        )
    return None if id is None else whole_text(id)


async def read_history(
    stored: StoredPublishes,
    payloads: Payloads,
    channel: str,
    since: Position | None,
    limit: int,
    reverse: bool,
) -> HistoryPage:
    """Read the history of a channel. See `AGExchange.history`."""
    history = stored.history_of(channel)
    if history is None:
        raise UsageError(
            f"The channel {channel!r} has no history: add a rule to the server's channels option, "
            f"such as ChannelRule({channel!r}, history=History(size=100, ttl=300))"
        )
    _check(since, limit, reverse)
    page = await stored.reads.read(channel, history.retention, since, limit, reverse)
    publications = [
        HistoryPublication(payloads.decode(payload), message.offset)
        for message in page.messages
        if (payload := stored.readable(channel, message.payload)) is not None
    ]
    return HistoryPage(publications, _end(page, since, limit, reverse), page.complete)


def _check(since: Any, limit: Any, reverse: Any) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_SIZE:
        raise InvalidArgumentsError(
            f"The limit must be a whole number from 0 to {MAX_SIZE:,}, not {limit!r}"
        )
    if since is not None and not _is_position(since):
        raise InvalidArgumentsError(
            f"since must be a Position, such as that of a former page, or None, not {since!r}"
        )
    if not isinstance(reverse, bool):
        raise InvalidArgumentsError(f"reverse must be True or False, not {reverse!r}")


def _is_position(value: Any) -> bool:
    if not isinstance(value, Position):
        return False
    epoch, offset = value
    return (
        isinstance(epoch, str)
        and isinstance(offset, int)
        and not isinstance(offset, bool)
        and 0 <= offset < 1 << 63
    )


def _end(page: Page, since: Position | None, limit: int, reverse: bool) -> Position:
    """The position at which a further read goes on."""
    top = page.top
    if page.messages:
        last = page.messages[-1]
        if reverse:
            return Position(top.epoch, last.previous)
        return Position(top.epoch, last.offset) if len(page.messages) >= limit else top
    if since is not None and since.epoch == top.epoch:
        return since if limit == 0 else (Position(top.epoch, 0) if reverse else top)
    return Position(top.epoch, 0) if limit and reverse else top
