"""Tracing, wired into a server that has the option. Without it, OpenTelemetry is not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from socketcluster.brokers.base import Broker
from socketcluster.protocol.payloads import Payloads
from socketcluster.server.context import SocketContext
from socketcluster.tracing.loading import load
from socketcluster.tracing.options import Tracing

if TYPE_CHECKING:
    from socketcluster.tracing.spans import Spans


class ServerTracing:
    """Makes the parts of a server that trace.

    Raises:
        InvalidOptionsError: the extra is not installed.
    """

    __slots__ = ("_spans",)

    def __init__(self, tracing: Tracing) -> None:
        self._spans: Spans = load("tracing.spans").Spans(tracing)

    @property
    def payloads(self) -> type[Payloads]:
        """The class that encodes publishes."""
        return cast("type[Payloads]", load("tracing.broker").TracedPayloads)

    def broker(self, broker: Broker) -> Broker:
        """Trace the publishes of a broker."""
        return cast("Broker", load("tracing.broker").TracedBroker(broker, self._spans))

    def trace_calls(self, context: SocketContext) -> None:
        """Trace the messages of the server's sockets."""
        calls = load("server.call_spans").CallTracing(self._spans, context)
        context.dispatch = calls.dispatch
        context.dispatch_batch = calls.dispatch_batch
        context.equip = calls.equip
