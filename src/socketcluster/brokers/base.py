"""What a broker is: publishes of this process to all processes, and back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from socketcluster.errors import BrokerError


class BrokerListener(Protocol):
    """Who hears from a broker: the exchange. Called in its loop; must not raise."""

    def message_received(self, channel: str, payload: bytes) -> None:
        """A publish of this process on a channel that is subscribed to, come straight back."""

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """A publish that a backend delivered: anybody may have sent it, so it is not checked."""

    def broker_failed(self, error: BaseException) -> None:
        """Something went wrong that no call can report."""

    def backend_lost(self, error: BrokerError) -> None:
        """The backend cannot be reached, or no longer delivers; the broker tries again."""

    def backend_recovered(self, duration: float, error: BrokerError) -> None:
        """The backend is back after `error`, and everything is subscribed again.

        Publishes of the last `duration` milliseconds may be missing: since the last time that
        the backend was known to deliver.
        """


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

    @property
    def ready(self) -> bool:
        """Whether publishes reach, and come from, all processes, as far as is known."""

    async def check(self) -> None:
        """Send something through the backend and wait until it comes back.

        Raises `BrokerError` if it does not within a few seconds.
        """

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """Have publishes on the channel delivered."""

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """Have them no longer delivered."""

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Send the payload to all subscribed processes, in order of the calls."""
