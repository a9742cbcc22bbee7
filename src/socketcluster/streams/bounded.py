"""A bounded backlog, for a consumer whose writers cannot be slowed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.streams.inbox import End, Inbox, Payload, Timeout

SMALL = 512
"""Bytes of a payload up to which a consumer with a short backlog gets the decoded value."""

_SHORT_BACKLOG = 64
"""How many decoded values may wait, at most: they may take 30 times the bytes of their payloads,
and those bytes are not counted."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest backlog of one consumer, and what happens past it.

    Attributes:
        values: the most values.
        size: the most bytes of payloads; a single value may have more.
        exceeded: called with the stream's name, the values and the bytes. The consumer's loop
            raises the error that it returns; with None its oldest values are dropped instead.
    """

    values: int
    size: int
    exceeded: Callable[[str, int, int], Exception | None]


class BoundedInbox(Inbox):
    """An inbox with a bound on its payloads."""

    __slots__ = ("_exceeded", "_max_size", "_max_values", "_name", "_size")

    def __init__(
        self, id: int, timeout: Timeout, name: str, binding: LoopBinding, bound: Bound
    ) -> None:
        super().__init__(id, timeout, lambda _: None, binding)
        self._name = name
        self._max_values = bound.values
        self._max_size = bound.size
        self._exceeded = bound.exceeded
        self._size = 0
        self.limit: int = min(_SHORT_BACKLOG, bound.values, max(1, bound.size // SMALL))

    def put_payload(self, item: Payload) -> None:
        """See `Inbox.put_payload`."""
        items = self.items
        if items:
            items.append(item)  # The consumer was woken for an earlier one.
        else:
            self.put(item)
            items = self.items  # The first value is put into another queue.
        self._size = size = self._size + len(item.data)
        if (size > self._max_size and len(items) > 1) or len(items) > self._max_values:
            error = self._exceeded(self._name, len(items), size)
            if error is not None:
                self.fail(error)
            else:
                self._drop_oldest()

    def take_payload(self) -> Any:
        """See `Inbox.take_payload`."""
        item = self.items.popleft()
        self._size -= len(item.data)
        return item.decode(item.data)

    def _drop_oldest(self) -> None:
        items = self.items
        while len(items) > 1 and (self._size > self._max_size or len(items) > self._max_values):
            if type(items[0]) is End:  # No consumer receives values after the end.
                self._removed(items.pop())
                return
            oldest = items.popleft()
            if type(oldest) is Payload:
                self._removed(oldest)

    def _removed(self, item: Payload) -> None:
        self._size -= len(item.data)
