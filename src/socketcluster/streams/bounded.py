"""The queue of a consumer that nobody can slow down the writers for: it is bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.streams.inbox import End, Inbox, Payload, Timeout

SMALL = 512
"""Bytes of a payload up to which a consumer that is not far behind gets its value, decoded."""

_FAR = 64
"""Values behind which that is far: they may take thirty times the bytes, and count as none."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much one consumer of a stream may have to take, and what happens past that.

    Attributes:
        values: so many.
        size: bytes of those that are kept as payloads.
        passed: called with the stream's name, the values and the bytes; returns the error that
            the consumer's loop raises, or None to drop its oldest values instead.
    """

    values: int
    size: int
    passed: Callable[[str, int, int], Exception | None]


class BoundedInbox(Inbox):
    """An inbox with a bound on its payloads."""

    __slots__ = ("_max_size", "_max_values", "_name", "_passed", "_size")

    def __init__(
        self, id: int, timeout: Timeout, name: str, binding: LoopBinding, bound: Bound
    ) -> None:
        super().__init__(id, timeout, lambda _: None, binding)
        self._name = name
        self._max_values = bound.values
        self._max_size = bound.size
        self._passed = bound.passed
        self._size = 0
        self.limit = min(_FAR, bound.values, max(1, bound.size // SMALL))

    def put_payload(self, item: Payload) -> None:
        """See `Inbox.put_payload`."""
        items = self.items
        if items:
            items.append(item)  # Its consumer was woken already.
        else:
            self.put(item)
            items = self.items  # The first value is put into another queue.
        self._size = size = self._size + len(item.data)
        if size > self._max_size or len(items) > self._max_values:
            error = self._passed(self._name, len(items), size)
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
            if type(items[0]) is End:  # What came after it is for nobody.
                self._gone(items.pop())
                return
            oldest = items.popleft()
            if type(oldest) is Payload:
                self._gone(oldest)

    def _gone(self, item: Payload) -> None:
        self._size -= len(item.data)
