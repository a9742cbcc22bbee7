"""Tracing: the option that turns spans on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from socketcluster.options import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Spans of calls, publishes and deliveries, made with the OpenTelemetry API (extra `otel`).

    `AGServer(tracing=Tracing())` makes a server span for each call of a client, a producer span for
    each publish, and a consumer span for each publish that a process delivers. A packet carries
    its context in the field `traceparent`, beside `cid`; a publish carries it through the broker
    and to the subscribers. `create(tracing=Tracing())` makes client and producer spans, and sends
    their context. Without an OpenTelemetry SDK, spans are made and dropped.

    All nodes must run a version that knows envelopes before one of them turns tracing on: an older
    one does not deliver the publishes of the others.

    Attributes:
        tracer_provider: an OpenTelemetry TracerProvider; None takes the global one.
        trust_clients: whether a client's `traceparent` is the parent of the span of its call. If
            not, the span begins a trace, and links to the client's.

    Raises:
        InvalidOptionsError: a value is invalid.

    Source: W3C Trace Context; OpenTelemetry semantic conventions of RPC and messaging.
    """

    tracer_provider: Any = None
    trust_clients: bool = True

    def __post_init__(self) -> None:
        provider = self.tracer_provider
        if provider is not None and not callable(getattr(provider, "get_tracer", None)):
            raise invalid_option("tracing.tracer_provider", "a TracerProvider", provider)
        if not isinstance(self.trust_clients, bool):
            raise invalid_option("tracing.trust_clients", "True or False", self.trust_clients)
