"""Families: a reading as the metrics of Prometheus, with their names, types and help texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from socketcluster.metrics.durations import EVERY, Durations
from socketcluster.metrics.reading import Reading

PREFIX = "socketcluster_"

_GAUGES = {
    "clients": "Clients that are connected.",
    "pending_clients": "Connections in the handshake phase.",
    "subscriptions": "Subscriptions of clients to channels.",
    "channels": "Channels with a subscriber in this process.",
    "calls_in_progress": "Calls of clients that have no answer yet.",
    "inbound_backlog_messages_max": "Largest number of received messages of one socket that wait.",
    "outbound_buffer_bytes_max": "Largest number of bytes that wait to be sent to one socket.",
    "consumer_backpressure_max": "Largest number of values that one loop or handler has not taken.",
    "paused_sockets": "Sockets that are not read from, because their messages wait.",
}
_COUNTERS = {
    "messages_received": "Messages that clients sent, pongs included.",
    "received_bytes": "Bytes of the messages that clients sent.",
    "messages_sent": "Messages that clients were sent, pings included.",
    "sent_bytes": "Bytes of the frames that clients were sent, before compression.",
    "deliveries": "Publishes times the subscribed sockets that they were delivered to.",
    "dropped_publishes": "Publishes that were dropped for a client that reads too slowly.",
    "broker_gaps": "Outages of the broker's backend that are over. Publishes may be lost in them.",
    "broker_gap_seconds": "Seconds that the outages of the broker's backend took.",
}
_HISTORIES = {
    "stored_publishes": "Publishes of this server to channels with history.",
    "history_reads": "Reads of histories from the broker's backend.",
    "history_gaps_filled": "Gaps of channels with history that were filled from it.",
    "history_gaps_unfilled": "Gaps of channels with history that lack publishes.",
}
_LABELLED = {
    "connections": ("result", "Connections that ended, by how far they got, and open ones."),
    "disconnections": ("code", "Clients that left, by the close code."),
    "publishes": ("source", "Publishes by their source: a client, the exchange or the backend."),
    "blocked_actions": ("type", "Actions that middleware or a channel's handler blocked."),
    "recoveries": ("result", "Recoveries that clients asked for, by how they ended."),
    "rate_limited": ("kind", "Messages and connections that a limit applied to."),
    "node_messages": ("result", "Messages between servers: sent, received, or failed to be sent."),
    "node_messages_dropped": ("reason", "Messages between servers that were dropped on receipt."),
    "auth_failures": ("reason", "Tokens of clients that were not accepted."),
}


def families(reading: Reading) -> Iterator[Metric]:
    """Yield the metrics of one reading."""
    for name, text in _GAUGES.items():
        yield GaugeMetricFamily(PREFIX + name, text, value=getattr(reading, name))
    for name, text in _COUNTERS.items():
        yield CounterMetricFamily(PREFIX + name, text, value=getattr(reading, name))
    for name, (label, text) in _LABELLED.items():
        yield _labelled(name, label, text, getattr(reading, name))
    yield _optional(
        "max_connections", "Connections that the server takes.", reading.max_connections
    )
    text = "Members of channels that have a socket on this server, by the pattern of the rule."
    yield _labelled_gauge("presence_members", "pattern", text, reading.presence_members)
    text = "Sessions of clients that are connected, and of lost ones that may come back."
    yield _labelled_gauge("sessions", "state", text, reading.sessions)
    yield from _calls(reading)
    yield from _broker(reading)
    for name, text in _HISTORIES.items():
        yield CounterMetricFamily(PREFIX + name, text, value=reading.histories[name])
    pongs = {"": reading.pongs}
    yield _histogram("pong_seconds", "Seconds between a ping and the client's pong.", pongs)
    lag = {"": reading.loop_lag}
    yield _histogram("loop_lag_seconds", "Seconds that a timer of the event loop was late.", lag)
    build = GaugeMetricFamily(
        f"{PREFIX}build_info", "The versions that run; the value is 1.", labels=list(reading.build)
    )
    build.add_metric(list(reading.build.values()), 1)
    yield build


def _labelled(name: str, label: str, text: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _labelled_gauge(name: str, label: str, text: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _calls(reading: Reading) -> Iterator[Metric]:
    calls = CounterMetricFamily(
        f"{PREFIX}calls", "Calls of procedures that were answered.", labels=["procedure", "result"]
    )
    for labels, count in reading.calls.items():
        calls.add_metric(labels, count)
    yield calls
    text = (
        "Seconds from the start of a handler to its answer; for loops, from the call's arrival. "
        f"Of many calls one in {EVERY} is timed, and counts {EVERY} times."
    )
    yield _histogram("call_duration_seconds", text, reading.call_durations, "procedure")


def _broker(reading: Reading) -> Iterator[Metric]:
    text = "Whether publishes reach all processes: 1, or 0 while the backend is away."
    yield GaugeMetricFamily(f"{PREFIX}broker_up", text, value=int(reading.broker_up))
    text = "Publishes that the broker's backend has not accepted yet."
    yield _optional("broker_unconfirmed", text, reading.broker_unconfirmed)
    text = "Seconds that the last heartbeat through the broker's backend took."
    yield _optional("broker_round_trip_seconds", text, reading.broker_round_trip)


def _optional(name: str, text: str, value: float | None) -> Metric:
    """A gauge without a sample if there is no value."""
    family = GaugeMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _histogram(
    name: str, text: str, durations: Mapping[str, Durations], label: str | None = None
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=None if label is None else [label])
    for value, each in durations.items():
        labels = [] if label is None else [value]
        family.add_metric(labels, buckets=each.buckets(), sum_value=each.total)
    return family
