"""Streams: values that `async for` reads, with visible backpressure."""

from socketcluster.streams.bounded import SMALL, Bound
from socketcluster.streams.consumable import (
    ConsumableStream,
    Consumer,
    ConsumerStats,
    StreamItem,
)
from socketcluster.streams.converted import ConvertedStream
from socketcluster.streams.demux import StreamDemux
from socketcluster.streams.emitter import AsyncStreamEmitter
from socketcluster.streams.inbox import MADE_WEIGHT, NO_VALUE, TEXT_WEIGHT, Gauge
from socketcluster.streams.writable import WritableConsumableStream

__all__ = [
    "MADE_WEIGHT",
    "NO_VALUE",
    "SMALL",
    "TEXT_WEIGHT",
    "AsyncStreamEmitter",
    "Bound",
    "ConsumableStream",
    "Consumer",
    "ConsumerStats",
    "ConvertedStream",
    "Gauge",
    "StreamDemux",
    "StreamItem",
    "WritableConsumableStream",
]
