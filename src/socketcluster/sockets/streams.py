"""The receivers and procedures of a socket: the streams of its peer's events and calls.

Source: SocketCluster documentation, AGServerSocket and AGClientSocket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from socketcluster.errors import UsageError
from socketcluster.generics import TypeForm
from socketcluster.options import check_text
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import application_place
from socketcluster.sockets.request import AGRequest
from socketcluster.sockets.typed import typed_requests, typed_values
from socketcluster.streams import ConvertedStream
from socketcluster.streams.consumable import ConsumableStream, ConsumerStats
from socketcluster.streams.demux import StreamDemux
from socketcluster.streams.inbox import Gauge

T = TypeVar("T")


class GaugeSource(Protocol):
    """The flow control of a socket, which creates the gauge of its streams on first use."""

    @property
    def gauge(self) -> Gauge: ...


class Declared(Protocol):
    """A handler that the application has declared."""

    @property
    def place(self) -> str: ...


def handled_twice(name: str, handler: str, loop: str) -> UsageError:
    """Make the error for a procedure with a handler and a loop, given the places of both."""
    return UsageError(
        f"The procedure {name!r} has a handler, {handler}, and a loop, {loop}: it may have one of "
        "the two, because a call has one answer"
    )


class PeerStreams:
    """The streams of a peer's events and calls.

    A demux is created on first use: most sockets need none, and one takes 200 bytes.

    Attributes:
        receivers: the events by name; None before the first receiver.
        procedures: the calls by name; None before the first procedure.
        on_use: called when a stream is about to be used, if set.
    """

    __slots__ = ("_binding", "_gauges", "_handlers", "on_use", "procedures", "receivers")

    def __init__(
        self, gauges: GaugeSource, binding: LoopBinding, handlers: Mapping[str, Declared]
    ) -> None:
        """Make the streams; `handlers` are those of procedures, by name."""
        self._handlers = handlers
        self._gauges = gauges
        self._binding = binding
        self.receivers: StreamDemux[Any] | None = None
        self.procedures: StreamDemux[Any] | None = None
        self.on_use: Callable[[], None] | None = None

    @property
    def gauge(self) -> Gauge:
        """The gauge of the messages that wait for loops and handlers."""
        return self._gauges.gauge

    @property
    def receiver_demux(self) -> StreamDemux[Any]:
        """The demux of the receivers, created on first use."""
        self.used()
        if self.receivers is None:
            self.receivers = self.make_demux()
        return self.receivers

    @property
    def procedure_demux(self) -> StreamDemux[Any]:
        """The demux of the procedures, created on first use."""
        self.used()
        if self.procedures is None:
            self.procedures = self.make_demux()
        return self.procedures

    def check_unhandled(self, name: str) -> None:
        """Check that a loop may answer the calls of a procedure.

        Raises:
            UsageError: the procedure has a handler.
        """
        if name in self._handlers:
            raise handled_twice(name, self._handlers[name].place, application_place())

    def make_demux(self) -> StreamDemux[Any]:
        """Create a demux whose backlogs count for the socket's flow control."""
        return StreamDemux(self._gauges.gauge, self._binding)

    def used(self) -> None:
        """Call `on_use`, if it is set."""
        if self.on_use is not None:
            self.on_use()

    def has_receiver(self, name: str) -> bool:
        """Return whether an event has a consumer."""
        return self.receivers is not None and self.receivers.get_consumer_count(name) > 0

    def has_procedure(self, name: str) -> bool:
        """Return whether a procedure has a consumer."""
        return self.procedures is not None and self.procedures.get_consumer_count(name) > 0

    def put_event(self, name: str, data: Any) -> bool:
        """Write an event to its consumers; return whether there is any."""
        return self.receivers is not None and self.receivers.put(name, data)

    def put_call(self, name: str, request: Any) -> bool:
        """Write a request to its procedure's consumers; return whether there is any."""
        return self.procedures is not None and self.procedures.put(name, request)


