"""The in-process broker, the default: delivers each publish at once, to this process only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from socketcluster.brokers.base import BrokerListener
from socketcluster.brokers.memory_store import HISTORY_MEMORY, MemoryStore
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.protocol.envelopes import envelop_stored


class SimpleBroker:
    """Hands publishes to the exchange of its own process, and stores in the process's memory.

    Args:
        history_memory: how many bytes stored publishes may take; see the option of the server.
    """

    __slots__ = ("_channels", "_listener", "_store")

    def __init__(self, history_memory: int = HISTORY_MEMORY) -> None:
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()
        self._store: MemoryStore[str] = MemoryStore(history_memory, _loop_time)

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self._listener = listener

    async def start(self) -> None:
        """Do nothing: there is no backend."""

    async def close(self) -> None:
        """Do nothing: there is no backend."""

    @property
    def ready(self) -> bool:
        """Always True."""
        return True

    async def check(self) -> None:
        """Do nothing: there is no backend that could fail."""

    def subscribe(self, channel: str) -> None:
        """Subscribe at once."""
        self._channels.add(channel)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe at once."""
        self._channels.discard(channel)

    def publish(self, channel: str, payload: bytes) -> None:
        """Deliver before returning."""
        if channel in self._channels and self._listener is not None:
            self._listener.message_received(channel, payload)

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> None:
        """Store and deliver before returning. See `StoringBroker`."""
        placed = self._store.publish(channel, payload, retention, id)
        if placed is not None:
            self.publish(channel, envelop_stored(*placed, payload))

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """See `StoringBroker`."""
        return self._store.history(channel, retention, since, limit, reverse)

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringBroker`."""
        return self._store.renew_epoch(channel, seen)

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringBroker`."""
        self._store.keep(values, seconds)

    async def take(self, key: str) -> bytes | None:
        """See `StoringBroker`."""
        return self._store.take(key)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
