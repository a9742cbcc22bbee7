"""The channel index: the subscribers of each channel, on top of one broker.

The index subscribes to a channel at the broker for its first subscriber in this process, and
unsubscribes after the last one left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from socketcluster.brokers.base import Broker
from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.literals import SubscriptionState
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.pubsub.fanout import FanOut, Subscriber
from socketcluster.runtime.cancelling import cancel


class OnBrokerError(Protocol):
    """Called with an error that no call can raise.

    `action` says what failed: 'publish', 'unsubscribe', 'history' (reading it), 'foreign' (a
    message of the backend that is no publish), or 'background'.
    """

    def __call__(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None: ...


class ChannelEntry:
    """One channel's subscribers and its subscription at the broker. Only the index changes it.

    Attributes:
        subscribers: the sockets, in order of subscription.
        exchange_subscribed: whether the exchange itself is a subscriber.
        state: the subscription's state at the broker.
        operation: the task that subscribes or unsubscribes at the broker; None when none runs.
        stored: follows the channel's history; None if it has none.
        joining: the recoveries that will add a socket.
        direct: whether publishes go to the broker, and from it to the sockets, and nowhere else.
    """

    __slots__ = (
        "direct",
        "exchange_subscribed",
        "joining",
        "operation",
        "state",
        "stored",
        "subscribers",
    )

    def __init__(self, stored: StoredChannel | None = None) -> None:
        self.subscribers: dict[Subscriber, None] = {}
        self.exchange_subscribed: bool = False
        self.stored: StoredChannel | None = stored
        self.joining: set[object] = set()
        self.direct: bool = stored is None
        self.state: SubscriptionState = UNSUBSCRIBED
        self.operation: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether the channel has a subscriber in this process, or is about to have one."""
        return self.exchange_subscribed or bool(self.subscribers) or bool(self.joining)

    def subscribe_exchange(self, subscribed: bool) -> None:
        """Add the exchange, or remove it."""
        self.exchange_subscribed = subscribed
        self.direct = self.stored is None and not subscribed


