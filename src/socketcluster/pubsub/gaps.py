"""Gap reports: what an exchange and its sockets learn of an outage of the broker's backend.

The exchange emits 'brokerAway' and 'brokerGap'. A socket that asked for it when it subscribed
receives the event `$gap` for its channel.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any, Protocol

from socketcluster.errors import BrokerError
from socketcluster.events import BrokerAwayEvent, BrokerGapEvent
from socketcluster.pubsub.index import OnBrokerError

SENT_PER_TURN = 1000
"""How many `$gap` events to send before other callbacks of the loop run."""


class GapEmitter(Protocol):
    """Emits the events of an exchange."""

    def emit(self, event: str, data: Any = None) -> None: ...
    def get_listener_consumer_count(self, event: str) -> int: ...


class GapSubscriber(Protocol):
    """The subscription data of a socket, some of which asks for gap reports."""

    def send_gap(self, channel: str, duration: int) -> None:
        """Send `$gap` for a channel; `duration` is in milliseconds."""


class GapReports:
    """Reports outages. It copies names of channels only if a listener or a socket wants them.

    Args:
        channels: the names of all subscribed channels; only read here.
        emitter: emits the exchange's events.
        on_error: called with errors of `send_gap`.

    Attributes:
        count, seconds: outages that are over, and how long they took together.
        fills: returns whether a channel's history fills its gap, so that an outage is no gap; None
            if no channel has history.
    """

    __slots__ = ("_asked", "_channels", "_emitter", "_on_error", "count", "fills", "seconds")

    def __init__(
        self, channels: Collection[str], emitter: GapEmitter, on_error: OnBrokerError
    ) -> None:
        self._channels = channels
        self._emitter = emitter
        self._on_error = on_error
        self._asked: dict[str, dict[GapSubscriber, None]] = {}
        self.count: int = 0
        self.seconds: float = 0.0
        self.fills: Callable[[str], bool] | None = None

    def add(self, channel: str, subscriber: GapSubscriber) -> None:
        """Have a subscriber receive the gaps of a channel."""
        self._asked.setdefault(channel, {})[subscriber] = None

    def discard(self, channel: str, subscriber: GapSubscriber) -> None:
        """Have a subscriber receive the gaps of a channel no more."""
        asked = self._asked.get(channel)
        if asked is not None:
            asked.pop(subscriber, None)
            if not asked:
                del self._asked[channel]

    def lost(
        self, error: BrokerError, channels: Collection[str] | None, server: str | None
    ) -> None:
        """Emit 'brokerAway'."""
        if self._emitter.get_listener_consumer_count("brokerAway"):
            affected = frozenset(self._channels if channels is None else channels)
            self._emitter.emit("brokerAway", BrokerAwayEvent(error, affected, server))

    def recovered(
        self,
        duration: float,
        error: BrokerError,
        channels: Collection[str] | None,
        server: str | None,
    ) -> None:
        """Emit 'brokerGap', and send `$gap` to the sockets that asked for it."""
        self.count += 1
        self.seconds += duration / 1000
        is_listened_to = self._emitter.get_listener_consumer_count("brokerGap") > 0
        if not is_listened_to and not self._asked:
            return
        affected = frozenset(self._channels if channels is None else channels)
        if self.fills is not None:
            affected = frozenset(channel for channel in affected if not self.fills(channel))
        if is_listened_to:
            self._emitter.emit("brokerGap", BrokerGapEvent(duration, error, affected, server))
        waiting = [
            (channel, subscriber)
            for channel, asked in self._asked.items()
            if channel in affected
            for subscriber in asked
        ]
        self._send(iter(waiting), math.ceil(duration))

    def channel_lost(self, channel: str, duration: float, error: BrokerError) -> None:
        """Report that publishes of a channel with history are missing, as `recovered` does."""
        if self._emitter.get_listener_consumer_count("brokerGap"):
            event = BrokerGapEvent(duration, error, frozenset((channel,)), None)
            self._emitter.emit("brokerGap", event)
        waiting = [(channel, subscriber) for subscriber in self._asked.get(channel, ())]
        self._send(iter(waiting), math.ceil(duration))

    def _send(self, waiting: Iterator[tuple[str, GapSubscriber]], duration: int) -> None:
        sent = 0
        for channel, subscriber in islice(waiting, SENT_PER_TURN):
            sent += 1
            try:
                subscriber.send_gap(channel, duration)
            except Exception as error:  # Others wait for theirs.
                self._on_error(error, "gap", channel)
        if sent == SENT_PER_TURN:
            asyncio.get_running_loop().call_soon(self._send, waiting, duration)
