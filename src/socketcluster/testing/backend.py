"""A backend in memory, which several servers of one test share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from socketcluster.brokers.base import BackendBroker, BrokerListener, InternalBroker
from socketcluster.errors import BrokerError


class MemoryBackend:
    """Carries publishes, and messages between servers: `AGServer(broker_engine=backend.broker())`.

    Give the servers one `auth_key` or `cluster_key`, else they send each other no messages.
    """

    def __init__(self) -> None:
        self._brokers: list[MemoryBroker] = []
        self._lost_at: float | None = None

    def broker(self) -> MemoryBroker:
        """Make the broker of one server."""
        return MemoryBroker(self)

    @property
    def is_away(self) -> bool:
        """Whether it takes and delivers nothing."""
        return self._lost_at is not None

    def lose(self) -> None:
        """Begin an outage: publishes fail until `recover`."""
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            for broker in self._brokers:
                broker.listener.backend_lost(BrokerError("The backend is away"))

    def recover(self) -> None:
        """End the outage."""
        if self._lost_at is not None:
            duration = 1000 * (asyncio.get_running_loop().time() - self._lost_at)
            self._lost_at = None
            for broker in self._brokers:
                broker.listener.backend_recovered(duration, BrokerError("The backend was away"))

    def _join(self, broker: MemoryBroker) -> None:
        if broker not in self._brokers:
            self._brokers.append(broker)

    def _leave(self, broker: MemoryBroker) -> None:
        if broker in self._brokers:
            self._brokers.remove(broker)

    def _publish(self, name: str, payload: bytes) -> None:
        if self.is_away:
            raise BrokerError("The backend is away")
        asyncio.get_running_loop().call_soon(self._deliver, name, payload)

    def _deliver(self, name: str, payload: bytes) -> None:
        for broker in list(self._brokers):
            broker.deliver(name, payload)


class MemoryBroker(BackendBroker):
    """The broker of one server on a `MemoryBackend`, which makes it.

    Attributes:
        listener: receives what it delivers.
    """

    listener: BrokerListener

    def __init__(self, backend: MemoryBackend, prefix: str = "channel:") -> None:
        self._backend = backend
        self._prefix = prefix
        self._names: dict[str, str] = {}
        self._runs = False
        self.internal: Callable[[], InternalBroker] | None = None
        if prefix == "channel:":
            self.internal = self._internal

    def _internal(self) -> InternalBroker:
        return InternalBroker(MemoryBroker(self._backend, "internal:"), "memory")

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self.listener = listener

    async def start(self) -> None:
        """Begin to deliver."""
        self._runs = True
        self._backend._join(self)

    async def close(self) -> None:
        """Stop delivering."""
        self._runs = False
        self._backend._leave(self)

    @property
    def ready(self) -> bool:
        """Whether there is no outage."""
        return not self._backend.is_away

    async def check(self) -> None:
        """See `Broker.check`."""
        if self._backend.is_away:
            raise BrokerError("The backend is away")

    def subscribe(self, channel: str) -> None:
        """Subscribe at once."""
        self._names[self._prefix + channel] = channel

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe at once."""
        self._names.pop(self._prefix + channel, None)

    def publish(self, channel: str, payload: bytes) -> None:
        """Deliver in a later turn of the loop; raises BrokerError in an outage."""
        if not self._runs:
            raise BrokerError("The broker is not started")
        self._backend._publish(self._prefix + channel, payload)

    def deliver(self, name: str, payload: bytes) -> None:
        """Deliver what a server has published."""
        channel = self._names.get(name)
        if channel is not None:
            self.listener.backend_message_received(channel, payload)
