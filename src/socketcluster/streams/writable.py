"""WritableConsumableStream: a stream that can be written to.

Source: npm writable-consumable-stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.streams.consumable import ConsumableStream, Consumer, ConsumerStats
from socketcluster.streams.inbox import (
    MADE_WEIGHT,
    Deferred,
    Inbox,
    Timeout,
    Tracked,
    own_binding,
)

T = TypeVar("T")


class WritableConsumableStream(ConsumableStream[T]):
    """A stream whose values each go to every consumer there is when they are written.

    `close` lets consumers take their backlog before they end; `kill` drops it. `inboxes` is for
    the demux it is part of. It is used from the loop in which its consumers wait: writing, ending
    and consuming it in another thread raises UsageError, and changes nothing.
    """

    __slots__ = ("_binding", "_ids", "_on_empty", "inboxes", "name")

    def __init__(
        self,
        name: str = "",
        *,
        ids: Iterator[int] | None = None,
        on_empty: Callable[[WritableConsumableStream[T]], None] | None = None,
        binding: LoopBinding | None = None,
    ) -> None:
        self.name = name
        self._binding = own_binding() if binding is None else binding
        self._ids = itertools.count(1) if ids is None else ids
        self._on_empty = on_empty
        self.inboxes: dict[int, Inbox] = {}

    def write(self, value: T) -> bool:
        """Give a value to every consumer; whether there is any."""
        self._binding.check()
        inboxes = self.inboxes
        if not inboxes:
            return False
        for inbox in inboxes.values():
            inbox.put(value)
        return True

    def write_deferred(self, size: int, make: Callable[[], Any], weight: int = MADE_WEIGHT) -> bool:
        """Give every consumer a value that `make()` makes when it is first taken; whether there is
        any consumer. It counts `size` bytes with each; but when several have it, it may be made for
        one and wait for another, and counts `weight` times as much, as a made value may take."""
        self._binding.check()
        inboxes = self.inboxes
        deferred = Deferred(size if len(inboxes) == 1 else size * weight, make)
        for inbox in inboxes.values():
            inbox.put_deferred(deferred)
        return bool(inboxes)

    def write_tracked(self, value: T, done: Callable[[], None]) -> bool:
        """`write`, and `done()` is called once every consumer has taken the value and come back
        for the next one, or is gone; at once if there is none."""
        self._binding.check()
        tracked = Tracked(value, done)
        for inbox in self.inboxes.values():
            inbox.put(tracked)
        written = bool(self.inboxes)
        tracked.release()
        return written

    def close(self, value: Any = None) -> None:
        """End all consumers once they took their backlog; `value` goes with the end."""
        self._binding.check()
        for inbox in self.inboxes.values():
            inbox.end(value)

    def kill(self, value: Any = None) -> None:
        """End all consumers now; their backlog is dropped."""
        self._binding.check()
        for inbox in list(self.inboxes.values()):
            self._kill(inbox, value)

    def write_to_consumer(self, consumer_id: int, value: T) -> None:
        """Give a value to one consumer."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            inbox.put(value)

    def close_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer once it took its backlog."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            inbox.end(value)

    def kill_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer now."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            self._kill(inbox, value)

    def _kill(self, inbox: Inbox, value: Any) -> None:
        inbox.settle()
        inbox.kill(value)
        self.detach(inbox)

    def get_backpressure(self) -> int:
        """The highest backpressure of any consumer."""
        return max(map(len, self.inboxes.values()), default=0)

    def get_consumer_backpressure(self, consumer_id: int) -> int:
        """What one consumer has not yet taken."""
        inbox = self.inboxes.get(consumer_id)
        return 0 if inbox is None else len(inbox)

    def has_consumer(self, consumer_id: int) -> bool:
        """Whether it has this consumer."""
        return consumer_id in self.inboxes

    def get_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one consumer."""
        inbox = self.inboxes.get(consumer_id)
        return None if inbox is None else self._stats(inbox)

    def get_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of all consumers."""
        return [self._stats(inbox) for inbox in self.inboxes.values()]

    def _stats(self, inbox: Inbox) -> ConsumerStats:
        timeout = None if inbox.timeout is None else inbox.timeout * 1000
        return ConsumerStats(inbox.id, len(inbox), self.name, timeout)

    def get_consumer_count(self) -> int:
        """How many consumers it has."""
        return len(self.inboxes)

    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """See `ConsumableStream.create_consumer`."""
        inbox = Inbox(next(self._ids), timeout, self.detach, self._binding)
        return Consumer(inbox, self.attach)

    def attach(self, inbox: Inbox) -> None:
        """Write to an inbox from now on."""
        self._binding.check()
        self.inboxes[inbox.id] = inbox

    def detach(self, inbox: Inbox) -> None:
        """Write to an inbox no more."""
        if self.inboxes.pop(inbox.id, None) is not None and not self.inboxes and self._on_empty:
            self._on_empty(self)
