"""Survey: sums and maxima over all sockets of a server, taken a slice at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from socketcluster.server.socket import AGServerSocket

SLICE = 200
"""How many sockets to look at before the event loop turns: under a millisecond."""


@dataclass(slots=True, eq=False)
class Survey:
    """The sums and maxima of a look at all sockets.

    Attributes:
        received, received_size: messages and bytes of the sockets.
        sent_size: bytes of the frames that the sockets wrote.
        subscriptions: of all sockets.
        calls: calls without an answer, by procedure.
        paused: sockets that are not read from.
        backlog, buffer, backpressure: the largest of one socket: received messages that wait,
            bytes to be sent, and values that one loop or handler has not taken.
    """

    received: int = 0
    received_size: int = 0
    sent_size: int = 0
    subscriptions: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    paused: int = 0
    backlog: int = 0
    buffer: int = 0
    backpressure: int = 0

    async def look_in_slices(self, sockets: Sequence[AGServerSocket]) -> None:
        """Look at sockets, and let the event loop turn in between."""
        for start in range(0, len(sockets), SLICE):
            self.look(sockets[start : start + SLICE])
            await asyncio.sleep(0)

    def look(self, sockets: Sequence[AGServerSocket]) -> None:
        """Look at sockets."""
        for socket in sockets:
            inbound = socket.inbound
            received = inbound.received
            self.received += received
            self.received_size += socket.connection.get_bytes_received()
            self.sent_size += socket.outbound.get_sent_size()
            self.subscriptions += len(socket.subscribed.channels)
            if socket.messaging.unanswered:
                self.calls.update(socket.messaging.unanswered.values())
            if inbound.flow_control.paused:
                self.paused += 1
            self.backlog = max(self.backlog, received - inbound.processed)
            self.buffer = max(self.buffer, socket.outbound.get_held_size())
            self.backpressure = max(self.backpressure, _backpressure(socket))


def _backpressure(socket: AGServerSocket) -> int:
    streams, most = socket.streams, 0
    for demux in (streams.receivers, streams.procedures, socket.inbound.listeners):
        if demux is not None:
            most = max(most, demux.get_backpressure_all())
    if socket.handling is not None:
        most = max(most, *(line.waiting for line in socket.handling.lines.values()), 0)
    return most
