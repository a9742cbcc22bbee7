"""The spans of a client's calls and publishes, and the context that its packets carry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from opentelemetry import trace

from socketcluster.client.messaging import ClientMessaging
from socketcluster.codecs.json import JSONCodec
from socketcluster.tracing.spans import TRACEPARENT, Spans, end, traceparent_of


class TracedMessaging(ClientMessaging):
    """Messaging with a span for each call and each publish. Only JSON packets carry its context."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Spans, *parts: Any) -> None:
        super().__init__(*parts)
        self._spans = spans

    def _packet(self, event: str, data: Any) -> dict[str, Any]:
        packet = super()._packet(event, data)
        if type(self._settings.wire.codec) is JSONCodec:
            traceparent = traceparent_of(trace.get_current_span())
            if traceparent is not None:
                packet[TRACEPARENT] = traceparent
        return packet

    def transmit(self, event: str, data: Any) -> None:
        """See `ClientMessaging`."""
        if event != "#publish":
            super().transmit(event, data)
            return
        span = self._publish(data)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                super().transmit(event, data)
        except Exception as error:
            end(span, error)
            raise
        end(span)

    async def invoke(
        self, event: str, data: Any, ack_timeout: float | timedelta | None = None
    ) -> Any:
        """See `ClientMessaging`."""
        span = self._publish(data) if event == "#publish" else self._spans.invoke(event)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                answer = await super().invoke(event, data, ack_timeout)
        except BaseException as error:
            end(span, error)
            raise
        end(span)
        return answer

    def _publish(self, data: Any) -> trace.Span:
        # The size is not known yet: the packet is encoded as a whole.
        return self._spans.publish(data["channel"], None)
