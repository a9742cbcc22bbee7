"""Reads of histories: few at a time for the whole process, and shared by those who ask."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Protocol, TypeVar

from socketcluster.brokers.storing import Page, Position, Retention, StoredMessage
from socketcluster.errors import BrokerError
from socketcluster.history.numbers import Numbers
from socketcluster.history.position_log import PositionLogs

READS_AT_ONCE = 100
"""How many reads of a process may wait for the backend; others wait here."""

TAIL_SECONDS = 5.0
"""How long messages that were read stay, so that a storm of clients reads them once."""

MAX_TAIL_SECONDS = 30.0
"""How long a tail stays at most, though clients ask for it again and again: so much longer than the
`ttl` may they receive a publish."""

TAILS_BYTES = 32 * 1024 * 1024
"""Bytes of payloads in all tails; the tail that was asked for least recently goes first."""

Result = TypeVar("Result")

_offset_of = attrgetter("offset")


class ReadBroker(Protocol):
    """The broker, as the reads see it."""

    @property
    def ready(self) -> bool: ...
    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page: ...
    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position: ...


class Tail:
    """The newest messages of a channel, without a gap, up to its position.

    Attributes:
        start: the offset behind which it has all messages.
        size: bytes of the payloads.
        ends: when it goes, by the loop's clock, though it is asked for.
    """

    __slots__ = ("_limit", "_messages", "ends", "expires", "size", "start")

    def __init__(self, start: int, messages: list[StoredMessage], limit: int) -> None:
        self.start: int = start
        self.size: int = sum(len(message.payload) for message in messages)
        self.ends: float = 0.0
        self.expires: asyncio.TimerHandle | None = None
        self._messages = messages
        self._limit = limit

    def add(self, message: StoredMessage) -> int:
        """Append the message that follows; return by how many bytes the size changes."""
        before = self.size
        self._messages.append(message)
        self.size += len(message.payload)
        if len(self._messages) > 2 * self._limit:
            dropped = self._messages[: self._limit]
            del self._messages[: self._limit]
            self.size -= sum(len(each.payload) for each in dropped)
            self.start = dropped[-1].offset
        return self.size - before

    def after(self, offset: int) -> list[StoredMessage] | None:
        """Return all messages behind an offset; None if the tail begins later."""
        if offset < self.start:
            return None
        return self._messages[bisect_right(self._messages, offset, key=_offset_of) :]


def joined(
    since: int, page: Sequence[StoredMessage], live: Sequence[StoredMessage], end: int
) -> tuple[int, list[StoredMessage]] | None:
    """Join a page with messages that were delivered meanwhile, up to the offset `end`.

    Returns (the offset behind which nothing is missing, the messages); None if there is a gap.
    """
    messages = [message for message in page if message.offset <= end]
    last = messages[-1].offset if messages else since
    messages += [message for message in live if message.offset > last]
    if not messages:
        return end, []
    previous = start = messages[0].previous
    for message in messages:
        if message.previous != previous:
            return None
        previous = message.offset
    return (start, messages) if previous == end else None


class SharedReads:
    """The reads of one process, and the tails that they leave for a while."""

    __slots__ = ("_free", "_size", "_tails", "broker", "logs", "numbers")

    def __init__(self, broker: ReadBroker, numbers: Numbers) -> None:
        self.broker: ReadBroker = broker
        self.numbers: Numbers = numbers
        self.logs: PositionLogs = PositionLogs()
        self._free = asyncio.Semaphore(READS_AT_ONCE)
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._size = 0

    async def read(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool = False,
    ) -> Page:
        """Read a history. See `StoringBroker.history`.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        self.numbers.reads += 1
        return await self._wait(
            lambda: self.broker.history(channel, retention, since, limit, reverse)
        )

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringBroker.renew_epoch`.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        return await self._wait(lambda: self.broker.renew_epoch(channel, retention, seen))

    async def _wait(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        async with self._free:
            try:
                return await ask()
            except BrokerError:
                raise
            except Exception as error:  # Of a broker of the application, or its library.
                raise BrokerError(f"{type(error).__name__}: {error}") from error

    def tail(self, channel: str) -> Tail | None:
        """Return the tail of a channel that is asked for now, so that it stays for a while."""
        tail = self._tails.get(channel)
        if tail is None:
            return None
        if tail.ends <= asyncio.get_running_loop().time():
            self.drop_tail(channel)
            return None
        self._tails.move_to_end(channel)
        self._keep(channel, tail)
        return tail

    def put_tail(self, channel: str, tail: Tail, ttl: float) -> None:
        """Keep a tail for a while, at most for the `ttl` of its publishes."""
        self.drop_tail(channel)
        tail.ends = asyncio.get_running_loop().time() + min(MAX_TAIL_SECONDS, ttl)
        self._tails[channel] = tail
        self._size += tail.size
        self._keep(channel, tail)
        self._make_room()

    def add(self, channel: str, message: StoredMessage) -> None:
        """Append a message that is delivered now to the channel's tail, if there is one."""
        tail = self._tails.get(channel)
        if tail is not None:
            self._size += tail.add(message)
            self._make_room()

    def drop_tail(self, channel: str) -> None:
        """Forget the tail of a channel."""
        tail = self._tails.pop(channel, None)
        if tail is not None:
            self._size -= tail.size
            if tail.expires is not None:
                tail.expires.cancel()

    def _keep(self, channel: str, tail: Tail) -> None:
        if tail.expires is not None:
            tail.expires.cancel()
        loop = asyncio.get_running_loop()
        tail.expires = loop.call_later(TAIL_SECONDS, self.drop_tail, channel)

    def _make_room(self) -> None:
        # The newest stays, because those who asked for it have not looked at it yet.
        while self._size > TAILS_BYTES and len(self._tails) > 1:
            self.drop_tail(next(iter(self._tails)))
