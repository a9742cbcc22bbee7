"""StreamDemux: named streams. Source: npm stream-demux."""

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
    """Named streams: `demux.write(name, value)`, `async for value in demux.stream(name)`.

    A name takes memory only while it has a consumer. Each consumer has a number that is unique in
    the demux. A demux is used from one loop, as a `WritableConsumableStream` is.
    """

    __slots__ = ("_binding", "_bound", "_finished", "_gauge", "_ids", "_streams")

    def __init__(
        self,
        gauge: Gauge | None = None,
        binding: LoopBinding | None = None,
        bound: Bound | None = None,
    ) -> None:
        """Create a demux. The arguments are for one that is part of a server or a client.

        A `gauge` watches the backpressure of the consumers, a `bound` limits that of each, and
        `binding` is that of the owner.
        """
        self._bound = bound
        self._binding = own_binding() if binding is None else binding
        self._gauge = gauge
        self._finished = False
        self._ids = itertools.count(1)
        self._streams: dict[str, WritableConsumableStream[T]] = {}

    def write(self, name: str, value: T) -> bool:
        """Write a value to every consumer of a stream; return whether there is any."""
        self._binding.check()
        return self.put(name, value)

    def put(self, name: str, value: T) -> bool:
        """Write without a check of the thread, for callers on the loop."""
        stream = self._streams.get(name)
        if stream is None:
            return False
        for inbox in stream.inboxes.values():
            items = inbox.items
            if items and len(items) < inbox.limit:
                items.append(value)  # `put` for a consumer that was woken: it saves a quarter.
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
        """Write a payload to every consumer of a stream; each decodes it when it takes it.

        If the payload was decoded already, a consumer with a short backlog gets `value`.
        """
        self._binding.check()
        stream = self._streams.get(name)
        if stream is None:
            return
        for inbox in tuple(stream.inboxes.values()):  # A full one leaves meanwhile.
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
        """End a stream's consumers after their backlogs; `value` goes with the end."""
        if (stream := self._streams.get(name)) is not None:
            stream.close(value)

    def close_all(self, value: Any = None) -> None:
        """End all consumers after their backlogs."""
        self._binding.check()
        for stream in list(self._streams.values()):
            stream.close(value)

    def kill(self, name: str, value: Any = None) -> None:
        """End a stream's consumers now, and drop their backlogs."""
        if (stream := self._streams.get(name)) is not None:
            stream.kill(value)

    def kill_all(self, value: Any = None) -> None:
        """End all consumers now, and drop their backlogs."""
        self._binding.check()
        for stream in list(self._streams.values()):
            stream.kill(value)

    def _stream_of(self, consumer_id: int) -> WritableConsumableStream[T] | None:
        return next((s for s in self._streams.values() if s.has_consumer(consumer_id)), None)

    def write_to_consumer(self, consumer_id: int, value: T) -> None:
        """Write a value to one consumer."""
        if (stream := self._stream_of(consumer_id)) is not None:
            stream.write_to_consumer(consumer_id, value)

    def close_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer after its backlog."""
        if (stream := self._stream_of(consumer_id)) is not None:
            stream.close_consumer(consumer_id, value)

    def kill_consumer(self, consumer_id: int, value: Any = None) -> None:
        """End one consumer now, and drop its backlog."""
        if (stream := self._stream_of(consumer_id)) is not None:
            stream.kill_consumer(consumer_id, value)

    def get_backpressure(self, name: str) -> int:
        """Return the highest backpressure of a stream's consumers."""
        stream = self._streams.get(name)
        return 0 if stream is None else stream.get_backpressure()

    def get_backpressure_all(self) -> int:
        """Return the highest backpressure of all consumers."""
        return max((s.get_backpressure() for s in self._streams.values()), default=0)

    def get_consumer_backpressure(self, consumer_id: int) -> int:
        """Return how many values one consumer has not taken yet."""
        stream = self._stream_of(consumer_id)
        return 0 if stream is None else stream.get_consumer_backpressure(consumer_id)

    def has_consumer(self, name: str, consumer_id: int) -> bool:
        """Return whether a stream has this consumer."""
        stream = self._streams.get(name)
        return stream is not None and stream.has_consumer(consumer_id)

    def has_consumer_all(self, consumer_id: int) -> bool:
        """Return whether any stream has this consumer."""
        return self._stream_of(consumer_id) is not None

    def get_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return the figures of one consumer; None if there is no such consumer."""
        stream = self._stream_of(consumer_id)
        return None if stream is None else stream.get_consumer_stats(consumer_id)

    def get_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Return the figures of a stream's consumers."""
        stream = self._streams.get(name)
        return [] if stream is None else stream.get_consumer_stats_list()

    def get_consumer_stats_list_all(self) -> list[ConsumerStats]:
        """Return the figures of all consumers."""
        return [stats for s in self._streams.values() for stats in s.get_consumer_stats_list()]

    def get_consumer_count(self, name: str) -> int:
        """Return how many consumers a stream has."""
        stream = self._streams.get(name)
        return 0 if stream is None else stream.get_consumer_count()

    def get_consumer_count_all(self) -> int:
        """Return how many consumers all streams have."""
        return sum(s.get_consumer_count() for s in self._streams.values())

    def create_consumer(
        self,
        name: str,
        timeout: Timeout = None,
        make: Callable[[Inbox, Callable[[Inbox], None]], Consumer[T]] = Consumer,
    ) -> Consumer[T]:
        """Create a consumer, which receives every value written to a stream from now on.

        `make` creates one of another class.
        """

        def attach(inbox: Inbox) -> None:
            self._binding.check()
            if self._finished:
                # In the loop's next turn, so that a caller that retries forever lets others run.
                asyncio.get_running_loop().call_soon(inbox.end, None)
                return
            # The stream may have been replaced since the consumer was created.
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
        return make(inbox, attach)

    def finish(self) -> None:
        """End every consumer that is created from now on: nothing more will be written."""
        self._binding.check()
        self._finished = True

    def stream(self, name: str) -> ConsumableStream[T]:
        """The stream of a name. It takes no memory until it has a consumer."""
        return DemuxedConsumableStream(self, name)

    def _forget(self, stream: WritableConsumableStream[T]) -> None:
        if self._streams.get(stream.name) is stream:
            del self._streams[stream.name]

    def unstream(self, name: str) -> None:
        """Drop a stream: its consumers receive nothing more."""
        self._binding.check()
        self._streams.pop(name, None)

    def __repr__(self) -> str:
        consumers = self.get_consumer_count_all()
        return f"<{type(self).__name__} streams={len(self._streams)} consumers={consumers}>"


class DemuxedConsumableStream(ConsumableStream[T]):
    """One stream of a demux, by its name."""

    __slots__ = ("_demux", "name")

    def __init__(self, demux: StreamDemux[T], name: str) -> None:
        self._demux = demux
        self.name: str = name

    def create_consumer(self, timeout: Timeout = None) -> Consumer[T]:
        """See `ConsumableStream.create_consumer`."""
        return self._demux.create_consumer(self.name, timeout)

    def __repr__(self) -> str:
        consumers = self._demux.get_consumer_count(self.name)
        return f"<{type(self).__name__} {self.name!r} consumers={consumers}>"
