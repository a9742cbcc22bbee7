"""The adapter contract: what a backend's adapter provides to `RemoteBroker`, which does the rest.

A `Connector` opens `Link`s. A link is one connection to the backend and reports to a
`LinkListener`. A lost link stays lost: the broker opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError

AWAY_POLICIES = ("local", "fail")

MAX_BUFFERED = 64 * 1024 * 1024
"""The default of `BrokerOptions.max_buffered`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """How a broker uses its backend. Each option is a parameter of the broker's URL too.

    Attributes:
        prefix: prepended to channel names on the backend, to keep applications apart.
        away: what a publish does while the backend is away. It always raises `BrokerError`; with
            "local" this process's subscribers receive it all the same, with "fail" no subscriber
            does.
        required: whether `start` raises if the backend is unreachable, instead of retrying.
        heartbeat_interval: seconds between heartbeats, which prove that the backend delivers.
        heartbeat_timeout: seconds that a heartbeat may take to return.
        connect_timeout: seconds that connecting may take.
        max_unconfirmed: how many publishes may wait for the backend; further ones are refused.
        max_buffered: how many bytes of publishes may wait for the backend; further ones are
            refused. With ZeroMQ also how many wait at the proxy for a process; past it the process
            loses them and reports a gap. In a URL, a number of bytes, or one with KiB, MiB or GiB.
    """

    prefix: str = "sc"
    away: str = "local"
    required: bool = False
    heartbeat_interval: float = 1.0
    heartbeat_timeout: float = 2.0
    connect_timeout: float = 5.0
    max_unconfirmed: int = 100_000
    max_buffered: int = MAX_BUFFERED


class Publish:
    """A publish that the backend has not answered yet.

    Attributes:
        confirmed: done when the backend accepted the publish; has the error if it refused.
    """

    __slots__ = ("channel", "confirmed", "payload")

    confirmed: asyncio.Future[None]

    def __init__(self, channel: str, payload: bytes, confirmed: asyncio.Future[None]) -> None:
        self.channel: str = channel
        self.payload: bytes = payload
        self.confirmed = confirmed


class StoredPublish(Publish):
    """A publish that the backend stores. See `StoringBroker.publish_stored`."""

    __slots__ = ("id", "retention")

    def __init__(
        self,
        channel: str,
        payload: bytes,
        confirmed: asyncio.Future[None],
        retention: Retention,
        id: str | None,
    ) -> None:
        super().__init__(channel, payload, confirmed)
        self.retention: Retention = retention
        self.id: str | None = id


class LinkListener(Protocol):
    """Receives a link's reports. After `link_lost` it ignores all others."""

    def message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a message from the backend."""

    def publishes_confirmed(self, publishes: Sequence[Publish]) -> None:
        """Complete publishes that the backend accepted."""

    def publish_refused(self, publish: Publish, error: BrokerError) -> None:
        """Fail a publish that the backend refused."""

    def link_failed(self, error: BrokerError) -> None:
        """Report an error that belongs to no call; the link goes on."""

    def link_lost(self, error: BrokerError) -> None:
        """Report that the link is lost."""


class Link(Protocol):
    """One connection to a backend. It sends in the order of the calls."""

    def publish(self, publishes: Sequence[Publish]) -> None:
        """Send publishes in one batch. Each is confirmed or refused later, or the link is lost."""

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """Subscribe to channels; return those that the backend refused, each with the reason.

        Raises:
            Exception: the state of the subscriptions is unknown; the broker drops the link.
        """
        ...

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from channels; return once the backend knows. Raises as `subscribe` does."""

    async def check(self) -> None:
        """Ask the backend whether all subscriptions are still in place, where it can tell.

        Raises:
            BrokerError: the backend dropped some.
        """

    async def close(self) -> None:
        """Disconnect and free all resources; report nothing more."""


class StoringLink(Link, Protocol):
    """A link to a backend that stores. All methods raise as `Link.subscribe` does.

    A BrokerError that they raise about one request leaves the link as it is.
    """

    def publish_stored(self, publishes: Sequence[StoredPublish]) -> None:
        """Store and send publishes in one batch. Each is confirmed or refused later."""

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> Page:
        """See `StoringBroker.history`."""
        ...

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """See `StoringBroker.renew_epoch`."""
        ...

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """See `StoringBroker.keep`."""

    async def take(self, key: str) -> bytes | None:
        """See `StoringBroker.take`."""


class Connector(Protocol):
    """Opens links to one backend."""

    @property
    def name(self) -> str:
        """The backend's address for logs and errors, without credentials."""
        ...

    async def connect(self, listener: LinkListener) -> Link:
        """Open a link that reports to `listener`.

        Raises:
            BrokerError: the backend is unreachable or refuses.
        """
        ...
