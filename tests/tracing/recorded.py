"""The spans that a test has made."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from socketcluster import Tracing
from support import until


class Recorded:
    """The spans that ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(tracer_provider=provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        """The only span of a name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    async def wait(self, count: int) -> None:
        """Wait until spans have ended."""
        await until(lambda: len(self.spans) >= count)


def echo(data: Any) -> Any:
    return data


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"
