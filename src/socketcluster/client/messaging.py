"""How a client talks to its server: events, calls, raw messages, batches.

Source: SocketCluster documentation, AGClientSocket; SocketCluster protocol 2.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socketcluster.client.flow_control import Reading
from socketcluster.client.outbox import Outbox
from socketcluster.client.writer import ClientWriter
from socketcluster.errors import TimeoutError
from socketcluster.protocol.calls import OnAnswer
from socketcluster.protocol.state import CLOSED, OPEN
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.messaging import CodecMixin, event_packet, not_open

if TYPE_CHECKING:
    from socketcluster.client.connection import Link
    from socketcluster.client.options import ClientOptions


class ClientMessagingMixin(CodecMixin):
    """Sending."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    state: str
    options: ClientOptions
    calls: PendingCalls
    outbox: Outbox
    reading: Reading
    loop_binding: LoopBinding

    @property
    def link(self) -> Link | None: ...

    def connect(self) -> None: ...

    def emit_error(self, error: BaseException) -> None: ...

    def transmit(self, event: str, data: Any = None) -> None:
        """Send an event. On a closed socket it connects first; what waits for a connection is
        sent in order, and given up with an 'error' event after `ack_timeout`.

        Raises:
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
        """
        self.loop_binding.check()
        packet = event_packet(event, data)
        writer = self._connected()
        if writer is not None:
            writer.send(packet)
            return

        # It waits under a number of its own, as a call would.
        def given_up(error: BaseException | None, _: Any) -> None:
            self.outbox.discard(number)
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"The {event} event was not sent within ack_timeout")
            assert error is not None
            self.emit_error(error)

        number = self.calls.open(
            event,
            self.options.ack_timeout,
            given_up,
            lambda number: self.outbox.add(number, packet),
        )

    async def invoke(
        self, event: str, data: Any = None, *, ack_timeout: float | timedelta | None = None
    ) -> Any:
        """Call a procedure of the server and wait for its answer.

        On a closed socket it connects first. `ack_timeout` in milliseconds or as a timedelta,
        else the option of that name, counts from now on. Cancelling gives up the waiting; an
        answer that comes later is ignored.

        Raises:
            TimeoutError: no answer came in time.
            BadConnectionError: the connection was lost after the call was sent, or could not be
                made and is not tried again.
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
            SocketClusterError: the error that the server answered with.
        """
        self.loop_binding.check()
        timeout = self.options.milliseconds("ack_timeout") if ack_timeout is None else ack_timeout
        packet = event_packet(event, data)
        number = 0

        def send(cid: int) -> None:
            nonlocal number
            number = cid
            self._send_call(cid, packet)

        try:
            return await self.calls.call(event, timeout, send)
        finally:
            self.outbox.discard(number)

    def open_call(self, event: str, data: Any, on_answer: OnAnswer) -> int:
        """Call a procedure of the protocol's own on an open connection, without a time limit."""
        packet = event_packet(event, data)
        return self.calls.open(event, None, on_answer, lambda cid: self._send_call(cid, packet))

    def _send_call(self, cid: int, packet: dict[str, Any]) -> None:
        packet["cid"] = cid
        writer = self._connected()
        if writer is None:
            self.outbox.add(cid, packet)
        else:
            writer.send(packet)
            self.reading.update()

    def _connected(self) -> ClientWriter | None:
        """What writes to the connection that is open; without one it connects."""
        if self.state == CLOSED:
            self.connect()
        return self.link.writer if self.state == OPEN and self.link is not None else None

    def send_waiting(self) -> None:
        """Send what waited for the connection that is open now."""
        assert self.link is not None
        assert self.link.writer is not None
        for number, packet, is_call in self.outbox.take_all():
            if number in self.calls:
                self.link.writer.send_accepted(packet)
            if not is_call:
                self.calls.forget(number)

    def send(self, data: str | bytes) -> None:
        """Send a raw message, text or binary. Without a connection it only emits an 'error'.

        Raises:
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
        """
        self.loop_binding.check()
        if self.link is None or self.link.writer is None or self.state != OPEN:
            self.emit_error(not_open())
            return
        self.link.writer.send_message(data)

    def get_bytes_received(self) -> int:
        """Payload bytes received over the present connection."""
        return 0 if self.link is None else self.link.get_bytes_received()

    def get_outbound_buffer_size(self) -> int:
        """Bytes waiting to be sent over the present connection, the transport's included."""
        writer = None if self.link is None else self.link.writer
        return 0 if writer is None else writer.get_buffer_size()
