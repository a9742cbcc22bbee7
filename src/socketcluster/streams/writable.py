"""WritableConsumableStream: a stream with a writer.

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
    """A stream that the application writes to: `stream.write(value)`, `async for` reads.

    Every consumer that exists when a value is written receives it. `close` ends consumers after
    their backlogs, `kill` ends them now and drops the backlogs.

    A stream belongs to the event loop that its consumers wait in. Writing, ending and consuming it
    in another thread raises UsageError, and changes nothing.

    Attributes:
        name: its name, for the figures.
        inboxes: the backlogs by consumer id, for the demux that the stream is part of.
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
        """Create a stream. A demux passes the consumer numbers, and a callback when it is empty."""
        self.name: str = name
        self._binding = own_binding() if binding is None else binding
        self._ids = itertools.count(1) if ids is None else ids
        self._on_empty = on_empty
        self.inboxes: dict[int, Inbox] = {}

    def write(self, value: T) -> bool:
        """Write a value to every consumer; return whether there is any."""
        self._binding.check()
        inboxes = self.inboxes
        if not inboxes:
            return False
        for inbox in inboxes.values():
            inbox.put(value)
        return True

    def write_deferred(self, size: int, make: Callable[[], Any], weight: int = MADE_WEIGHT) -> bool:
        """Write a value that `make()` makes when the first consumer takes it.

        Return whether there is any consumer. The value counts `size` bytes for each. With several
        consumers it counts `weight` times as much: when one has taken it, the made value, which
        takes more memory, still waits for the others.
        """
        self._binding.check()
        inboxes = self.inboxes
        deferred = Deferred(size if len(inboxes) == 1 else size * weight, make)
        for inbox in inboxes.values():
            inbox.put_deferred(deferred)
        return bool(inboxes)

    def write_tracked(self, value: T, done: Callable[[], None]) -> bool:
        """Write a value, and call `done()` when every consumer has processed the value.

        That is when it asks for the next one, or is removed; at once if there is none.
        """
        self._binding.check()
        tracked = Tracked(value, done)
        for inbox in self.inboxes.values():
            inbox.put(tracked)
        written = bool(self.inboxes)
        tracked.release()
        return written

    def close(self, value: Any = None) -> None:
        """End all consumers after their backlogs; `value` goes with the end."""
        self._binding.check()
        for inbox in self.inboxes.values():
            inbox.end(value)

    def kill(self, value: Any = None) -> None:
        """End all consumers now, and drop their backlogs."""
        self._binding.check()
        for inbox in list(self.inboxes.values()):
            self._kill(inbox, value)

    def write_to_consumer(self, consumer_id: int, value: T) -> None:
        """Write a value to one consumer."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            inbox.put(value)

    def close_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer after its backlog."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            inbox.end(value)

    def kill_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer now, and drop its backlog."""
        self._binding.check()
        if (inbox := self.inboxes.get(consumer_id)) is not None:
            self._kill(inbox, value)

    def _kill(self, inbox: Inbox, value: Any) -> None:
        inbox.release()
        inbox.kill(value)
        self.detach(inbox)

    def get_backpressure(self) -> int:
        """Return the highest backpressure of any consumer."""
        return max(map(len, self.inboxes.values()), default=0)

    def get_consumer_backpressure(self, consumer_id: int) -> int:
        """Return how many values one consumer has not taken yet."""
        inbox = self.inboxes.get(consumer_id)
        return 0 if inbox is None else len(inbox)

    def has_consumer(self, consumer_id: int) -> bool:
        """Return whether the stream has this consumer."""
        return consumer_id in self.inboxes

    def get_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return the figures of one consumer; None if there is no such consumer."""
        inbox = self.inboxes.get(consumer_id)
        return None if inbox is None else self._stats(inbox)

    def get_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return the figures of all consumers."""
        return [self._stats(inbox) for inbox in self.inboxes.values()]

    def _stats(self, inbox: Inbox) -> ConsumerStats:
        timeout = None if inbox.timeout is None else inbox.timeout * 1000
        return ConsumerStats(inbox.id, len(inbox), self.name, timeout)

    def get_consumer_count(self) -> int:
        """Return how many consumers the stream has."""
        return len(self.inboxes)

    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """See `ConsumableStream.create_consumer`."""
        inbox = Inbox(next(self._ids), timeout, self.detach, self._binding)
        return Consumer(inbox, self.attach)

    def attach(self, inbox: Inbox) -> None:
        """Write to a consumer's inbox from now on."""
        self._binding.check()
        self.inboxes[inbox.id] = inbox

    def detach(self, inbox: Inbox) -> None:
        """Stop writing to a consumer's inbox."""
        if self.inboxes.pop(inbox.id, None) is not None and not self.inboxes and self._on_empty:
            self._on_empty(self)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return (
            f"<{type(self).__name__}{name} consumers={len(self.inboxes)} "
            f"backpressure={self.get_backpressure()}>"
        )
