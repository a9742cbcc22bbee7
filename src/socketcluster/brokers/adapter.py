"""What an adapter of a backend provides to `RemoteBroker`, which does all the rest.

A `Connector` opens `Link`s; a link is one session with the backend, and dead once it was lost. It
reports to the `LinkListener` that it was opened for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from socketcluster.errors import BrokerError

AWAY_POLICIES = ("local", "fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """How a broker uses its backend; each is a parameter of the broker's URL too.

    Attributes:
        prefix: what channel names begin with on the backend, to keep applications apart.
        away: what a publish does while the backend is away. Both ways it raises `BrokerError`;
            with "local" the subscribers of this process get it all the same, with "fail" nobody.
        required: have `start` raise if the backend cannot be reached, instead of trying on.
        heartbeat_interval: seconds between the round trips that show that the backend delivers.
        heartbeat_timeout: seconds that one may take.
        connect_timeout: seconds that connecting may take.
        max_unconfirmed: publishes that may wait for the backend; more are refused.
    """

    prefix: str = "sc"
    away: str = "local"
    required: bool = False
    heartbeat_interval: float = 1.0
    heartbeat_timeout: float = 2.0
    connect_timeout: float = 5.0
    max_unconfirmed: int = 100_000


class Publish:
    """A publish under way."""

    __slots__ = ("channel", "payload", "taken")

    def __init__(self, channel: str, payload: bytes, taken: asyncio.Future[None]) -> None:
        self.channel = channel
        self.payload = payload
        self.taken = taken


class LinkListener(Protocol):
    """What a link reports to. Nothing reported after `lost` has an effect."""

    def message(self, channel: str, payload: bytes) -> None:
        """The backend delivered something."""

    def taken(self, publishes: Sequence[Publish]) -> None:
        """The backend has taken these."""

    def refused(self, publish: Publish, error: BrokerError) -> None:
        """The backend has not taken this."""

    def failed(self, error: BrokerError) -> None:
        """Something went wrong that belongs to no call."""

    def lost(self, error: BrokerError) -> None:
        """The link is dead."""


class Link(Protocol):
    """One session with a backend. Its calls keep their order."""

    def publish(self, publishes: Sequence[Publish]) -> None:
        """Send these, in order and in one go; `taken` or `refused` follows for each."""

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        """Return once the backend delivers these channels: those that it refused, and why."""

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once the backend was told that these are no longer wanted."""

    async def check(self) -> None:
        """Raise `BrokerError` if the backend can tell that a subscription was dropped."""

    async def close(self) -> None:
        """Free everything; nothing already received is reported after it."""


class Connector(Protocol):
    """Opens links to one backend."""

    @property
    def name(self) -> str:
        """The backend for people: where it is, without credentials."""

    async def connect(self, session: LinkListener) -> Link:
        """Open a link.

        Raises:
            BrokerError: the backend cannot be reached, or refuses.
        """