class ReceiverMixin:
    """Streams of the peer's events by name."""

    __slots__ = ()

    streams: PeerStreams

    @overload
    def receiver(self, name: str) -> ConsumableStream[Any]: ...
    @overload
    def receiver(self, name: str, data_type: type[T]) -> ConsumableStream[T]: ...
    @overload
    def receiver(self, name: str, data_type: TypeForm[T]) -> ConsumableStream[T]: ...
    def receiver(self, name: str, data_type: Any = Any) -> ConsumableStream[Any]:
        """The stream of the peer's events of this name.

        With a type the loop gets data of that type; other data is skipped, with an 'error' of the
        socket.

        Raises:
            InvalidArgumentsError: the name is no text, or data of the type cannot be checked.
        """
        check_text("A receiver's name", name)
        demux = self.streams.receiver_demux
        if data_type is Any:
            return demux.stream(name)
        what = f"The data of a {name!r} event"
        return ConvertedStream(demux, name, typed_values(data_type, what, self._invalid_data))

    def _invalid_data(self, error: Exception) -> None:
        """Report an event of the peer whose data is not of its type."""
        raise NotImplementedError

    def close_receiver(self, name: str) -> None:
        """End the loops over a receiver after their backlogs."""
        self.streams.receiver_demux.close(name)

    def close_all_receivers(self) -> None:
        """End the loops over all receivers after their backlogs."""
        self.streams.receiver_demux.close_all()

    def kill_receiver(self, name: str) -> None:
        """End the loops over a receiver now, and drop their backlogs."""
        self.streams.receiver_demux.kill(name)

    def kill_all_receivers(self) -> None:
        """End the loops over all receivers now, and drop their backlogs."""
        self.streams.receiver_demux.kill_all()

    def kill_receiver_consumer(self, consumer_id: int) -> None:
        """End one loop now, and drop its backlog."""
        self.streams.receiver_demux.kill_consumer(consumer_id)

    def get_receiver_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return the figures of one consumer; None if there is no such consumer."""
        return self.streams.receiver_demux.get_consumer_stats(consumer_id)

    def get_receiver_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Return the figures of a receiver's consumers."""
        return self.streams.receiver_demux.get_consumer_stats_list(name)

    def get_all_receivers_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return the figures of all receivers' consumers."""
        return self.streams.receiver_demux.get_consumer_stats_list_all()

    def get_receiver_backpressure(self, name: str) -> int:
        """Return the highest backpressure of a receiver's consumers."""
        return self.streams.receiver_demux.get_backpressure(name)

    def get_all_receivers_backpressure(self) -> int:
        """Return the highest backpressure of all receivers' consumers."""
        return self.streams.receiver_demux.get_backpressure_all()

    def get_receiver_consumer_backpressure(self, consumer_id: int) -> int:
        """Return how many values one consumer has not taken yet."""
        return self.streams.receiver_demux.get_consumer_backpressure(consumer_id)

    def has_receiver_consumer(self, name: str, consumer_id: int) -> bool:
        """Return whether a receiver has this consumer."""
        return self.streams.receiver_demux.has_consumer(name, consumer_id)

    def has_any_receiver_consumer(self, consumer_id: int) -> bool:
        """Return whether any receiver has this consumer."""
        return self.streams.receiver_demux.has_consumer_all(consumer_id)


class ProcedureMixin:
    """Streams of the peer's calls by name."""

    __slots__ = ()

    streams: PeerStreams

    @overload
    def procedure(self, name: str) -> ConsumableStream[AGRequest[Any]]: ...
    @overload
    def procedure(self, name: str, data_type: type[T]) -> ConsumableStream[AGRequest[T]]: ...
    @overload
    def procedure(self, name: str, data_type: TypeForm[T]) -> ConsumableStream[AGRequest[T]]: ...
    def procedure(self, name: str, data_type: Any = Any) -> ConsumableStream[AGRequest[Any]]:
        """The stream of the peer's calls of this name.

        With a type the loop gets requests whose data is of that type; a call with other data is
        answered with `InvalidDataError`, and skipped.

        Raises:
            InvalidArgumentsError: the name is no text, or data of the type cannot be checked.
            UsageError: the procedure has a handler.
        """
        check_text("A procedure's name", name)
        self.streams.check_unhandled(name)
        demux = self.streams.procedure_demux
        if data_type is Any:
            return demux.stream(name)
        return typed_requests(demux, name, data_type)

    def close_procedure(self, name: str) -> None:
        """End the loops over a procedure after their backlogs."""
        self.streams.procedure_demux.close(name)

    def close_all_procedures(self) -> None:
        """End the loops over all procedures after their backlogs."""
        self.streams.procedure_demux.close_all()

    def kill_procedure(self, name: str) -> None:
        """End the loops over a procedure now, and drop their backlogs."""
        self.streams.procedure_demux.kill(name)

    def kill_all_procedures(self) -> None:
        """End the loops over all procedures now, and drop their backlogs."""
        self.streams.procedure_demux.kill_all()

    def kill_procedure_consumer(self, consumer_id: int) -> None:
        """End one loop now, and drop its backlog."""
        self.streams.procedure_demux.kill_consumer(consumer_id)

    def get_procedure_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return the figures of one consumer; None if there is no such consumer."""
        return self.streams.procedure_demux.get_consumer_stats(consumer_id)

    def get_procedure_consumer_stats_list(self, name: str) -> list[ConsumerStats]:
        """Return the figures of a procedure's consumers."""
        return self.streams.procedure_demux.get_consumer_stats_list(name)

    def get_all_procedures_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return the figures of all procedures' consumers."""
        return self.streams.procedure_demux.get_consumer_stats_list_all()

    def get_procedure_backpressure(self, name: str) -> int:
        """Return the highest backpressure of a procedure's consumers."""
        return self.streams.procedure_demux.get_backpressure(name)

    def get_all_procedures_backpressure(self) -> int:
        """Return the highest backpressure of all procedures' consumers."""
        return self.streams.procedure_demux.get_backpressure_all()

    def get_procedure_consumer_backpressure(self, consumer_id: int) -> int:
        """Return how many values one consumer has not taken yet."""
        return self.streams.procedure_demux.get_consumer_backpressure(consumer_id)

    def has_procedure_consumer(self, name: str, consumer_id: int) -> bool:
        """Return whether a procedure has this consumer."""
        return self.streams.procedure_demux.has_consumer(name, consumer_id)

    def has_any_procedure_consumer(self, consumer_id: int) -> bool:
        """Return whether any procedure has this consumer."""
        return self.streams.procedure_demux.has_consumer_all(consumer_id)
