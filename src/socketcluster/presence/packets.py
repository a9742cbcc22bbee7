"""Packets: the messages about members between nodes, and their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

PART_BYTES = 40 * 1024
"""Bytes of the changes in one message. A message between nodes may have 64 KiB."""

MAX_NAMED = 100
"""How many nodes one message names; each takes some 40 bytes."""

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, le=1e6)]
Leavers = dict[str, tuple[list[Any], Seconds]]
"""From the member to its infos, and the seconds until it has left."""


class Change(msgspec.Struct, omit_defaults=True):
    """A change of the sender's members of one channel.

    Attributes:
        full: whether it replaces all that was known before, with the parts that follow.
        is_part: whether it is a later part of such a list.
        parts: how many parts of the list follow.
        users: from the member to its infos if it is present, to the seconds until it has left, or
            to None if it has left.
        leaving: members that are leaving, with their infos.
        orphans: the same of nodes that have closed.
        guests: how many sockets without a user are there.
        sockets: how many sockets are there.
        counted: how many members are there, if there are too many to list.
        announced: whether 'occupied' was emitted.
    """

    full: bool = False
    is_part: bool = False
    parts: Count = 0
    users: dict[str, list[Any] | Seconds | None] = {}
    leaving: Leavers = {}
    orphans: Leavers = {}
    guests: Count = 0
    sockets: Count = 0
    counted: Count | None = None
    announced: bool = False


class Ask(msgspec.Struct, omit_defaults=True):
    """A question for the members of channels.

    Attributes:
        number: names it in the answer.
        channels: maybe none: then only an acknowledgment is asked for.
        nodes: the ids of the nodes that shall answer; empty for all.
    """

    number: int
    channels: list[str] = []
    nodes: list[str] = []


class Packet(msgspec.Struct, omit_defaults=True):
    """One message.

    Attributes:
        version: the number of it among those of its sender.
        channels: from the channel to its change.
        asks: questions.
        acks: from a node to the numbers of its questions that are answered herewith.
        bye: whether the sender closes, after this.
    """

    version: Annotated[int, Meta(ge=1)]
    channels: dict[str, Change] = {}
    asks: list[Ask] = []
    acks: dict[str, list[int]] = {}
    bye: bool = False


def decode(data: Any) -> Packet:
    """Check the data of a message.

    Raises:
        msgspec.ValidationError: it is of another version, and has another form.
    """
    return msgspec.convert(data, Packet)


def encode(packet: Packet) -> Any:
    """Return a packet as plain data."""
    return msgspec.to_builtins(packet)


def size_of(part: Any) -> int:
    """Return the bytes of a part of a packet."""
    return len(msgspec.json.encode(part))


def split(change: Change) -> list[Change]:
    """Return changes that say the same one after the other, none of them too large."""
    if size_of(change) <= PART_BYTES:
        return [change]
    parts = list(_split(change))
    if change.full:
        for number, part in enumerate(parts, 1):
            part.is_part, part.parts = number > 1, len(parts) - number
    return parts


def _split(change: Change) -> Iterator[Change]:
    part, size = _empty(change, change.full), 0
    for name in ("users", "leaving", "orphans"):
        for user, value in getattr(change, name).items():
            added = size_of({user: value})
            if size and size + added > PART_BYTES:
                yield part
                part, size = _empty(change, False), 0
            getattr(part, name)[user] = value
            size += added
    yield part


def _empty(change: Change, full: bool) -> Change:
    return msgspec.structs.replace(change, full=full, users={}, leaving={}, orphans={})


def chunks(channels: list[str]) -> Iterator[list[str]]:
    """Yield the channels of one question after the other, at least one."""
    chunk: list[str] = []
    size = 0
    for channel in channels:
        added = size_of(channel) + 1
        if size + added > PART_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(channel)
        size += added
    yield chunk


class Packer:
    """Collects changes and questions into packets that are not too large.

    Attributes:
        packets: those that are finished; their versions are to be set.
    """

    __slots__ = ("_size", "packets")

    def __init__(self) -> None:
        self.packets: list[Packet] = [Packet(1)]
        self._size = 0

    def add_change(self, channel: str, change: Change) -> None:
        """Add a change of a channel."""
        for part in split(change):
            self._make_room(size_of({channel: part}))
            if channel in self.packets[-1].channels:  # One packet has one change of it.
                self._begin()
            self.packets[-1].channels[channel] = part

    def add_ask(self, ask: Ask) -> None:
        """Add a question."""
        self._make_room(size_of(ask))
        self.packets[-1].asks.append(ask)

    def add_acks(self, acks: dict[str, list[int]]) -> None:
        """Add acknowledgments, behind all changes: they say that those are complete."""
        entries = list(acks.items())
        for start in range(0, len(entries), MAX_NAMED):
            if start:
                self._begin()
            self.packets[-1].acks = dict(entries[start : start + MAX_NAMED])

    def _make_room(self, size: int) -> None:
        if self._size and self._size + size > PART_BYTES:
            self._begin()
        self._size += size

    def _begin(self) -> None:
        self.packets.append(Packet(1))
        self._size = 0
