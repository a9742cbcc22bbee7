"""The spans of clients' calls, and the context of all that their messages cause."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span

from socketcluster.handlers.line import Line
from socketcluster.literals import ActionType, MiddlewareType
from socketcluster.protocol.packets import SYSTEM_EVENTS, AnyPacket
from socketcluster.server.context import SocketContext
from socketcluster.server.packets.dispatch import dispatch
from socketcluster.server.parts.decision import Decision, OnVerdict, Pending
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.socket import AGServerSocket
from socketcluster.tracing.spans import Spans, end, use, within

CarryOut = Callable[[Any], Coroutine[Any, Any, None]]

_MARK = b'"traceparent"'


class _Fields(msgspec.Struct):
    """The fields of a packet that concern its span."""

    traceparent: Any = None
    cid: Any = None


_packet_fields = msgspec.json.Decoder(_Fields).decode
_batch_fields = msgspec.json.Decoder(list[_Fields]).decode


class TracedMessaging(Messaging):
    """Ends the span of a call when it is answered.

    Attributes:
        spans: the spans of the unanswered calls, by cid.
    """

    __slots__ = ("spans",)

    def __init__(self, socket: Any, life: Any, outbound: Any, context: Any) -> None:
        super().__init__(socket, life, outbound, context)
        self.spans: dict[int | float, Span] = {}

    def began(self, cid: int | float, span: Span) -> None:
        """Keep the span of a call until it is answered."""
        self._end(cid, "superseded")  # The client has used the number again.
        self.spans[cid] = span

    def _end(self, rid: int | float, error: BaseException | str | None = None) -> None:
        span = self.spans.pop(rid, None)
        if span is not None:
            end(span, error)

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """See `Messaging`."""
        super().respond(rid, data, error)
        self._end(rid, error)

    def answer(self, rid: int | float, data: Any) -> None:
        """See `Messaging`."""
        super().answer(rid, data)
        self._end(rid)

    def answer_error(self, rid: int | float, error: BaseException) -> None:
        """See `Messaging`."""
        super().answer_error(rid, error)
        self._end(rid, error)

    def respond_error(self, rid: int | float, error: BaseException | str) -> None:
        """See `Messaging`."""
        super().respond_error(rid, error)
        self._end(rid, error)

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """See `Messaging`."""
        trace.get_current_span().record_exception(error)
        super().request_failed(procedure, error)

    def abort_calls(self, code: int, reason: str | None) -> None:
        """See `Messaging`."""
        super().abort_calls(code, reason)
        for rid in list(self.spans):
            self._end(rid, "BadConnectionError")


class TracedMiddleware(SocketMiddleware):
    """Carries out verdicts in the context of the message that they decide on."""

    __slots__ = ()

    def put(
        self, type: MiddlewareType, kind: ActionType, on_verdict: OnVerdict, **fields: Any
    ) -> Decision:
        """See `SocketMiddleware`."""
        current = get_current()

        def in_context(error: BaseException | None, data: Any) -> Pending | None:
            with use(current):
                pending = on_verdict(error, data)
            return None if pending is None else within(current, pending)

        return super().put(type, kind, in_context, **fields)


class ContextLine(Line):
    """A line whose messages are carried out in the context in which they came."""

    __slots__ = ()

    def __init__(self, carry_out: CarryOut, *rest: Any) -> None:
        super().__init__(_in_context(carry_out), *rest)

    def use(self, carry_out: CarryOut) -> None:
        """See `Line`."""
        super().use(_in_context(carry_out))

    def put(self, message: Any, size: int = 0) -> None:
        """See `Line`."""
        super().put((get_current(), message), size)


def _in_context(carry_out: CarryOut) -> CarryOut:
    return lambda item: within(item[0], carry_out(item[1]))


class CallTracing:
    """Traces the messages of clients. `dispatch` stands for the one without it.

    It takes the ordinary path for all calls: the direct one knows no spans.
    """

    def __init__(self, spans: Spans, context: SocketContext) -> None:
        self._spans = spans
        self._context = context
        self._batch: tuple[bytes, dict[Any, Any]] = (b"", {})
        context.handling.make_line = ContextLine

    def equip(self, socket: AGServerSocket) -> None:
        """Trace a new socket."""
        context = self._context
        line = socket.middleware.handshake_line
        socket.middleware = TracedMiddleware(socket, context, line)
        socket.messaging = TracedMessaging(socket, socket.life, socket.outbound, context)

    def dispatch(self, socket: AGServerSocket, packet: AnyPacket, message: bytes) -> Continuation:
        """See `dispatch`."""
        event, cid = packet.event, packet.cid
        if event is None or socket.life.phase != "open":
            return dispatch(socket, packet, message)
        traceparent = self._traceparent(message, cid) if _MARK in message else None
        if cid is None or event in SYSTEM_EVENTS:
            current = self._spans.context_of(traceparent)
        else:
            span = self._spans.call(event, self._exists(socket, event), traceparent)
            assert isinstance(socket.messaging, TracedMessaging)
            socket.messaging.began(cid, span)
            current = trace.set_span_in_context(span, Context())
        with use(current):
            continuation = dispatch(socket, packet, message)
        if continuation is None or isinstance(continuation, Decision):
            return continuation
        return within(current, continuation)

    def _exists(self, socket: AGServerSocket, procedure: str) -> bool:
        return procedure in self._context.handling.procedures or socket.streams.has_procedure(
            procedure
        )

    def _traceparent(self, message: bytes, cid: int | float | None) -> str | None:
        """Find the field in a packet, or in the call of a batch; only JSON has named fields."""
        try:
            if not message.startswith(b"["):
                found = _packet_fields(message).traceparent
            else:
                if self._batch[0] is not message:
                    fields = {each.cid: each.traceparent for each in _batch_fields(message)}
                    self._batch = (message, fields)
                found = None if cid is None else self._batch[1].get(cid)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError):
            return None
        return found if isinstance(found, str) else None
