"""A broker that traces: publishes carry the context of their span in an envelope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.trace import Span

from socketcluster.brokers.base import Broker, BrokerListener
from socketcluster.brokers.storing import Retention, StoringBroker
from socketcluster.protocol.envelopes import TRACE, envelop, open_envelope
from socketcluster.protocol.payloads import Payloads
from socketcluster.tracing.spans import (
    TRACEPARENT_SIZE,
    Spans,
    end,
    traceparent_of,
    until_accepted,
)


class TracedPayload(bytes):
    """A payload with the context of its publish."""

    traceparent: str


class TracedPayloads(Payloads):
    """Sends the context of a publish to its subscribers, in the '#publish' packet."""

    __slots__ = ()

    def publish_packet(self, channel: str, payload: bytes) -> Any:
        """See `Payloads`."""
        packet = super().publish_packet(channel, payload)
        if isinstance(payload, TracedPayload):
            packet["traceparent"] = payload.traceparent
        return packet


class TracedBroker:
    """A `Broker` around another one.

    A publish has a producer span until the backend has accepted it, a delivery a consumer span.
    """

    def __init__(self, broker: Broker, spans: Spans) -> None:
        self._broker = broker
        self._spans = spans

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker`."""
        self._broker.attach(_TracedListener(listener, self._spans))

    async def start(self) -> None:
        """See `Broker`."""
        await self._broker.start()

    async def close(self) -> None:
        """See `Broker`."""
        await self._broker.close()

    @property
    def ready(self) -> bool:
        """See `Broker`."""
        return self._broker.ready

    async def check(self) -> None:
        """See `Broker`."""
        await self._broker.check()

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """See `Broker`."""
        return self._broker.subscribe(channel)

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """See `Broker`."""
        return self._broker.unsubscribe(channel)

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """See `Broker`."""
        span = self._spans.publish(channel, len(payload))
        traceparent = traceparent_of(span)
        if traceparent is not None:
            payload = envelop(TRACE, traceparent.encode(), payload)
        return _within(span, partial(self._broker.publish, channel, payload))

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> Awaitable[None] | None:
        """See `StoringBroker`. Stored publishes carry no context, because many read them later."""
        broker = cast("StoringBroker", self._broker)
        span = self._spans.publish(channel, len(payload))
        return _within(span, partial(broker.publish_stored, channel, payload, retention, id))


def _within(span: Span, publish: Callable[[], Awaitable[None] | None]) -> Awaitable[None] | None:
    """Publish within a span, which ends once the backend has accepted the publish."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            accepted = publish()
    except BaseException as error:
        end(span, error)
        raise
    if accepted is None:
        end(span)
        return None
    return until_accepted(span, accepted)


class _TracedListener:
    """Opens the envelopes that a broker delivers."""

    def __init__(self, listener: BrokerListener, spans: Spans) -> None:
        self._listener = listener
        self._spans = spans

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        self._deliver(self._listener.message_received, channel, payload)

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        self._deliver(self._listener.backend_message_received, channel, payload)

    def broker_failed(self, error: BaseException) -> None:
        """See `BrokerListener`."""
        self._listener.broker_failed(error)

    def backend_lost(self, *loss: Any, **fields: Any) -> None:
        """See `BrokerListener`."""
        self._listener.backend_lost(*loss, **fields)

    def backend_recovered(self, *gap: Any, **fields: Any) -> None:
        """See `BrokerListener`."""
        self._listener.backend_recovered(*gap, **fields)

    def _deliver(self, deliver: Any, channel: str, message: bytes) -> None:
        opened = open_envelope(message)
        if opened is None or opened[0] != TRACE or len(opened[1]) != TRACEPARENT_SIZE:
            deliver(channel, message)
            return
        payload = TracedPayload(opened[2])
        payload.traceparent = opened[1].decode("latin-1")
        with self._spans.delivery(channel, payload, payload.traceparent):
            deliver(channel, payload)
