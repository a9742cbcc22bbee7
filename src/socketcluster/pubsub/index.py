"""Which sockets and server-side consumers want a channel, on top of one broker.

The broker is told of a channel when its first subscriber here comes and when its last one goes.
A publish is encoded and framed once for all sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from socketcluster.brokers.base import Broker
from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.events import BrokerAwayEvent, BrokerGapEvent
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.fanout import FanOut, Subscriber
from socketcluster.runtime.cancelling import cancel
from socketcluster.streams import NO_VALUE, SMALL, StreamDemux


class ChannelEntry:
    """What is known here of one channel."""

    __slots__ = ("operation", "state", "subscribers", "watched")

    def __init__(self) -> None:
        self.state = UNSUBSCRIBED
        self.subscribers: dict[Subscriber, None] = {}
        self.watched = False
        self.operation: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody here wants it."""
        return self.watched or bool(self.subscribers)


class ChannelIndex:
    """The channels wanted in this process; it listens to the broker.

    Attributes:
        checked: a small payload that is about to be received, and its value.
    """

    __slots__ = (
        "_broker",
        "_emit",
        "_on_error",
        "_outputs",
        "_wire",
        "channels",
        "checked",
        "fan_out",
    )

    def __init__(
        self,
        broker: Broker,
        wire: Wire,
        outputs: StreamDemux[Any],
        on_error: Callable[[BaseException], None],
        emit: Callable[[str, Any], None],
    ) -> None:
        self.channels: dict[str, ChannelEntry] = {}
        self.fan_out = FanOut()
        self._broker = broker
        self._wire = wire
        self._outputs = outputs
        self._on_error = on_error
        self._emit = emit
        self.checked: tuple[bytes, Any] | None = None
        broker.attach(self)

    def close(self) -> None:
        """Give up what the broker is asked to do."""
        for entry in list(self.channels.values()):
            if entry.operation is not None:
                cancel(entry.operation)

    def broker_failed(self, error: BaseException) -> None:
        """See `BrokerListener`."""
        self._on_error(error)

    def backend_lost(self, error: BrokerError) -> None:
        """See `BrokerListener`."""
        self._emit("brokerAway", BrokerAwayEvent(error))

    def backend_recovered(self, duration: float, error: BrokerError) -> None:
        """See `BrokerListener`."""
        self._emit("brokerGap", BrokerGapEvent(duration, error))

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """Deliver what came through a backend, if it is what the codec makes."""
        if channel in self.channels:
            try:
                self.check(payload, self.channels[channel].watched)
            except SocketClusterError as error:
                reason = f"A message on the channel {channel!r} of the backend is foreign: {error}"
                self.broker_failed(BrokerError(reason))
                return
            self.message_received(channel, payload)
            self.checked = None

    def check(self, payload: bytes, wanted: bool) -> None:
        """Refuse a payload that is about to be received, rather than lose it later. If it is small
        and its value wanted, that is kept until then, and not made again.

        Raises:
            InvalidMessageError: it cannot be decoded.
        """
        if wanted and len(payload) <= SMALL:
            self.checked = (payload, self._wire.payloads.decode(payload))
        else:
            self._wire.payloads.check(payload)

    def message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a publish here. Called by the broker."""
        known = self.channels.get(channel)
        if known is None:
            return
        try:
            if known.watched:
                checked, self.checked = self.checked, None
                value = NO_VALUE if checked is None or checked[0] is not payload else checked[1]
                # Kept as bytes where many or large ones wait: a value may be thirty times as large.
                self._outputs.write_payload(channel, payload, self._decoded, value)
            if known.subscribers:
                self.fan_out.publish(
                    channel, known.subscribers, payload, self._wire.payloads.publish_frame
                )
        except Exception as error:  # What called this delivers to others too.
            self.broker_failed(error)

    def _decoded(self, payload: bytes) -> Any:
        try:
            return self._wire.payloads.decode(payload)
        except SocketClusterError as error:
            self.broker_failed(error)
            return NO_VALUE

    def subscribe_socket(self, subscriber: Subscriber, channel: str) -> Awaitable[None] | None:
        """Deliver publishes to a socket; None means that it is done already.

        Raises:
            BrokerError: the broker refused.
        """
        known = self.channels.setdefault(channel, ChannelEntry())
        if known.state != SUBSCRIBED:
            self.want(channel, known)
        self._settle(known)
        # In the index at once, so that another's leaving does not end the shared subscription.
        known.subscribers[subscriber] = None
        if known.operation is None:
            return None
        return self._subscribe_later(subscriber, channel, known, known.operation)

    async def _subscribe_later(
        self,
        subscriber: Subscriber,
        channel: str,
        known: ChannelEntry,
        operation: asyncio.Task[None],
    ) -> None:
        try:
            await self.settled(known, operation)
        except BaseException:
            self.unsubscribe_socket(subscriber, channel)
            raise

    def unsubscribe_socket(self, subscriber: Subscriber, channel: str) -> None:
        """Deliver nothing more to a socket. What the broker has to do for it follows on its own."""
        known = self.channels.get(channel)
        if known is not None:
            self._settle(known)
            known.subscribers.pop(subscriber, None)
            self.release(channel, known)

    def _settle(self, known: ChannelEntry) -> None:
        # What was published so far goes to those who are subscribed so far.
        if self.fan_out.subscribers is known.subscribers:
            self.fan_out.settle()

    # The broker's side of a channel: one operation at a time, and the last wish wins.

    def want(self, channel: str, known: ChannelEntry) -> None:
        """Subscribe to a channel at the broker."""
        if known.operation is not None:
            return
        known.state = PENDING
        try:
            done = self._broker.subscribe(channel)
        except BaseException:
            self.channels.pop(channel, None)
            raise
        if done is None:
            known.state = SUBSCRIBED
        else:
            known.operation = asyncio.ensure_future(self._operate(channel, known, done))
            known.operation.add_done_callback(_retrieve)

    def release(self, channel: str, known: ChannelEntry) -> None:
        """Unsubscribe from a channel that nobody wants any more."""
        if known.wanted or known.operation is not None:
            return
        done = None
        if known.state == SUBSCRIBED:
            try:
                done = self._broker.unsubscribe(channel)
            except Exception as error:
                self.broker_failed(error)
        known.state = UNSUBSCRIBED
        if done is None:
            self.channels.pop(channel, None)
        else:
            known.operation = asyncio.ensure_future(self._operate(channel, known, done))
            known.operation.add_done_callback(_retrieve)

    async def _operate(self, channel: str, known: ChannelEntry, operation: Awaitable[None]) -> None:
        subscribing = known.state == PENDING
        try:
            await operation
            if subscribing:
                known.state = SUBSCRIBED
        except Exception as error:
            if not subscribing:
                self.broker_failed(error)
            else:
                known.state = UNSUBSCRIBED
                known.subscribers.clear()
                known.watched = False
                if isinstance(error, SocketClusterError):
                    raise
                raise BrokerError(str(error)) from error
        finally:
            known.operation = None
            if not known.wanted:
                self.release(channel, known)
            elif known.state == UNSUBSCRIBED:
                self.want(channel, known)

    async def settled(self, known: ChannelEntry, operation: asyncio.Task[None]) -> None:
        """Wait until the broker has done what it was asked to; raises what it raised."""
        while True:
            await asyncio.shield(operation)
            if known.operation is None:
                return
            operation = known.operation


def _retrieve(task: asyncio.Future[None]) -> None:
    # Whoever waits for the operation is told; without this asyncio would log it a second time.
    if not task.cancelled():
        task.exception()
