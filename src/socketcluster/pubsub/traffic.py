"""Traffic: counts publishes and deliveries, for a server whose metrics are on."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from socketcluster.pubsub.delivery import PublishDelivery
from socketcluster.pubsub.fanout import FanOut

_deliver = FanOut._deliver  # noqa: SLF001  `super()` takes a third of the counting.


@dataclass(slots=True, eq=False)
class Traffic:
    """The publishes of one process, and what its sockets were sent.

    A delivery that a socket does not write at once is counted with `messages` when the socket
    writes it, and subtracted there when it is queued.

    Attributes:
        from_clients, from_exchange: publishes that clients, and the exchange itself, handed to the
            broker.
        from_backend: publishes that the broker's backend delivered, those of this process included.
        deliveries: publishes times the sockets that they were delivered to.
        deliveries_size: the bytes of their frames.
        messages, size: frames that sockets wrote besides deliveries, and their bytes.
        written: the bytes of such frames that `settle` has not counted yet.
    """

    from_clients: int = 0
    from_exchange: int = 0
    from_backend: int = 0
    deliveries: int = 0
    deliveries_size: int = 0
    messages: int = 0
    size: int = 0
    written: list[int] = field(default_factory=list)

    def settle(self) -> None:
        """Count the frames that sockets wrote since the last time."""
        written = self.written
        count = len(written)
        self.messages += count
        self.size += sum(written)
        del written[:count]


class CountedFanOut(FanOut):
    """Counts deliveries."""

    __slots__ = ("_traffic",)

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def _deliver(self, at_end_of_turn: bool) -> None:
        run = self._run
        if run is not None and self.subscribers is not None:
            traffic, sockets = self._traffic, len(self.subscribers)
            traffic.deliveries += sockets * len(run.frames)
            traffic.deliveries_size += sockets * run.size
        _deliver(self, at_end_of_turn)


class CountedDelivery(PublishDelivery):
    """Counts publishes by their source."""

    __slots__ = ("_traffic",)

    def __init__(self, traffic: Traffic, *parts: Any) -> None:
        super().__init__(*parts)
        self._traffic = traffic

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """See `PublishDelivery.publish`."""
        self._traffic.from_clients += 1
        return PublishDelivery.publish(self, channel, payload)

    def publish_own(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """See `PublishDelivery.publish_own`."""
        self._traffic.from_exchange += 1
        return PublishDelivery.publish(self, channel, payload)

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        self._traffic.from_backend += 1
        PublishDelivery.backend_message_received(self, channel, payload)
