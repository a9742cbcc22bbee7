"""Messaging: events, calls, answers and raw messages to the client."""

from __future__ import annotations

from datetime import timedelta
from threading import get_ident
from typing import Any, Protocol, TypeVar, overload

from socketcluster.errors import (
    BadConnectionError,
    ResourceLimitError,
    dehydrate_error,
    internal_error,
)
from socketcluster.generics import TypeForm
from socketcluster.handlers.data_type import DataType
from socketcluster.options import check_text
from socketcluster.protocol.packets import Packet, answer_of
from socketcluster.protocol.state import CLOSED, OPEN
from socketcluster.protocol.wire import Wire
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.outbound import Outbound
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.messaging import not_open
from socketcluster.sockets.request import report_dropped, report_failed

T = TypeVar("T")


class MessagingOwner(Protocol):
    """Messaging's view of its socket."""

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error' on the socket and 'warning' on the server."""


class MessagingContext(Protocol):
    """Messaging's view of its server."""

    @property
    def wire(self) -> Wire: ...
    @property
    def reporter(self) -> Reporter: ...
    @property
    def loop_binding(self) -> LoopBinding: ...
    @property
    def ack_timeout(self) -> float: ...
    def count_failed(self, procedure: str) -> None:
        """Count a call that was answered with an error."""


class Messaging:
    """Sends a socket's packets, and is the `Responder` of its requests.

    Attributes:
        calls: this side's calls that await an answer; None before the first.
        unanswered: the client's unanswered calls: from a call's cid to the procedure's name. Only
            its handler holds the request itself.
    """

    __slots__ = (
        "_context",
        "_life",
        "_loop_binding",
        "_outbound",
        "_socket",
        "calls",
        "unanswered",
    )

    def __init__(
        self, socket: MessagingOwner, life: Life, outbound: Outbound, context: MessagingContext
    ) -> None:
        self._socket = socket
        self._life = life
        self._outbound = outbound
        self._context = context
        self._loop_binding = context.loop_binding
        self.calls: PendingCalls | None = None
        self.unanswered: dict[int | float, str] = {}

    def transmit(self, event: str, data: Any) -> None:
        """See `AGServerSocket.transmit`."""
        self._loop_binding.check()
        if type(event) is not str:  # Not calling `check_text` saves 8 % of a transmit.
            check_text("An event's name", event)
        if self._life.state != OPEN:
            self._socket.emit_error(_aborted("transmit", event))
            return
        self.transmit_in_any_state(event, data)

    def transmit_in_any_state(self, event: str, data: Any = None) -> None:
        """Send an event, during the handshake too; a closed socket ignores it."""
        packet = {"event": event} if data is None else {"event": event, "data": data}
        self._outbound.send_counted(packet)

    async def invoke(self, event: str, data: Any, ack_timeout: float | timedelta | None) -> Any:
        """See `AGServerSocket.invoke`."""
        self._loop_binding.check()
        check_text("A procedure's name", event)
        if self._life.state != OPEN:
            error = _aborted("invoke", event)
            self._socket.emit_error(error)
            raise error
        if self.calls is None:
            self.calls = PendingCalls()
        timeout = self._context.ack_timeout if ack_timeout is None else ack_timeout
        return await self.calls.call(
            event, timeout, lambda cid: self._send_call({"event": event, "cid": cid}, data)
        )

    def _send_call(self, packet: dict[str, Any], data: Any) -> None:
        if data is not None:
            packet["data"] = data
        self._outbound.send_counted(packet)

    def send(self, data: str | bytes) -> None:
        """See `AGServerSocket.send`."""
        self._loop_binding.check()
        if self._life.state == CLOSED:
            self._socket.emit_error(not_open())
            return
        self._outbound.send_message(data)

    # Answers to the client

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """See `Responder.respond`."""
        # The first half of `check`, which would cost 0.6 % of a call, 1.1 % of a pipelined one.
        if get_ident() != self._loop_binding.thread_id:
            self._loop_binding.check()
        if self._life.state == CLOSED:
            self._socket.emit_error(not_open())
            return
        if error is not None:
            self._context.count_failed(self.unanswered.get(rid, "#"))
            self.respond_error(rid, error)
        elif data is None:
            self.respond_ok(rid)
        else:
            self._outbound.answer(rid, data)
        self.unanswered.pop(rid, None)

    def answer(self, rid: int | float, data: Any) -> None:
        """Answer a call that a handler has carried out; a closed socket drops the answer.

        Raises:
            EncodeError: the codec cannot encode `data`.
            ResourceLimitError: the answer is larger than `max_outbound_buffer`.
        """
        if self._life.phase != OPEN:
            return
        if data is None:
            self.respond_ok(rid)
        else:
            self._outbound.answer(rid, data)
        self.unanswered.pop(rid, None)

    def answer_error(self, rid: int | float, error: BaseException) -> None:
        """Answer a call with the error of its handler; a closed socket drops the answer."""
        if self._life.state != CLOSED:
            self.respond_error(rid, error)
            self.unanswered.pop(rid, None)

    def respond_ok(self, rid: int | float) -> None:
        """Answer one of the protocol's own calls without data."""
        self._outbound.send({"rid": rid})

    def respond_error(self, rid: int | float, error: BaseException | str) -> None:
        """Answer one of the protocol's own calls with an error.

        Of an error that is larger than `max_outbound_buffer` the caller learns nothing more.
        """
        try:
            self._outbound.send({"rid": rid, "error": dehydrate_error(error)})
        except ResourceLimitError as large:
            self._socket.emit_error(large)
            self._outbound.send({"rid": rid, "error": dehydrate_error(internal_error())})

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        """Answer a request that was garbage-collected without a response, and log the mistake."""
        self._loop_binding.finalize(self._answer_dropped, rid, procedure)

    def _answer_dropped(self, rid: int | float, procedure: str) -> None:
        if self._life.state == OPEN:
            report_dropped(self._context.reporter, procedure, self._socket)
            self.respond(rid, None, internal_error())

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """See `Responder.request_failed`."""
        report_failed(self._context.reporter, procedure, error, self._socket)

    # Answers of the client

    def take_answer(self, packet: Packet) -> None:
        """Resolve this side's call that a packet answers."""
        if self.calls and packet.rid is not None and packet.rid in self.calls:
            self.calls.answer(packet.rid, *answer_of(packet))

    def abort_calls(self, code: int, reason: str | None) -> None:
        """Fail this side's calls, because the connection is lost."""
        if self.calls is not None:
            failure = "disconnect" if self._life.was_opened else "connectAbort"
            self.calls.abort(failure, code, reason)

    @property
    def busy(self) -> bool:
        """Whether a call awaits its answer, in either direction."""
        return bool(self.unanswered) or bool(self.calls)

    # The codec

    def encode(self, object: Any) -> str | bytes:
        """See `AGServerSocket.encode`."""
        return self._context.wire.encode(object)

    def decode(self, message: str | bytes) -> Any:
        """See `AGServerSocket.decode`."""
        return self._context.wire.codec.decode(message)


