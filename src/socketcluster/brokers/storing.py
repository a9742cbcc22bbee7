"""The contract of brokers that store: a channel's publishes with positions, to be read again."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from socketcluster.options import has_methods
from socketcluster.position import Position as Position  # noqa: PLC0414 - It is public here.


@dataclass(frozen=True, slots=True)
class Retention:
    """The amount of a channel that the backend keeps.

    Attributes:
        size: the number of publishes.
        ttl: seconds; a publish may be read for so long.
    """

    size: int
    ttl: float


class StoredMessage(NamedTuple):
    """One publish of a history.

    Attributes:
        offset: its number.
        previous: the offset of the publish before it, even if that one is no longer stored.
        payload: its data, encoded.
    """

    offset: int
    previous: int
    payload: bytes


class Page(NamedTuple):
    """A part of a history, read at one moment.

    Attributes:
        messages: from the oldest to the newest, or the other way round if it was read backwards.
        top: the position of the channel's newest publish at that moment, whether the page has it or
            not.
        complete: whether nothing is missing between the start that was asked for and the first
            message: it was not trimmed, is not behind `top`, and its epoch is that of `top`.
    """

    messages: list[StoredMessage]
    top: Position
    complete: bool


class StoringBroker(Protocol):
    """The addition to a `Broker` that stores publishes.

    A stored publish reaches the listeners of all processes that are subscribed to the channel, as
    any other does, in an envelope of the kind STORED (`protocol.envelopes`). Those of one channel
    arrive in the order of their offsets, unless the backend loses some: `previous` tells. Other
    programs may publish to the channel without storing; those publishes come without an envelope.

    During an outage nothing is stored, and a stored publish is delivered nowhere.
    """

    def publish_stored(
        self, channel: str, payload: bytes, retention: Retention, id: str | None = None
    ) -> Awaitable[None] | None:
        """Store and send a publish; complete once the backend has done both.

        A second publish to the channel with the same `id`, within 5 minutes, is not stored nor
        sent; it completes as the first one did.

        Raises:
            BrokerError: as `Broker.publish` does.
        """

    async def history(
        self,
        channel: str,
        retention: Retention,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """Read a history. A channel without one gets an epoch, so that its position is known.

        Args:
            channel: its name.
            retention: as for the publishes.
            since: start with the first publish behind this position, or the last one before it if
                `reverse`; None for the oldest stored publish, or the newest one if `reverse`. A
                position of another epoch is taken as None, for a page that is not complete.
            limit: the most messages to read; 0 for the position only, None for all.
            reverse: read from the newest to the oldest.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        ...

    async def renew_epoch(self, channel: str, retention: Retention, seen: Position) -> Position:
        """Give a channel another epoch if it went back: if it is in the epoch of `seen`, before it.

        Of several processes that ask, one makes the epoch. Returns the present position.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        ...

    async def keep(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Keep values under keys, in one batch, for any process to take; replace former ones.

        Raises:
            BrokerError: the backend is away, or refused.
        """

    async def take(self, key: str) -> bytes | None:
        """Remove a kept value and return it; None if there is none. One process gets it.

        Raises:
            BrokerError: the backend is away, or refused.
        """


def stores(broker: Any) -> bool:
    """Whether a broker is a `StoringBroker`; its `stores`, if it has one, decides."""
    methods = ("publish_stored", "history", "renew_epoch")
    return has_methods(broker, *methods) and bool(getattr(broker, "stores", True))


def broker_name(broker: Any) -> str:
    """Name a broker in an error."""
    return str(getattr(broker, "name", None) or f"the broker {type(broker).__name__}")
