"""The parts of a client whose state no public method shows."""

from __future__ import annotations

from typing import Any

from socketcluster.client.connection import ClientConnection
from socketcluster.client.outbox import Outbox
from socketcluster.sockets.calls import PendingCalls
from socketcluster.streams import Gauge


def emit_of_channel(client: Any, channel: str, event: str, data: Any) -> None:
    """Emit an event of a channel that the protocol does not have."""
    client._channel_listeners.write(f"{channel}/{event}", data)


def calls_of(client: Any) -> PendingCalls:
    """The calls not answered yet."""
    calls: PendingCalls = client._messaging.calls
    return calls


def outbox_of(client: Any) -> Outbox:
    """The packets that wait for a connection."""
    outbox: Outbox = client._messaging.outbox
    return outbox


def gauge_of(client: Any) -> Gauge:
    """The backlog of its consumers."""
    gauge: Gauge = client._flow_control.gauge
    return gauge


def connection_of(client: Any) -> ClientConnection:
    """The present connection."""
    connection: ClientConnection = client._lifecycle.connection
    return connection
