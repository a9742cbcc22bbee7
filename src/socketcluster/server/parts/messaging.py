"""How a socket talks to its client: events, calls, answers, raw messages."""

from __future__ import annotations

from datetime import timedelta
from threading import get_ident
from typing import TYPE_CHECKING, Any

from socketcluster.errors import BadConnectionError, dehydrate_error, internal_error
from socketcluster.options import check_text
from socketcluster.protocol import state as states
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.outbound import Outbound
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.messaging import not_open
from socketcluster.sockets.request import report_dropped, report_failed

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer


class MessagingMixin:
    """Sending. Source: SocketCluster documentation, AGServerSocket; SocketCluster protocol 2."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    state: str
    server: AGServer
    outbound: Outbound
    calls: PendingCalls | None
    unanswered: dict[int | float, str]
    loop_binding: LoopBinding

    def emit_error(self, error: BaseException) -> None: ...

    def transmit(self, event: str, data: Any = None) -> None:
        """Send an event. On a socket that is not open it only warns.

        Raises:
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
        """
        self.loop_binding.check()
        if type(event) is not str:
            check_text("An event's name", event)
        if self.state != states.OPEN:
            self.emit_error(_aborted("transmit", event))
            return
        self.transmit_any_state(event, data)

    def transmit_any_state(self, event: str, data: Any = None) -> None:
        """`transmit` that is also allowed during the handshake; ignored once closed."""
        packet = {"event": event} if data is None else {"event": event, "data": data}
        self.outbound.send_counted(packet)

    async def invoke(
        self, event: str, data: Any = None, *, ack_timeout: float | timedelta | None = None
    ) -> Any:
        """Call a procedure of the client and wait for its answer.

        `ack_timeout` in milliseconds or as a timedelta, else the server's. Cancelling gives up
        the waiting; an answer that comes later is ignored.

        Raises:
            BadConnectionError: the socket is not open, or is lost meanwhile.
            TimeoutError: no answer came in time.
            InvalidArgumentsError: the codec cannot encode `data`, or `event` is no text.
            SocketClusterError: the error that the client answered with.
        """
        self.loop_binding.check()
        check_text("A procedure's name", event)
        if self.state != states.OPEN:
            error = _aborted("invoke", event)
            self.emit_error(error)
            raise error
        if self.calls is None:
            self.calls = PendingCalls()
        timeout = self.server.ack_timeout if ack_timeout is None else ack_timeout
        return await self.calls.call(
            event, timeout, lambda cid: self._send_call({"event": event, "cid": cid}, data)
        )

    def _send_call(self, packet: dict[str, Any], data: Any) -> None:
        if data is not None:
            packet["data"] = data
        self.outbound.send_counted(packet)

    def send(self, data: str | bytes) -> None:
        """Send a raw message, text or binary. On a closed socket it only warns."""
        self.loop_binding.check()
        if self.state == states.CLOSED:
            self.emit_error(not_open())
            return
        self.outbound.send_message(data)

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """Answer a call; `AGRequest.end` and `AGRequest.error` do this."""
        if get_ident() != self.loop_binding.thread_id:
            self.loop_binding.check()
        if self.state == states.CLOSED:
            self.emit_error(not_open())
            return
        if error is not None:
            self.respond_error(rid, error)
        elif data is None:
            self.respond_ok(rid)
        else:
            self.outbound.answer(rid, data)
        self.unanswered.pop(rid, None)

    @property
    def open_requests(self) -> int:
        """How many calls of the client have no answer yet."""
        return len(self.unanswered)

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        """Answer a call that nobody will answer any more, and log that its handler forgot it."""
        self.loop_binding.finalize(self._answer_dropped, rid, procedure)

    def _answer_dropped(self, rid: int | float, procedure: str) -> None:
        if self.state == states.OPEN:
            report_dropped(self.server.reporter, procedure)
            self.respond(rid, None, internal_error())

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """See `Responder.request_failed`."""
        report_failed(self.server.reporter, procedure, error)

    def respond_ok(self, rid: int | float) -> None:
        """Answer a call of the protocol's own without data."""
        self.outbound.send({"rid": rid})

    def respond_error(self, rid: int | float, error: BaseException | str) -> None:
        """Answer a call of the protocol's own with an error."""
        self.outbound.send({"rid": rid, "error": dehydrate_error(error)})

    def encode(self, object: Any) -> str | bytes:
        """What the server's codec makes of an object."""
        return self.server.wire.encode(object)

    def decode(self, message: str | bytes) -> Any:
        """What the server's codec reads in a message."""
        return self.server.codec.decode(message)


def _aborted(how: str, event: str) -> BadConnectionError:
    message = f"Socket {how} {event} event was aborted due to a bad connection"
    return BadConnectionError(message, "connectAbort")
