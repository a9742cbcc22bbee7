"""Spans: made with the OpenTelemetry API, with the names of its semantic conventions.

Source: OpenTelemetry semantic conventions 1.40, "RPC" and "Messaging"; W3C Trace Context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from socketcluster.runtime.reporting import clean
from socketcluster.tracing.options import Tracing

SYSTEM = "socketcluster"
OTHER = "_OTHER"
"""The method of a call to a procedure that does not exist: a client can make up any name."""

TRACEPARENT = "traceparent"
TRACEPARENT_SIZE = 55
"""Characters of a `traceparent` of version 00. Source: W3C Trace Context, section 3.2.2."""
_propagator = TraceContextTextMapPropagator()


class Spans:
    """Makes spans, and reads and writes their context."""

    def __init__(self, options: Tracing) -> None:
        self._tracer = trace.get_tracer(SYSTEM, _version(), options.tracer_provider)
        self._trusts = options.trust_clients

    def call(self, procedure: str, exists: bool, traceparent: str | None) -> Span:
        """Start the server span of a client's call."""
        attributes: dict[str, str] = {"rpc.system.name": SYSTEM}
        if exists:
            attributes["rpc.method"] = procedure
        else:
            attributes |= {"rpc.method": OTHER, "rpc.method_original": clean(procedure)}
        parent, links = self._of_client(traceparent)
        return self._tracer.start_span(
            attributes["rpc.method"], parent, SpanKind.SERVER, attributes, links
        )

    def invoke(self, procedure: str) -> Span:
        """Start the client span of a call of this process."""
        attributes = {"rpc.system.name": SYSTEM, "rpc.method": procedure}
        return self._tracer.start_span(procedure, None, SpanKind.CLIENT, attributes)

    def publish(self, channel: str, size: int | None) -> Span:
        """Start the producer span of a publish."""
        return self._tracer.start_span(
            "publish", None, SpanKind.PRODUCER, _messaging("publish", "send", channel, size)
        )

    @contextmanager
    def delivery(self, channel: str, payload: bytes, traceparent: str) -> Generator[None]:
        """Make a consumer span, a child of the publish, around the delivery of its payload."""
        attributes = _messaging("deliver", "process", channel, len(payload))
        with self._tracer.start_as_current_span(
            "deliver", remote(traceparent), SpanKind.CONSUMER, attributes
        ):
            yield

    def _of_client(self, traceparent: str | None) -> tuple[Context, list[Link]]:
        """The parent and the links of a client's span."""
        found = Context() if traceparent is None else remote(traceparent)
        if self._trusts:
            return found, []
        theirs = trace.get_current_span(found).get_span_context()
        return Context(), [Link(theirs)] if theirs.is_valid else []

    def context_of(self, traceparent: str | None) -> Context:
        """Return the context for what a client's packet without a span of its own causes."""
        if traceparent is None or not self._trusts:
            return Context()
        return remote(traceparent)


def remote(traceparent: str) -> Context:
    """Return the context that another process sent; an empty one if it is invalid."""
    return _propagator.extract({TRACEPARENT: traceparent}, Context())


def traceparent_of(span: Span) -> str | None:
    """Return the text that carries a span's context to another process; None if it has none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT)


def span_of(request: Any) -> Span:
    """Return the span of a call that a loop has taken; one that records nothing if it has none.

    The span ends with the answer. A handler need not ask: its span is OpenTelemetry's current one.
    """
    spans: dict[Any, Span] = getattr(request.socket.messaging, "spans", {})
    return spans.get(request.id, trace.INVALID_SPAN)


def end(span: Span, error: BaseException | str | None = None) -> None:
    """End a span, with the type of the error if it failed."""
    if error is not None:
        kind = error if isinstance(error, str) else getattr(error, "name", type(error).__name__)
        span.set_attribute("error.type", str(kind))
        span.set_status(Status(StatusCode.ERROR))
    span.end()


@contextmanager
def use(span_context: Context) -> Generator[None]:
    """Make a context the current one."""
    token = context.attach(span_context)
    try:
        yield
    finally:
        context.detach(token)


async def within(span_context: Context, pending: Coroutine[Any, Any, None]) -> None:
    """Await something with a context as the current one."""
    with use(span_context):
        await pending


async def until_accepted(span: Span, accepted: Awaitable[None]) -> None:
    """Await the backend's answer to a publish, and end its span."""
    try:
        await accepted
    except BaseException as error:
        end(span, error)
        raise
    end(span)


def _messaging(name: str, kind: str, channel: str, size: int | None) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": channel,
    }
    if size is not None:
        attributes["messaging.message.body.size"] = size
    return attributes


def _version() -> str | None:
    try:
        return version(SYSTEM)
    except PackageNotFoundError:  # Run from a source tree.
        return None
