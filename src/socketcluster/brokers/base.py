"""What a broker is: publishes of this process to all processes, and back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol


class BrokerListener(Protocol):
    """Who hears from a broker: the exchange. Called in its loop; must not raise."""

    def message_received(self, channel: str, payload: bytes) -> None:
        """A publish on a channel that is subscribed to."""

    def broker_failed(self, error: BaseException) -> None:
        """Something went wrong that no call can report."""


class Broker(Protocol):
    """Carries payloads to every process subscribed to a channel, this one included.

    `subscribe`, `unsubscribe` and `publish` return None if they are done (or, for a publish,
    accepted) at once, else an awaitable of that. Both ways raise `BrokerError` on failure:
    a publish that was not accepted is never dropped silently. The exchange never has two
    operations under way on one channel, except publishes.
    """

    def attach(self, listener: BrokerListener) -> None:
        """Set the one listener; called once, before `start`, maybe before any loop runs."""

    async def start(self) -> None:
        """Get ready. Raises `BrokerError` if that cannot be."""

    async def close(self) -> None:
        """Free everything; nothing is heard after it."""

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """Have publishes on the channel delivered."""

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """Have them no longer delivered."""

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Send the payload to all subscribed processes, in order of the calls."""