class ChannelIndex:
    """Keeps the entries of all channels.

    Each method that changes a subscription decides synchronously: it records the new subscriber or
    removes the former one, then `_reconcile` compares the entry with the broker. I/O follows only
    where the broker needs it, in a task of the entry. A method that returns None is complete.

    Args:
        broker: subscribes this process.
        fan_out: delivers publishes to the entries' sockets.
        on_error: called with errors that no call can raise.

    Attributes:
        channels: channel → entry, for channels that have a subscriber or an operation. Read only.
        follow: makes the follower of a channel's history, or returns None for one without history.
    """

    __slots__ = ("_broker", "_fan_out", "_on_error", "channels", "follow")

    def __init__(self, broker: Broker, fan_out: FanOut, on_error: OnBrokerError) -> None:
        self.channels: dict[str, ChannelEntry] = {}
        self._broker = broker
        self._fan_out = fan_out
        self._on_error = on_error
        self.follow: Callable[[str], StoredChannel | None] = _has_no_history

    def _entry(self, channel: str) -> ChannelEntry:
        entry = self.channels.get(channel)
        if entry is None:
            entry = self.channels[channel] = ChannelEntry(self.follow(channel))
        return entry

    def close(self) -> None:
        """Cancel all operations at the broker."""
        for entry in list(self.channels.values()):
            if entry.operation is not None:
                cancel(entry.operation)

    def subscribe_socket(self, subscriber: Subscriber, channel: str) -> Awaitable[None] | None:
        """Add a socket to a channel's subscribers; None means that it is subscribed already.

        Cancelling the awaitable unsubscribes the socket.

        Raises:
            BrokerError: the broker refused the channel.
        """
        entry = self._entry(channel)
        self._deliver_collected(entry)
        # Recorded before the broker answers, so that the channel is not unsubscribed meanwhile
        # when its other subscribers leave.
        entry.subscribers[subscriber] = None
        self._reconcile(channel, entry)
        if entry.operation is None:
            return None
        return self._wait_for_socket(subscriber, channel, entry, entry.operation)

    async def _wait_for_socket(
        self,
        subscriber: Subscriber,
        channel: str,
        entry: ChannelEntry,
        operation: asyncio.Task[None],
    ) -> None:
        try:
            await self._wait(entry, operation)
        except BaseException:
            self.unsubscribe_socket(subscriber, channel)
            raise

    def hold(self, channel: str, place: object) -> ChannelEntry:
        """Subscribe for a socket that will join, and keep the entry until `release`.

        Raises:
            BrokerError: the broker refused the channel.
        """
        entry = self._entry(channel)
        entry.joining.add(place)
        self._reconcile(channel, entry)
        return entry

    async def settled(self, entry: ChannelEntry) -> None:
        """Wait until an entry is subscribed.

        Raises:
            BrokerError: the broker refused the channel.
        """
        if entry.operation is not None:
            await self._wait(entry, entry.operation)

    def join(self, entry: ChannelEntry, subscriber: Subscriber) -> bool:
        """Add a socket to the subscribers; return whether it is a new one."""
        self._deliver_collected(entry)
        is_new = subscriber not in entry.subscribers
        entry.subscribers[subscriber] = None
        return is_new

    def release(self, channel: str, entry: ChannelEntry, place: object) -> None:
        """Drop the entry unless it has a subscriber."""
        entry.joining.discard(place)
        if self.channels.get(channel) is entry:
            self._reconcile(channel, entry)

    def unsubscribe_socket(self, subscriber: Subscriber, channel: str) -> None:
        """Remove a socket from a channel's subscribers. The broker follows in the background."""
        entry = self.channels.get(channel)
        if entry is not None:
            self._deliver_collected(entry)
            entry.subscribers.pop(subscriber, None)
            self._reconcile(channel, entry)

    def _deliver_collected(self, entry: ChannelEntry) -> None:
        # Deliver earlier publishes before the set of subscribers changes.
        if self._fan_out.subscribers is entry.subscribers:
            self._fan_out.deliver()

    def subscribe_exchange(self, channel: str) -> Awaitable[None] | None:
        """Add the exchange to a channel's subscribers; None means that it is subscribed already.

        Raises:
            BrokerError: the broker refused the channel.
        """
        entry = self._entry(channel)
        entry.subscribe_exchange(True)
        self._reconcile(channel, entry)
        return None if entry.operation is None else self._wait(entry, entry.operation)

    def unsubscribe_exchange(self, channel: str) -> bool:
        """Remove the exchange from a channel's subscribers; return whether it was in place."""
        entry = self.channels.get(channel)
        if entry is None or not entry.exchange_subscribed:
            return False
        was_subscribed = entry.state == SUBSCRIBED
        entry.subscribe_exchange(False)
        self._reconcile(channel, entry)
        return was_subscribed

    def has_exchange(self, channel: str) -> bool:
        """Return whether the exchange is a subscriber, or about to be one."""
        entry = self.channels.get(channel)
        return entry is not None and entry.exchange_subscribed

    def exchange_state(self, channel: str) -> SubscriptionState:
        """Return the state of the exchange's own subscription."""
        entry = self.channels.get(channel)
        return entry.state if entry is not None and entry.exchange_subscribed else UNSUBSCRIBED

    # The subscription at the broker

    def _reconcile(self, channel: str, entry: ChannelEntry) -> None:
        """Bring the broker's subscription in line with the entry's subscribers.

        There are four cases:

        1. An operation runs. It calls this again when it ends, so the latest decision wins.
        2. The channel is wanted and not subscribed: subscribe. Raises `BrokerError` if the broker
           refuses at once.
        3. The channel is subscribed or refused, and not wanted: unsubscribe, and drop the entry.
        4. The channel is wanted and subscribed: nothing to do.
        """
        if entry.operation is not None:
            return
        pending: Awaitable[None] | None = None
        if not entry.wanted:
            was_subscribed, entry.state = entry.state == SUBSCRIBED, UNSUBSCRIBED
            if was_subscribed:
                try:
                    pending = self._broker.unsubscribe(channel)
                except Exception as error:
                    self._on_error(error, "unsubscribe", channel)
            if entry.stored is not None:
                entry.stored.close()
            if pending is None:
                self.channels.pop(channel, None)
        elif entry.state != SUBSCRIBED:
            pending = self._subscribe(channel, entry)
        if pending is not None:
            entry.operation = asyncio.ensure_future(self._operate(channel, entry, pending))
            entry.operation.add_done_callback(_retrieve)

    def _subscribe(self, channel: str, entry: ChannelEntry) -> Awaitable[None] | None:
        entry.state = PENDING
        try:
            pending = self._broker.subscribe(channel)
        except BaseException:
            self.channels.pop(channel, None)
            raise
        if entry.stored is not None and _has_loop():
            pending = self._follow(channel, entry.stored, pending)
        if pending is None:
            entry.state = SUBSCRIBED
        return pending

    async def _follow(
        self, channel: str, stored: StoredChannel, pending: Awaitable[None] | None
    ) -> None:
        """Wait for the broker's subscription, then for the channel's position."""
        if pending is not None:
            await pending
        try:
            await stored.start()
        except BrokerError:
            await self._leave(channel)
            raise

    async def _leave(self, channel: str) -> None:
        """Unsubscribe at the broker; report an error."""
        try:
            pending = self._broker.unsubscribe(channel)
            if pending is not None:
                await pending
        except Exception as error:
            self._on_error(error, "unsubscribe", channel)

    async def _operate(self, channel: str, entry: ChannelEntry, pending: Awaitable[None]) -> None:
        """Wait for the broker, then reconcile again."""
        is_subscribing = entry.state == PENDING
        try:
            await pending
            if is_subscribing:
                entry.state = SUBSCRIBED
        except asyncio.CancelledError:  # By `close`.
            self._remove_subscribers(entry)
            raise
        except Exception as error:
            if not is_subscribing:
                self._on_error(error, "unsubscribe", channel)
                return
            self._remove_subscribers(entry)
            if isinstance(error, SocketClusterError):
                raise
            raise BrokerError(str(error)) from error
        finally:
            entry.operation = None
            self._reconcile(channel, entry)

    def _remove_subscribers(self, entry: ChannelEntry) -> None:
        entry.state = UNSUBSCRIBED
        entry.subscribers.clear()
        entry.joining.clear()
        entry.subscribe_exchange(False)

    async def _wait(self, entry: ChannelEntry, operation: asyncio.Task[None]) -> None:
        """Wait until no operation runs; raise the error of the one that failed."""
        while True:
            await asyncio.shield(operation)
            if entry.operation is None:
                return
            operation = entry.operation


def match_again(index: ChannelIndex) -> None:
    """Follow the histories of channels that have an entry and got a rule, and read positions.

    The exchange calls this as it starts.
    """
    for channel, entry in index.channels.items():
        if entry.stored is None:
            entry.stored = index.follow(channel)
            entry.subscribe_exchange(entry.exchange_subscribed)
        if entry.stored is not None and entry.stored.position is None:
            entry.stored.resync()


def _has_no_history(channel: str) -> StoredChannel | None:
    return None


def _has_loop() -> bool:
    """Whether a loop runs; without one, the exchange reads positions as it starts."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _retrieve(task: asyncio.Future[None]) -> None:
    # Waiters raise the operation's error; asyncio must not log it as well.
    if not task.cancelled():
        task.exception()
