"""The in-process broker, the default: delivers each publish at once, to this process only."""

from __future__ import annotations

from socketcluster.brokers.base import BrokerListener


class SimpleBroker:
    """Hands publishes to the exchange of its own process."""

    __slots__ = ("_channels", "_listener")

    def __init__(self) -> None:
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()

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
