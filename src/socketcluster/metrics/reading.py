"""Reading: the numbers of one server at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from socketcluster.metrics.durations import Durations

OTHER = "_OTHER"
"""The procedure of calls that no handler answers: a client can make any name of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The numbers of one server; each attribute is the metric of its name.

    Mappings are by the label's value; `calls` is by procedure and result. `pongs` and `loop_lag`
    are in seconds. `histories` has several metrics, by their names.
    """

    clients: int
    pending_clients: int
    subscriptions: int
    channels: int
    connections: Mapping[str, int]
    disconnections: Mapping[str, int]
    messages_received: int
    received_bytes: int
    messages_sent: int
    sent_bytes: int
    calls: Mapping[tuple[str, str], int]
    call_durations: Mapping[str, Durations]
    calls_in_progress: int
    publishes: Mapping[str, int]
    deliveries: int
    dropped_publishes: int
    blocked_actions: Mapping[str, int]
    inbound_backlog_messages_max: int
    outbound_buffer_bytes_max: int
    consumer_backpressure_max: int
    paused_sockets: int
    pongs: Durations
    broker_up: bool
    broker_gaps: int
    broker_gap_seconds: float
    histories: Mapping[str, int]
    broker_unconfirmed: int | None
    broker_round_trip: float | None
    loop_lag: Durations
    auth_failures: Mapping[str, int]
    recoveries: Mapping[str, int]
    sessions: Mapping[str, int]
    rate_limited: Mapping[str, int]
    max_connections: int | None
    node_messages: Mapping[str, int]
    node_messages_dropped: Mapping[str, int]
    presence_members: Mapping[str, int]
    build: Mapping[str, str]
