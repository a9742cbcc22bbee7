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
from socketcluster.protocol.packets import SYSTEM_EVENTS, AnyPacket, Batch
from socketcluster.server.context import SocketContext
from socketcluster.server.packets.batch import Dispatch, dispatch_batch
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


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_packet_fields = msgspec.json.Decoder(_Fields).decode
_batch_fields = msgspec.json.Decoder(list[_Fields]).decode


class TracedMessaging(Messaging):
    """Ends the span of a call when it is answered.

    Attributes:
        spans: the spans of the unanswered calls, by cid.
        parents: while a batch is carried out, the `traceparent` of its calls, by cid; else None.
    """

    __slots__ = ("parents", "spans")

    def __init__(self, socket: Any, life: Any, outbound: Any, context: Any) -> None:
        super().__init__(socket, life, outbound, context)
        self.spans: dict[int | float, Span] = {}
        self.parents: dict[Any, Any] | None = None

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
        # A text is no type, and there may be any number of them.
        self._end(rid, "Error" if isinstance(error, str) else error)

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
        self._end(rid, "Error" if isinstance(error, str) else error)

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
    """Traces the messages of clients. Its two functions stand for those without it.

    It takes the ordinary path for all calls: the direct one knows no spans.
    """

    def __init__(self, spans: Spans, context: SocketContext) -> None:
        self._spans = spans
        self._context = context
        self._carry_out = context.dispatch
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
            return self._carry_out(socket, packet, message)
        assert isinstance(socket.messaging, TracedMessaging)
        parents = socket.messaging.parents
        found = _traceparent_in(message) if parents is None else parents.get(cid)
        traceparent = found if isinstance(found, str) else None
        if cid is None or event in SYSTEM_EVENTS:
            current = self._spans.context_of(traceparent)
        else:
            span = self._spans.call(event, self._exists(socket, event), traceparent)
            socket.messaging.began(cid, span)
            current = trace.set_span_in_context(span, Context())
        with use(current):
            continuation = self._carry_out(socket, packet, message)
        if continuation is None or isinstance(continuation, Decision):
            return continuation
        return within(current, continuation)

    def dispatch_batch(
        self,
        socket: AGServerSocket,
        batch: Batch,
        message: bytes,
        carry_out: Dispatch | None = None,
    ) -> Continuation:
        """See `dispatch_batch`. The context of all calls is found once, not once for each call."""
        messaging = socket.messaging
        assert isinstance(messaging, TracedMessaging)
        messaging.parents = _traceparents_in(message)
        continuation = dispatch_batch(socket, batch, message, carry_out)
        if continuation is None:
            messaging.parents = None
            return None
        return _finish(messaging, continuation)

    def _exists(self, socket: AGServerSocket, procedure: str) -> bool:
        return procedure in self._context.handling.procedures or socket.streams.has_procedure(
            procedure
        )


async def _finish(messaging: TracedMessaging, continuation: Pending | Decision) -> None:
    try:
        await continuation
    finally:
        messaging.parents = None


def _traceparent_in(message: bytes) -> Any:
    """Find the field in a packet; only JSON has named fields."""
    if _MARK not in message:
        return None
    try:
        return _packet_fields(message).traceparent
    except _UNREADABLE:
        return None


def _traceparents_in(message: bytes) -> dict[Any, Any]:
    """Find the field in the calls of a batch, by their cid."""
    if _MARK not in message:
        return {}
    try:
        fields = _batch_fields(message)
    except _UNREADABLE:
        return {}
    return {each.cid: each.traceparent for each in fields if isinstance(each.cid, int | float)}
