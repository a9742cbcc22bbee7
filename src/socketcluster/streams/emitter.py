"""AsyncStreamEmitter: named events as streams. Source: npm async-stream-emitter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.options import check_text
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.streams.consumable import ConsumableStream, Consumer, ConsumerStats
from socketcluster.streams.demux import StreamDemux
from socketcluster.streams.inbox import Timeout, own_binding


class AsyncStreamEmitter:
    """Event emitter: `emitter.emit(name, event)`, `async for event in emitter.listener(name)`.

    The server, a socket, a client and the exchange are emitters. An emitter is used from one loop,
    as a `WritableConsumableStream` is.

    Attributes:
        loop_binding: the binding to that loop, its own or that of its owner.
    """

    __slots__ = ("__weakref__", "_listeners_demux", "loop_binding")

    def __init__(self, loop_binding: LoopBinding | None = None) -> None:
        self.loop_binding: LoopBinding = own_binding() if loop_binding is None else loop_binding
        # Created with the first listener: most sockets have none.
        self._listeners_demux: StreamDemux[Any] | None = None

    def _listener_demux(self) -> StreamDemux[Any]:
        if self._listeners_demux is None:
            self._listeners_demux = StreamDemux(binding=self.loop_binding)
        return self._listeners_demux

    def emit(self, event: str, data: Any = None) -> None:
        """Emit an event to all its listeners."""
        if self._listeners_demux is None:
            self.loop_binding.check()
        else:
            self._listeners_demux.write(event, data)

    def emit_tracked(self, event: str, data: Any, done: Callable[[], None]) -> None:
        """Emit an event, and call `done()` when every consumer has processed the event.

        That is when it asks for the next one, or is removed; at once if there is none.
        """
        if self._listeners_demux is None:
            self.loop_binding.check()
            done()
        else:
            self._listeners_demux.write_tracked(event, data, done)

    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event, which may have any name.

        Raises:
            InvalidArgumentsError: the name is no text.
        """
        check_text("An event's name", event)
        return _Listener(self, event)

    def create_listener_consumer(self, event: str, timeout: Timeout = None) -> Consumer[Any]:
        """Create a consumer, which receives every event of this name from now on."""
        return self._listener_demux().create_consumer(event, timeout)

    def close_listener(self, event: str) -> None:
        """End the loops over an event after their backlogs."""
        self._listener_demux().close(event)

    def close_all_listeners(self) -> None:
        """End the loops over all events after their backlogs."""
        self._listener_demux().close_all()

    def kill_listener(self, event: str) -> None:
        """End the loops over an event now, and drop their backlogs."""
        self._listener_demux().kill(event)

    def kill_all_listeners(self) -> None:
        """End the loops over all events now, and drop their backlogs."""
        self._listener_demux().kill_all()

    def kill_listener_consumer(self, consumer_id: int) -> None:
        """End one loop now, and drop its backlog."""
        self._listener_demux().kill_consumer(consumer_id)

    def remove_listener(self, event: str) -> None:
        """Drop an event's stream: its consumers receive nothing more."""
        self._listener_demux().unstream(event)

    def get_listener_backpressure(self, event: str) -> int:
        """Return the highest backpressure of an event's consumers."""
        return self._listener_demux().get_backpressure(event)

    def get_all_listeners_backpressure(self) -> int:
        """Return the highest backpressure of all events' consumers."""
        return self._listener_demux().get_backpressure_all()

    def get_listener_consumer_backpressure(self, consumer_id: int) -> int:
        """Return how many events one consumer has not taken yet."""
        return self._listener_demux().get_consumer_backpressure(consumer_id)

    def has_listener_consumer(self, event: str, consumer_id: int) -> bool:
        """Return whether an event has this consumer."""
        return self._listener_demux().has_consumer(event, consumer_id)

    def has_any_listener_consumer(self, consumer_id: int) -> bool:
        """Return whether any event has this consumer."""
        return self._listener_demux().has_consumer_all(consumer_id)

    def get_listener_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return the figures of one consumer; None if there is no such consumer."""
        return self._listener_demux().get_consumer_stats(consumer_id)

    def get_listener_consumer_stats_list(self, event: str) -> list[ConsumerStats]:
        """Return the figures of an event's consumers."""
        return self._listener_demux().get_consumer_stats_list(event)

    def get_all_listeners_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return the figures of all events' consumers."""
        return self._listener_demux().get_consumer_stats_list_all()

    def get_listener_consumer_count(self, event: str) -> int:
        """Return how many consumers an event has."""
        demux = self._listeners_demux
        return 0 if demux is None else demux.get_consumer_count(event)

    def has_listener(self, event: str) -> bool:
        """Return whether anything receives an event."""
        return self.get_listener_consumer_count(event) > 0

    def get_all_listeners_consumer_count(self) -> int:
        """Return how many consumers all events have."""
        return self._listener_demux().get_consumer_count_all()

    def __repr__(self) -> str:
        demux = self._listeners_demux
        count = 0 if demux is None else demux.get_consumer_count_all()
        return f"<{type(self).__name__} listeners={count}>"


class _Listener(ConsumableStream[Any]):
    """The stream of one event of an emitter."""

    __slots__ = ("_emitter", "name")

    def __init__(self, emitter: AsyncStreamEmitter, name: str) -> None:
        self._emitter = emitter
        self.name = name

    def create_consumer(self, timeout: Timeout = None) -> Consumer[Any]:
        """See `ConsumableStream.create_consumer`."""
        return self._emitter.create_listener_consumer(self.name, timeout)

    def __repr__(self) -> str:
        consumers = self._emitter.get_listener_consumer_count(self.name)
        return f"<listener of {self.name!r} consumers={consumers}>"
