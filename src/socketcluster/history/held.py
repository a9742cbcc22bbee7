"""Held: messages that wait until those missing before them are read."""

from __future__ import annotations

from typing import NamedTuple

MAX_HELD = 1000
MAX_HELD_BYTES = 1024 * 1024
"""How much may wait for a read. More is dropped, and found by another read."""


class HeldMessage(NamedTuple):
    """A message of the broker. See `StoredMessage`."""

    epoch: str
    offset: int
    previous: int
    payload: bytes


class Held:
    """The messages that wait, in the order in which they came.

    Attributes:
        messages: the messages.
        dropped: how often all of them were dropped, because there were too many.
        is_again: whether another read is needed after the one under way.
    """

    __slots__ = ("_size", "dropped", "is_again", "messages")

    def __init__(self, messages: list[HeldMessage], *, is_again: bool = False) -> None:
        self.messages: list[HeldMessage] = messages
        self.dropped: int = 0
        self.is_again: bool = is_again
        self._size = sum(len(message.payload) for message in messages)

    def add(self, message: HeldMessage) -> None:
        """Append a message."""
        self.messages.append(message)
        self._size += len(message.payload)
        if len(self.messages) > MAX_HELD or self._size > MAX_HELD_BYTES:
            self.messages, self._size = [], 0
            self.dropped += 1
            self.is_again = True

    def start(self, epoch: str, offset: int) -> int:
        """Return the lower of `offset` and the place before the first message of the epoch."""
        for message in self.messages:
            if message.epoch == epoch:
                return min(offset, message.previous)
        return offset
