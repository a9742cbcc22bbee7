"""Messaging of a client: events, calls and raw messages to its server.

Source: SocketCluster documentation, AGClientSocket; SocketCluster protocol 2.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from socketcluster.client.flow_control import FlowControl
from socketcluster.client.outbox import Outbox
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.client.writer import ClientWriter
from socketcluster.errors import TimeoutError
from socketcluster.generics import TypeForm
from socketcluster.handlers.data_type import DataType
from socketcluster.literals import SocketState
from socketcluster.protocol.calls import OnAnswer
from socketcluster.protocol.state import CLOSED, StateMachine
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.messaging import CodecMixin, event_packet, not_open

T = TypeVar("T")


class ClientMessaging:
    """Sends packets over the open connection; without one it keeps them in the outbox.

    Attributes:
        calls: the calls not answered yet. A packet in the outbox has a number of these too, so that
            it is given up in time.
        writer: writes to the open connection; None without one.
    """

    __slots__ = (
        "_binding",
        "_connect",
        "_events",
        "_flow_control",
        "_machine",
        "_settings",
        "calls",
        "outbox",
        "writer",
    )

    def __init__(
        self,
        settings: Settings,
        binding: LoopBinding,
        machine: StateMachine[SocketState],
        calls: PendingCalls,
        flow_control: FlowControl,
        events: Events,
        connect: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._binding = binding
        self._machine = machine
        self._flow_control = flow_control
        self._events = events
        self._connect = connect
        self.calls: PendingCalls = calls
        self.outbox: Outbox = Outbox(settings)
        self.writer: ClientWriter | None = None

    def transmit(self, event: str, data: Any) -> None:
        """See `MessagingMixin.transmit`."""
        self._binding.check()
        packet = self._packet(event, data)
        writer = self._open_writer()
        if writer is not None:
            writer.send(packet)
            return

        def give_up(error: BaseException | None, _: Any) -> None:
            self.outbox.discard(number)
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"The {event} event was not sent within ack_timeout")
            assert error is not None
            self._events.emit_error(error)

        number = self.calls.open(
            event,
            self._settings.options.ack_timeout,
            give_up,
            lambda number: self.outbox.add(number, packet),
        )

    async def invoke(
        self, event: str, data: Any, ack_timeout: float | timedelta | None = None
    ) -> Any:
        """See `MessagingMixin.invoke`."""
        self._binding.check()
        if ack_timeout is None:
            ack_timeout = self._settings.options.ack_timeout
        packet = self._packet(event, data)
        number = 0

        def send(cid: int) -> None:
            nonlocal number
            number = cid
            self._send_call(cid, packet)

        try:
            return await self.calls.call(event, ack_timeout, send)
        finally:
            self.outbox.discard(number)

    def open_call(self, event: str, data: Any, on_answer: OnAnswer) -> int:
        """Call a procedure without a time limit, and return the call's number.

        `on_answer(error, result)` is called once, unless the call is forgotten before.
        """
        packet = self._packet(event, data)
        return self.calls.open(event, None, on_answer, lambda cid: self._send_call(cid, packet))

    def _packet(self, event: str, data: Any) -> dict[str, Any]:
        return event_packet(event, data)

    def _send_call(self, cid: int, packet: dict[str, Any]) -> None:
        packet["cid"] = cid
        writer = self._open_writer()
        if writer is None:
            self.outbox.add(cid, packet)
        else:
            writer.send(packet)
            self._flow_control.update()

    def _open_writer(self) -> ClientWriter | None:
        if self._machine.state == CLOSED:
            self._connect()
        return self.writer

    def send(self, data: str | bytes) -> None:
        """See `MessagingMixin.send`."""
        self._binding.check()
        if self.writer is None:
            self._events.emit_error(not_open())
        else:
            self.writer.send_message(data)

    # As connections open and close

    def connected(self, writer: ClientWriter) -> None:
        """Send over an open connection from now on."""
        self.writer = writer

    def send_waiting(self) -> None:
        """Send the packets of the outbox over the open connection."""
        assert self.writer is not None
        for number, packet, is_call in self.outbox.take_all():
            if number in self.calls:
                self.writer.send_accepted(packet)
            if not is_call:
                self.calls.forget(number)

    def disconnected(self) -> None:
        """Stop sending over the connection."""
        self.writer = None

    def abort(self, failure: str, code: int, reason: str | None, *, keep_waiting: bool) -> None:
        """Give up the calls that await an answer, and the packets in the outbox.

        With `keep_waiting` the outbox is kept: the next connection can still send it.
        """
        if keep_waiting:
            self.calls.abort(failure, code, reason, self.outbox)
        else:
            self.calls.abort(failure, code, reason)
            self.outbox.clear()


class MessagingMixin(CodecMixin):
    """Events, calls and raw messages."""

    __slots__ = ()

    _messaging: ClientMessaging

    def transmit(self, event: str, data: Any = None) -> None:
        """Send an event.

        On a closed socket it connects first. An event that waits for a connection is sent in order;
        after `ack_timeout` it is given up with an 'error' event.

        Raises:
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
        """
        self._messaging.transmit(event, data)

    @overload
    async def invoke(
        self, event: str, data: Any = None, *, ack_timeout: float | timedelta | None = None
    ) -> Any: ...
    @overload
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        returns: type[T],
        ack_timeout: float | timedelta | None = None,
    ) -> T: ...
    @overload
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        returns: TypeForm[T],
        ack_timeout: float | timedelta | None = None,
    ) -> T: ...
    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        ack_timeout: float | timedelta | None = None,
        returns: Any = Any,
    ) -> Any:
        """Call a procedure of the server and wait for its answer.

        On a closed socket it connects first. `ack_timeout` is in milliseconds or a timedelta,
        defaults to the option of that name, and counts from now on. Cancelling gives up the
        waiting; a later answer is ignored. `returns` is the type of the answer, which is checked.

        Raises:
            TimeoutError: no answer arrived in time.
            BadConnectionError: the connection was lost after the call was sent, or could not be
                made and is not tried again.
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
            InvalidDataError: the answer is not of the type `returns`.
            SocketClusterError: the error that the server answered with.
        """
        if returns is Any:
            return await self._messaging.invoke(event, data, ack_timeout)
        answer_type = DataType.of(returns)
        return answer_type.from_value(await self._messaging.invoke(event, data, ack_timeout))

    def send(self, data: str | bytes) -> None:
        """Send a raw message, text or binary. Without a connection it only emits an 'error'.

        Raises:
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
        """
        self._messaging.send(data)
