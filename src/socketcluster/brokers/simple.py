"""The in-process broker, the default: a publish comes straight back."""

from __future__ import annotations

from socketcluster.brokers.base import BrokerListener


class SimpleBroker:
    """Loops publishes back to the exchange of its own process."""

    __slots__ = ("_channels", "_listener")

    def __init__(self) -> None:
        self._listener: BrokerListener | None = None
        self._channels: set[str] = set()

    def attach(self, listener: BrokerListener) -> None:
        """See `Broker.attach`."""
        self._listener = listener

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to free."""

    @property
    def ready(self) -> bool:
        """Always."""
        return True

    async def check(self) -> None:
        """There is nothing in between."""

    def subscribe(self, channel: str) -> None:
        """Done at once."""
        self._channels.add(channel)

    def unsubscribe(self, channel: str) -> None:
        """Done at once."""
        self._channels.discard(channel)

    def publish(self, channel: str, payload: bytes) -> None:
        """Delivered before it returns."""
        if channel in self._channels and self._listener is not None:
            self._listener.message_received(channel, payload)
