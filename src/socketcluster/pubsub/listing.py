"""ChannelListing: the channels that clients are subscribed to, on all servers."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from socketcluster.errors import BrokerError, InvalidArgumentsError
from socketcluster.patterns import Pattern
from socketcluster.presence.results import ChannelsPage
from socketcluster.pubsub.index import ChannelEntry

ASK = "channels"
ANSWER = "channels-answer"
"""The types of the messages between servers."""

MOST = 1000
"""How many channels one page may have."""

ANSWER_BYTES = 40 * 1024
"""Bytes of the names in one answer. A message between servers may have 64 KiB."""

ANSWER_SECONDS = 2.0
"""How long other servers have to answer."""

SLICE = 2000
"""How many channels are looked at before the event loop turns."""


class ListingLink(Protocol):
    """The messages between servers, as the listing uses them."""

    @property
    def nodes(self) -> Collection[Any]: ...
    def send(
        self, type: str, data: Any = None, target: str | None = None
    ) -> Awaitable[None] | None: ...
    def on(self, type: str, handler: Callable[[Any], object]) -> None: ...


class Part(NamedTuple):
    """The channels of one server in their order, and whether it has more behind them."""

    channels: list[str]
    more: bool


class _Ask(msgspec.Struct):
    number: int
    pattern: str
    limit: int
    after: str


class _Answer(msgspec.Struct):
    number: int
    channels: list[str]
    more: bool


class _Question:
    """A question whose answers are awaited; `done` completes with the last one."""

    __slots__ = ("done", "parts", "waiting")

    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting
        self.parts: list[Part] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, node: str, part: Part) -> None:
        self.parts.append(part)
        self.waiting.discard(node)
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


class ChannelListing:
    """Lists the channels with subscribed clients.

    Args:
        entries: channel → entry of this process.
    """

    __slots__ = ("_entries", "_link", "_numbers", "_questions", "_tasks")

    def __init__(self, entries: Mapping[str, ChannelEntry]) -> None:
        self._entries = entries
        self._link: ListingLink | None = None
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, link: ListingLink) -> None:
        """Ask other servers from now on, and answer them."""
        self._link = link
        link.on(ASK, self._asked)
        link.on(ANSWER, self._answered)

    async def page(self, pattern: str | Pattern, limit: int, cursor: str | None) -> ChannelsPage:
        """See `AGExchange.channels`."""
        if not isinstance(pattern, Pattern):
            pattern = Pattern(pattern)
        if type(limit) is not int or not 1 <= limit <= MOST:
            raise InvalidArgumentsError(f"A page has 1 to {MOST:,} channels, not {limit!r}")
        if cursor is not None and not isinstance(cursor, str):
            raise InvalidArgumentsError(f"A cursor is a text, not {cursor!r}")
        others, complete = await self._ask(pattern, limit, cursor or "")
        parts = [await self._part(pattern, limit, cursor or ""), *others]
        return _merged(parts, limit, complete)

    async def _ask(self, pattern: Pattern, limit: int, after: str) -> tuple[list[Part], bool]:
        """Ask the other servers; return their parts, and whether all have answered."""
        link = self._link
        waiting = set() if link is None else {node.id for node in link.nodes}
        if link is None or not waiting:
            return [], True
        number, question = next(self._numbers), _Question(waiting)
        self._questions[number] = question
        try:
            ask = _Ask(number, pattern.text, limit, after)
            accepted = link.send(ASK, msgspec.to_builtins(ask))
            if accepted is not None:
                await accepted
            await asyncio.wait_for(question.done, ANSWER_SECONDS)
        except (BrokerError, TimeoutError):
            return question.parts, False
        finally:
            del self._questions[number]
        return question.parts, True

    def _asked(self, message: Any) -> None:
        ask = msgspec.convert(message.data, _Ask)
        task = asyncio.ensure_future(self._answer(message.node, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, node: str, ask: _Ask) -> None:
        part = await self._part(Pattern(ask.pattern), min(ask.limit, MOST), ask.after)
        size = 0
        for number, channel in enumerate(part.channels):
            size += len(msgspec.json.encode(channel)) + 1
            if size > ANSWER_BYTES:
                part = Part(part.channels[:number], True)
                break
        answer = _Answer(ask.number, part.channels, part.more)
        assert self._link is not None
        try:
            accepted = self._link.send(ANSWER, msgspec.to_builtins(answer), node)
            if accepted is not None:
                await accepted
        except BrokerError:
            pass  # The page says that it is not complete.

    def _answered(self, message: Any) -> None:
        answer = msgspec.convert(message.data, _Answer)
        question = self._questions.get(answer.number)
        if question is not None:
            question.take(message.node, Part(answer.channels, answer.more))

    async def _part(self, pattern: Pattern, limit: int, after: str) -> Part:
        """The first channels of this process behind a name, in slices of loop turns."""
        found: list[str] = []
        names = list(self._entries)
        for start in range(0, len(names), SLICE):
            if start:
                await asyncio.sleep(0)
            slice_ = (name for name in names[start : start + SLICE] if name > after)
            found += filter(self._has_clients, (n for n in slice_ if pattern.match(n) is not None))
            found = _first(found, limit + 1)
        return Part(found[:limit], len(found) > limit)

    def _has_clients(self, channel: str) -> bool:
        entry = self._entries.get(channel)
        return entry is not None and bool(entry.subscribers)


def _first(names: Iterable[str], count: int) -> list[str]:
    return heapq.nsmallest(count, names)


def _merged(parts: list[Part], limit: int, complete: bool) -> ChannelsPage:
    names = sorted({name for part in parts for name in part.channels})
    # Behind the last name of a part that has more, names of that server are unknown.
    ends = [part.channels[-1] for part in parts if part.more and part.channels]
    if ends:
        names = [name for name in names if name <= min(ends)]
    page = names[:limit]
    has_more = len(names) > limit or bool(ends)
    return ChannelsPage(page, page[-1] if page and has_more else None, complete)
