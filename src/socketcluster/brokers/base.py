"""The broker contract: how publishes travel from this process to all processes, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple, Protocol

from socketcluster.errors import BrokerError


class BrokerListener(Protocol):
    """Receives a broker's reports. The broker calls it in its event loop; it must not raise."""

    def message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a publish of this process, which has not left it: its payload is trusted."""

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a publish from a backend. Its sender is unknown, so its payload is checked."""

    def broker_failed(self, error: BaseException) -> None:
        """Report an error that no call can raise."""

    def backend_lost(
        self,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """Report an outage: the backend is unreachable or does not deliver. The broker retries.

        See `backend_recovered` for `channels` and `server`.
        """

    def backend_recovered(
        self,
        duration: float,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """Report the end of an outage; all channels are subscribed again.

        Args:
            duration: milliseconds since the backend last proved that it delivers. Publishes of
                that time may be missing.
            error: the cause, as `backend_lost` had it.
            channels: the subscribed channels that the outage affected; None means all. It may
                change after the call.
            server: the address of the lost server; None if the broker does not know it.
        """


class InternalBroker(NamedTuple):
    """A broker for messages between servers.

    Attributes:
        broker: not started; a channel of it is an internal name.
        prefix: that of the application on the backend.
    """

    broker: Broker
    prefix: str


class BackendBroker:
    """The addition to a `Broker` that lets servers send each other messages through its backend.

    Attributes:
        internal: makes a broker for internal names, to which no name of a channel leads. None
            where that is not possible. A broker without this attribute works, without messages
            between servers.
    """

    internal: Callable[[], InternalBroker] | None = None


class Broker(Protocol):
    """Carries payloads to every process that is subscribed to a channel, this one included.

    Guarantees: a channel's payloads from one process arrive in the order of the `publish` calls,
    each at most once. A publish that the broker did not accept raises; none is dropped silently.

    `subscribe`, `unsubscribe` and `publish` decide synchronously. They return None if the operation
    is complete, or an awaitable that completes it. Cancelling that awaitable only stops the wait.
    The caller runs at most one `subscribe` or `unsubscribe` per channel at a time, and may publish
    at any time, before `start` too.
    """

    def attach(self, listener: BrokerListener) -> None:
        """Set the listener. Called once, before all other calls, maybe without an event loop."""

    async def start(self) -> None:
        """Connect. Subscriptions made before, even before a `close`, take effect.

        Raises:
            BrokerError: the broker cannot work and will not retry.
        """

    async def close(self) -> None:
        """Disconnect, once the backend accepted the publishes so far or a few seconds have passed.

        Reports nothing to the listener afterwards. Subscriptions stay, and `start` may follow.
        """

    @property
    def ready(self) -> bool:
        """Whether publishes reach all processes, as far as the broker knows without asking."""
        ...

    async def check(self) -> None:
        """Send a message through the backend and wait until it returns.

        Raises:
            BrokerError: it did not return within a few seconds.
        """

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        """Deliver the channel's publishes to the listener; complete once that is in place.

        Raises:
            BrokerError: the backend refused the channel, which is then not subscribed.
        """

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        """Stop delivering the channel's publishes; complete once the backend knows.

        Raises:
            BrokerError: the backend did not confirm. Nothing is delivered all the same.
        """

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Send a payload to all subscribed processes; complete once the backend accepted it.

        Raises:
            BrokerError: the backend refused it, is unreachable, or was lost before it answered. In
                the last case the payload may have been delivered.
        """


class MeasuredBroker(Protocol):
    """A broker that tells how its backend does."""

    def measure(self) -> tuple[int, float | None]:
        """Return how many publishes the backend has not accepted yet, and its round trip.

        That is in seconds, of the last heartbeat; None while the backend is away. With several
        servers it is that of the slowest.
        """
        ...
