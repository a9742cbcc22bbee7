"""StreamDemux: many named streams in one. Source: npm stream-demux."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.streams.bounded import Bound, BoundedInbox
from socketcluster.streams.consumable import ConsumableStream, Consumer, ConsumerStats
from socketcluster.streams.inbox import (
    MADE_WEIGHT,
    NO_VALUE,
    Gauge,
    Inbox,
    Payload,
    Timeout,
    own_binding,
)
from socketcluster.streams.writable import WritableConsumableStream

T = TypeVar("T")


class StreamDemux(Generic[T]):
    """Streams by name. A name takes memory only while it has a consumer.

    A `gauge` watches the backpressure of its consumers, or a `bound` limits that of each. It is
    used from one loop, as `WritableConsumableStream` is; `binding` is that of the object that it
    is part of.
    """

    __slots__ = ("_binding", "_bound", "_finished", "_gauge", "_ids", "_streams")

    def __init__(
        self,
        gauge: Gauge | None = None,
        binding: LoopBinding | None = None,
        bound: Bound | None = None,
    ) -> None:
        self._bound = bound
        self._binding = own_binding() if binding is None else binding
        self._gauge = gauge
        self._finished = False
        self._ids = itertools.count(1)
        self._streams: dict[str, WritableConsumableStream[T]] = {}

    def write(self, name: str, value: T) -> bool:
        """Give a value to every consumer of a stream; whether there is any."""
        self._binding.check()
        return self.put(name, value)

    def put(self, name: str, value: T) -> bool:
        """`write` on the loop's own thread, which is not checked."""
        stream = self._streams.get(name)
        if stream is None:
            return False
        for inbox in stream.inboxes.values():
            items = inbox.items
            if items and len(items) < inbox.limit:
                items.append(value)  # `put`, where its consumer was woken already.
            else:
                inbox.put(value)
        return True

    def write_deferred(
        self, name: str, size: int, make: Callable[[], Any], weight: int = MADE_WEIGHT
    ) -> bool:
        """See `WritableConsumableStream.write_deferred`."""
        stream = self._streams.get(name)
        return stream is not None and stream.write_deferred(size, make, weight)

    def write_payload(
        self, name: str, payload: bytes, decode: Callable[[bytes], Any], value: Any = NO_VALUE
    ) -> None:
        """Give every consumer of a stream the value of a payload, which it decodes when it takes
        it. One that is not far behind gets `value`, if the payload was decoded already."""
        self._binding.check()
        stream = self._streams.get(name)
        if stream is None:
            return
        for inbox in tuple(stream.inboxes.values()):  # One that is full leaves meanwhile.
            items = inbox.items
            if value is NO_VALUE or len(items) >= inbox.limit:
                inbox.put_payload(Payload(payload, decode))
            elif items:
                items.append(value)
            else:
                inbox.put(value)

    def write_tracked(self, name: str, value: T, done: Callable[[], None]) -> bool:
        """See `WritableConsumableStream.write_tracked`."""
        self._binding.check()
        stream = self._streams.get(name)
        if stream is None:
            done()
            return False
        return stream.write_tracked(value, done)

    def close(self, name: str, value: Any = None) -> None:
        """End a stream's consumers once they took their backlog."""
        if (stream := self._streams.get(name)) is not None:
            stream.close(value)

    def close_all(self, value: Any = None) -> None:
        """End all consumers once they took their backlog."""
        self._binding.check()
        for stream in list(self._streams.values()):
            stream.close(value)

    def kill(self, name: str, value: Any = None) -> None:
        """End a stream's consumers now; their backlog is dropped."""
        if (stream := self._streams.get(name)) is not None:
            stream.kill(value)

    def kill_all(self, value: Any = None) -> None:
        """End all consumers now."""
        self._binding.check()
        for stream in list(self._streams.values()):
            stream.kill(value)

    def _with(self, consumer_id: int) -> WritableConsumableStream[T] | None:
        return next((s for s in self._streams.values() if s.has_consumer(consumer_id)), None)

    def write_to_consumer(self, consumer_id: int, value: T) -> None:
        """Give a value to one consumer."""
        if (stream := self._with(consumer_id)) is not None:
            stream.write_to_consumer(consumer_id, value)

    def close_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer once it took its backlog."""
        if (stream := self._with(consumer_id)) is not None:
            stream.close_consumer(consumer_id, value)

    def kill_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer now."""
        if (stream := self._with(consumer_id)) is not None:
            stream.kill_consumer(consumer_id, value)

    def get_backpressure(self, name: str) -> int:
        """The highest backpressure of a stream's consumers."""
        stream = self._streams.get(name)
        return 0 if stream is None else stream.get_backpressure()

    def get_backpressure_all(self) -> int:
        """The highest backpressure of all consumers."""
        return max((s.get_backpressure() for s in self._streams.values()), default=0)

    def get_consumer_backpressure(self, consumer_id: int) -> int:
        """What one consumer has not yet taken."""
        stream = self._with(consumer_id)
        return 0 if stream is None else stream.get_consumer_backpressure(consumer_id)

    def has_consumer(self, name: str, consumer_id: int) -> bool:
        """Whether a stream has this consumer."""
        stream = self._streams.get(name)
        return stream is not None and stream.has_consumer(consumer_id)

    def has_consumer_all(self, consumer_id: int) -> bool:
        """Whether any stream has this consumer."""
        return self._with(consumer_id) is not None

    def get_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one consumer."""
        stream = self._with(consumer_id)
        return None if stream is None else stream.get_consumer_stats(consumer_id)

    def get_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Figures of a stream's consumers."""
        stream = self._streams.get(name)
        return [] if stream is None else stream.get_consumer_stats_list()

    def get_consumer_stats_list_all(self) -> list[ConsumerStats]:
        """Figures of all consumers."""
        return [stats for s in self._streams.values() for stats in s.get_consumer_stats_list()]

    def get_consumer_count(self, name: str) -> int:
        """How many consumers a stream has."""
        stream = self._streams.get(name)
        return 0 if stream is None else stream.get_consumer_count()

    def get_consumer_count_all(self) -> int:
        """How many consumers there are."""
        return sum(s.get_consumer_count() for s in self._streams.values())

    def create_consumer(self, name: str, timeout: Timeout = None) -> Consumer[T]:
        """A consumer of what is written to a stream from now on."""

        def attach(inbox: Inbox) -> None:
            self._binding.check()
            if self._finished:
                # Not before the loop's next turn: one who tries again and again lets others run.
                asyncio.get_running_loop().call_soon(inbox.end, None)
                return
            # The stream may have gone, and another come, since the consumer was made.
            stream = self._streams.get(name)
            if stream is None:
                stream = self._streams[name] = WritableConsumableStream(
                    name, ids=self._ids, on_empty=self._forget, binding=self._binding
                )
            inbox.on_removed = stream.detach
            stream.attach(inbox)

        inbox: Inbox
        if self._bound is None:
            inbox = Inbox(next(self._ids), timeout, lambda _: None, self._binding, self._gauge)
        else:
            inbox = BoundedInbox(next(self._ids), timeout, name, self._binding, self._bound)
        return Consumer(inbox, attach)

    def finish(self) -> None:
        """Nothing more will be written: a consumer made from now on ends at once, not never."""
        self._binding.check()
        self._finished = True

    def stream(self, name: str) -> ConsumableStream[T]:
        """A view of a stream. It costs nothing until it is consumed."""
        return DemuxedConsumableStream(self, name)

    def _forget(self, stream: WritableConsumableStream[T]) -> None:
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]

    def unstream(self, name: str) -> None:
        """Forget a stream: its consumers get nothing more."""
        self._binding.check()
        self._streams.pop(name, None)


class DemuxedConsumableStream(ConsumableStream[T]):
    """One stream of a demux."""

    __slots__ = ("_demux", "name")

    def __init__(self, demux: StreamDemux[T], name: str) -> None:
        self._demux = demux
        self.name = name

    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """See `ConsumableStream.create_consumer`."""
        return self._demux.create_consumer(self.name, timeout)
