"""The store in memory: histories of channels, ids of publishes, and kept values, within a bound.

The in-process broker and the ZeroMQ proxy have one each.
"""

from __future__ import annotations

import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar

from socketcluster.brokers.storing import Page, Position, Retention, StoredMessage

HISTORY_MEMORY = 64 * 1024 * 1024
"""The default of the option `history_memory`."""

ID_SECONDS = 300.0
"""How long a second publish with the same id is recognized."""

CHANNEL_OVERHEAD = 512
MESSAGE_OVERHEAD = 136
ENTRY_OVERHEAD = 240
"""Bytes of a channel beside its name, of a message beside its payload, and of an entry of a shelf
beside its texts: at least what tracemalloc shows, growing tables included (CPython 3.11)."""

SHELF_SHARE = 4
"""Ids and kept values take at most one part in four of the memory each."""

Name = TypeVar("Name", str, bytes)
Text = str | bytes

Placed = tuple[str, int, int]
"""The epoch, the offset, and the offset of the publish before."""


class Shelf:
    """Values with deadlines. Past `limit` bytes the one that was put first goes.

    Attributes:
        size: the bytes that it takes.
    """

    __slots__ = ("_entries", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self.size: int = 0
        self._limit = limit
        self._entries: OrderedDict[tuple[Text, ...], tuple[float, bytes]] = OrderedDict()

    def put(self, key: tuple[Text, ...], value: bytes, seconds: float, now: float) -> None:
        """Keep a value for some seconds, in place of a former one."""
        self.take(key, now)
        self._entries[key] = (now + seconds, value)
        self.size += _entry_size(key, value)
        while self._entries:
            oldest, (deadline, _) = next(iter(self._entries.items()))
            if deadline > now and self.size <= self._limit:
                break
            self.take(oldest, now)

    def take(self, key: tuple[Text, ...], now: float) -> bytes | None:
        """Remove a value and return it, unless its time is over."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        deadline, value = entry
        self.size -= _entry_size(key, value)
        return value if deadline > now else None

    def has(self, key: tuple[Text, ...], now: float) -> bool:
        """Whether there is a value whose time is not over."""
        entry = self._entries.get(key)
        return entry is not None and entry[0] > now


def _entry_size(key: tuple[Text, ...], value: bytes) -> int:
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, key)) + len(value)


class _Channel:
    """The history of a channel.

    Attributes:
        epoch: its name.
        top: the offset of the newest publish.
        messages: when each message expires, and its payload. The last one has the offset `top`.
        size: the bytes that all of this takes.
    """

    __slots__ = ("epoch", "messages", "size", "top")

    def __init__(self, size: int) -> None:
        self.epoch: str = _new_epoch()
        self.top: int = 0
        self.messages: list[tuple[float, bytes]] = []
        self.size: int = size

    def drop(self, count: int) -> None:
        """Drop the oldest messages."""
        for _, payload in islice(self.messages, count):
            self.size -= len(payload) + MESSAGE_OVERHEAD
        del self.messages[:count]


def _new_epoch() -> str:
    return secrets.token_hex(8)


class MemoryStore(Generic[Name]):
    """Stores publishes and values, and forgets the least recently used channel past `memory` bytes.

    A forgotten channel gets a new epoch with its next use. The channel in use loses its oldest
    publishes instead.

    Args:
        memory: how many bytes it may take.
        clock: returns the time in seconds.
    """

    __slots__ = ("_channels", "_channels_size", "_clock", "_ids", "_kept", "_memory")

    def __init__(self, memory: int, clock: Callable[[], float]) -> None:
        self._memory = memory
        self._clock = clock
        # The least recently used channel is the first.
        self._channels: OrderedDict[Name, _Channel] = OrderedDict()
        self._channels_size = 0
        self._ids = Shelf(memory // SHELF_SHARE)
        self._kept = Shelf(memory // SHELF_SHARE)

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return self._channels_size + self._ids.size + self._kept.size

    def publish(
        self, name: Name, payload: bytes, retention: Retention, id: Name | None = None
    ) -> Placed | None:
        """Store a publish and return its place; None for a second one with the same id."""
        now = self._clock()
        if id is not None:
            if self._ids.has((name, id), now):
                return None
            self._ids.put((name, id), b"", ID_SECONDS, now)
        channel = self._use(name)
        before = channel.size
        channel.top += 1
        channel.messages.append((now + retention.ttl, payload))
        channel.size += len(payload) + MESSAGE_OVERHEAD
        channel.drop(max(0, len(channel.messages) - retention.size))
        _drop_expired(channel, now)
        self._channels_size += channel.size - before
        self._make_room(channel)
        return channel.epoch, channel.top, channel.top - 1

    def history(
        self,
        name: Name,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """See `StoringBroker.history`."""
        channel = self._use(name)
        before = channel.size
        _drop_expired(channel, self._clock())
        self._channels_size += channel.size - before
        self._make_room(channel)
        top = channel.top
        # The place before the oldest message.
        bottom = top - min(len(channel.messages), retention.size)
        start = top if reverse else bottom
        complete = since is None
        if since is not None and since.epoch == channel.epoch:
            start = min(max(since.offset, bottom), top)
            complete = start == since.offset and (not reverse or start > bottom or start == 0)
        end = bottom if reverse else top
        if limit is not None:
            end = max(bottom, start - limit) if reverse else min(top, start + limit)
        offsets = range(start, end, -1) if reverse else range(start + 1, end + 1)
        return Page(list(_messages(channel, offsets)), Position(channel.epoch, top), complete)

    def renew_epoch(self, name: Name, seen: Position) -> Position:
        """See `StoringBroker.renew_epoch`."""
        channel = self._use(name)
        self._make_room(channel)
        if seen.epoch == channel.epoch and channel.top < seen.offset:
            channel.epoch = _new_epoch()
        return Position(channel.epoch, channel.top)

    def keep(self, values: Mapping[Name, bytes], seconds: float) -> None:
        """See `StoringBroker.keep`. Past the shelf's share the values kept first are lost."""
        now = self._clock()
        for key, value in values.items():
            self._kept.put((key,), value, seconds, now)
        self._make_room(None)

    def take(self, key: Name) -> bytes | None:
        """See `StoringBroker.take`."""
        return self._kept.take((key,), self._clock())

    def _use(self, name: Name) -> _Channel:
        """Return a channel, as the most recently used one."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(CHANNEL_OVERHEAD + sys.getsizeof(name))
            self._channels_size += channel.size
        else:
            self._channels.move_to_end(name)
        return channel

    def _make_room(self, used: _Channel | None) -> None:
        while self.size > self._memory and self._channels:
            name = next(iter(self._channels))
            channel = self._channels[name]
            if channel is used:  # It is the only one.
                before = channel.size
                while self.size - before + channel.size > self._memory and channel.messages:
                    channel.drop(1)
                self._channels_size += channel.size - before
                return
            del self._channels[name]
            self._channels_size -= channel.size


def _drop_expired(channel: _Channel, now: float) -> None:
    count = 0
    for expires_at, _ in channel.messages:
        if expires_at > now:
            break
        count += 1
    if count:
        channel.drop(count)


def _messages(channel: _Channel, offsets: range) -> Iterator[StoredMessage]:
    bottom = channel.top - len(channel.messages)
    for offset in offsets:
        yield StoredMessage(offset, offset - 1, channel.messages[offset - bottom - 1][1])
