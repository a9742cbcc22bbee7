"""Replay: what a client missed of a channel, read once for all clients that ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from socketcluster.brokers.storing import Page, Position, StoredMessage
from socketcluster.errors import BrokerError
from socketcluster.history.options import History
from socketcluster.history.reading import TAIL_SECONDS, SharedReads, Tail, joined

SMALL = 100
"""A history of at most so many publishes is read whole, for the clients that ask later."""

ATTEMPTS = 3
"""How often a read is tried whose end did not meet the live messages."""


class Recovered(NamedTuple):
    """The data of a socket that joins a channel.

    Attributes:
        messages: what it missed, the oldest first.
        position: of the channel, with these messages; the live ones follow it. None if the
            channel has no history, or its position is not known yet because the backend is away.
        recovered: whether nothing is missing since the position that was asked for.
    """

    messages: list[StoredMessage]
    position: Position | None
    recovered: bool


class FollowedChannel(Protocol):
    """The channel, as its replays see it."""

    name: str
    history: History
    position: Position | None

    async def catch_up_with(self, since: Position) -> None:
        """Read until the position is not before `since`, if that is possible.

        Raises:
            BrokerError: the backend is away, or refused.
        """

    def readable(self, message: StoredMessage) -> StoredMessage | None:
        """Return a message as clients receive it; None if it is foreign."""


class Replay:
    """Answers which messages lie between a client's position and that of the channel.

    `cover` reads, and `missed` answers at once, so that a socket can join in the same turn.
    """

    __slots__ = (
        "_asked",
        "_channel",
        "_live",
        "_newest",
        "_reading",
        "_reads",
        "_too_old",
        "_widened",
    )

    def __init__(self, channel: FollowedChannel, reads: SharedReads) -> None:
        self._channel = channel
        self._reads = reads
        self._reading: asyncio.Task[None] | None = None
        self._asked: int | None = None  # The lowest offset that the next read is for.
        self._live: list[StoredMessage] | None = None  # Delivered during a read.
        self._too_old = -1  # The history behind this offset, or a lower one, is not whole.
        self._widened = False  # Whether the next read is one of all that clients may miss.
        self._newest: tuple[StoredMessage | None, float] | None = None

    @property
    def limit(self) -> int:
        """The most messages that one client may miss."""
        return min(self._channel.history.recover_limit, self._channel.history.size)

    @property
    def is_away(self) -> bool:
        """Whether the backend is away, or was when the position was to be read."""
        return self._channel.position is None or not self._reads.broker.ready

    def restart(self) -> None:
        """Forget everything: the channel begins elsewhere."""
        self._reads.drop_tail(self._channel.name)
        self._reading = self._live = self._newest = None
        self._too_old = -1
        self._widened = False

    def delivered(self, message: StoredMessage, readable: StoredMessage | None) -> None:
        """Note a message that is delivered now, unless it is not readable."""
        if self._live is not None:
            self._live.append(message)
        if readable is None:
            return
        self._reads.add(self._channel.name, readable)
        if self._channel.history.recover == "latest":
            self._note_newest(readable, self._channel.history.ttl)

    async def prepare(self, since: Position | None) -> None:
        """Read what `recover` needs for a position.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        recover = self._channel.history.recover
        if recover == "latest":
            await self._know_newest()
        elif recover and since is not None:
            await self._channel.catch_up_with(since)
            await self.cover(since)

    def recover(self, since: Position | None, max_bytes: int) -> Recovered:
        """Return what a socket receives that joins now; its data has at most `max_bytes`."""
        position, recover = self._channel.position, self._channel.history.recover
        if not recover or position is None:
            return Recovered([], position, False)
        if recover == "latest":
            newest = self._newest_for(since)
            is_known = since is not None and since.epoch == position.epoch
            return Recovered(newest, position, is_known and (bool(newest) or since == position))
        messages = None if since is None else self.missed(since)
        if messages is None or sum(len(each.payload) for each in messages) > max_bytes:
            return Recovered([], position, False)
        return Recovered(messages, position, True)

    def missed(self, since: Position) -> list[StoredMessage] | None:
        """Return the messages behind a position; None if they are not whole, or too many."""
        position = self._channel.position
        if position is None or since.epoch != position.epoch or since.offset > position.offset:
            return None
        if since.offset == position.offset:
            return []
        tail = self._reads.tail(self._channel.name)
        messages = None if tail is None else tail.after(since.offset)
        return None if messages is None or len(messages) > self.limit else messages

    async def cover(self, since: Position) -> None:
        """Read what `missed` needs for a position, unless that is known not to be whole.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        for _ in range(ATTEMPTS):
            if not self._needs_read(since):
                return
            if self._asked is None or since.offset < self._asked:
                self._asked = since.offset
            await self._read_shared(self._read_tail)

    async def page_since(self, since: Position, limit: int) -> Page:
        """Return the messages behind a position, up to that of the channel.

        Raises:
            BrokerError: the backend is away, or refused; or the position is not known yet.
        """
        await self.cover(since)
        position = self._channel.position
        if position is None:
            name = self._channel.name
            raise BrokerError(f"The position of the channel {name!r} is not known yet")
        missed = self.missed(since)
        return Page([] if missed is None else missed[:limit], position, missed is not None)

    async def _read_shared(self, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the read under way, or for a new one."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(read())
            self._reading.add_done_callback(self._read_done)
        await asyncio.shield(self._reading)

    def _read_done(self, task: asyncio.Future[None]) -> None:
        if self._reading is task:
            self._reading = self._live = None
        if not task.cancelled():
            task.exception()  # Those who wait for it raise it.

    def _needs_read(self, since: Position) -> bool:
        position = self._channel.position
        if position is None or since.epoch != position.epoch:
            return False
        if not self._too_old < since.offset < position.offset:
            return False
        tail = self._reads.tail(self._channel.name)
        return tail is None or since.offset < tail.start

    async def _read_tail(self) -> None:
        channel, reads = self._channel, self._reads
        asked, position = self._asked, channel.position
        self._asked = None
        if position is None or asked is None:
            return
        self._live = live = list[StoredMessage]()
        retention = channel.history.retention
        if channel.history.size <= SMALL or self._widened or reads.tail(channel.name) is not None:
            self._widened = False
            page = await reads.read(channel.name, retention, None, self.limit, reverse=True)
            page = Page(page.messages[::-1], page.top, False)
        else:
            since = Position(position.epoch, asked)
            page = await reads.read(channel.name, retention, since, self.limit)
            end = page.messages[-1].offset if page.messages else page.top.offset
            if end < min(page.top.offset, position.offset):
                # A client may not miss so much. Another read finds what the others missed.
                self._too_old = max(self._too_old, asked)
                self._widened = True
                return
        self._put_tail(asked, page, live)

    def _put_tail(self, asked: int, page: Page, live: list[StoredMessage]) -> None:
        position = self._channel.position
        if position is None or page.top.epoch != position.epoch:
            return
        found = joined(page.top.offset, page.messages, live, position.offset)
        if found is None:
            return
        start, messages = found
        if page.complete:
            start = min(start, asked)
        else:
            self._too_old = max(self._too_old, start - 1)
        readable = [each for each in map(self._channel.readable, messages) if each is not None]
        ttl = self._channel.history.ttl
        self._reads.put_tail(self._channel.name, Tail(start, readable, self.limit), ttl)

    # The newest message

    async def _know_newest(self) -> None:
        """Read the newest message unless it is known.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        for _ in range(ATTEMPTS):
            now = asyncio.get_running_loop().time()
            if self._newest is None or now >= self._newest[1]:
                await self._read_shared(self._read_newest)

    async def _read_newest(self) -> None:
        channel = self._channel
        page = await self._reads.read(channel.name, channel.history.retention, None, 1, True)
        self.note_page(page)

    def note_page(self, page: Page) -> None:
        """Note the newest message of a page that was read from the end."""
        position = self._channel.position
        if self._channel.history.recover != "latest":
            return
        if position is not None and page.top.epoch == position.epoch:
            newest = self._channel.readable(page.messages[0]) if page.messages else None
            self._note_newest(newest, min(TAIL_SECONDS, self._channel.history.ttl))

    def _note_newest(self, message: StoredMessage | None, seconds: float) -> None:
        self._newest = message, asyncio.get_running_loop().time() + seconds

    def _newest_for(self, since: Position | None) -> list[StoredMessage]:
        """Return the newest message, unless a client at `since` has it already."""
        position = self._channel.position
        if position is None or self._newest is None:
            return []
        message, expires = self._newest
        if message is None or asyncio.get_running_loop().time() >= expires:
            return []
        if message.offset > position.offset:  # It will come.
            return []
        if since is not None and since.epoch == position.epoch and since.offset >= message.offset:
            return []
        return [message]