class MessagingMixin:
    """Sending. Source: SocketCluster documentation, AGServerSocket; SocketCluster protocol 2."""

    __slots__ = ()

    messaging: Messaging

    def transmit(self, event: str, data: Any = None) -> None:
        """Send an event. A socket that is not open emits a warning instead.

        Raises:
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is not a text.
            ResourceLimitError: the message is larger than `max_outbound_buffer`.
        """
        self.messaging.transmit(event, data)

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
        """Call a procedure of the client and wait for its answer.

        `ack_timeout` is in milliseconds or a timedelta; None takes the server's. Cancelling stops
        the waiting; a later answer is ignored. `returns` is the type of the answer, which is
        checked.

        Raises:
            BadConnectionError: the socket is not open, or is lost meanwhile.
            TimeoutError: no answer arrived in time.
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is not a text.
            ResourceLimitError: the message is larger than `max_outbound_buffer`.
            InvalidDataError: the answer is not of the type `returns`.
            SocketClusterError: the client answered with this error.
        """
        if returns is Any:
            return await self.messaging.invoke(event, data, ack_timeout)
        answer_type = DataType.of(returns)
        return answer_type.from_value(await self.messaging.invoke(event, data, ack_timeout))

    def send(self, data: str | bytes) -> None:
        """Send a raw message, text or binary. A closed socket emits a warning instead.

        Raises:
            ResourceLimitError: the message is larger than `max_outbound_buffer`.
        """
        self.messaging.send(data)

    def encode(self, object: Any) -> str | bytes:
        """Encode an object with the server's codec."""
        return self.messaging.encode(object)

    def decode(self, message: str | bytes) -> Any:
        """Decode a message with the server's codec."""
        return self.messaging.decode(message)


def _aborted(action: str, event: str) -> BadConnectionError:
    message = f"Socket {action} {event} event was aborted due to a bad connection"
    return BadConnectionError(message, "connectAbort")
