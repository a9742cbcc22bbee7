"""AGExchange: the server's own part in pub/sub, on top of the index of channels and a broker.

Source: SocketCluster documentation, AGExchange; npm ag-simple-broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from socketcluster.brokers.base import Broker
from socketcluster.codecs.text import whole_text
from socketcluster.events import (
    ErrorEvent,
    ReadyEvent,
    SubscribeEvent,
    SubscribeFailEvent,
    UnsubscribeEvent,
)
from socketcluster.options import check_text, checked_name
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.channel import AGChannel
from socketcluster.pubsub.channel_methods import ChannelMixin
from socketcluster.pubsub.fanout import FanOut, Subscriber
from socketcluster.pubsub.index import ChannelEntry, ChannelIndex
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter, clean, one_line
from socketcluster.streams import AsyncStreamEmitter, Bound, ConsumableStream, StreamDemux

logger = logging.getLogger("socketcluster")

EXCHANGE_EVENTS = frozenset(
    ["subscribe", "unsubscribe", "subscribeFail", "error", "ready", "brokerAway", "brokerGap"]
)


class AGExchange(ChannelMixin, AsyncStreamEmitter):
    """The server's own pub/sub client, and the local index of its sockets' subscriptions.

    Events: 'subscribe', 'unsubscribe', 'subscribeFail', 'error', 'ready', 'brokerAway',
    'brokerGap'. Its calls pass no middleware. It can be made and used before any event loop runs.
    """

    __slots__ = (
        "_channel_listeners",
        "_channel_outputs",
        "_channels",
        "_index",
        "_on_error",
        "_reporter",
        "_wire",
        "broker",
        "is_ready",
    )

    id = "exchange"

    def __init__(
        self,
        broker: Broker,
        wire: Wire,
        on_error: Callable[[BaseException], None] = lambda error: None,
        loop_binding: LoopBinding | None = None,
        reporter: Reporter | None = None,
        bound: Bound | None = None,
    ) -> None:
        """`bound` is on each consumer of the exchange's channels."""
        super().__init__(loop_binding)
        self._reporter = Reporter(logger) if reporter is None else reporter
        self._on_error = on_error
        self.broker = broker
        self.is_ready = False
        self._wire = wire
        self._channel_outputs = StreamDemux[Any](binding=self.loop_binding, bound=bound)
        self._channel_listeners = StreamDemux[Any](binding=self.loop_binding)
        self._index = ChannelIndex(broker, wire, self._channel_outputs, self._failed, self.emit)
        self._channels = self._index.channels

    async def start(self) -> None:
        """Start the broker; 'ready' follows. Called by the server.

        Raises:
            BrokerError: the broker cannot start.
        """
        if not self.is_ready:
            await self.broker.start()
            self.is_ready = True
            self.emit("ready", ReadyEvent())

    async def close(self) -> None:
        """Close the broker. Called by the server."""
        self.is_ready = False
        self._index.close()
        await self.broker.close()

    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event. Any name is one; one that looks like a documented event is
        logged."""
        stream = super().listener(event)
        self._reporter.check_event_name(event, EXCHANGE_EVENTS)
        return stream

    # Publishing

    def transmit_publish(self, channel: str, data: Any) -> None:
        """Publish without waiting; what the broker refuses later is emitted as 'error'.

        Raises:
            BrokerError: the broker refused it at once.
            InvalidArgumentsError: the codec cannot encode `data`, or the channel has no name.
        """
        self.loop_binding.check()
        checked_name("A channel's name", channel)
        channel = whole_text(channel)
        accepted = self.publish_payload(channel, self._wire.payloads.encode(data))
        if accepted is not None:
            _then(accepted, lambda error: None if error is None else self._failed(error))

    async def invoke_publish(self, channel: str, data: Any) -> None:
        """Publish and wait until the broker accepted it. Cancelling stops the waiting only.

        Raises:
            BrokerError: the broker refused it.
            InvalidArgumentsError: the codec cannot encode `data`, or the channel has no name.
        """
        self.loop_binding.check()
        checked_name("A channel's name", channel)
        channel = whole_text(channel)
        accepted = self.publish_payload(channel, self._wire.payloads.encode(data))
        if accepted is not None:
            await accepted

    def publish_payload(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Publish encoded data; None means that it was accepted already.

        Raises:
            InvalidMessageError: a consumer here wants the data and it cannot be decoded.
            BrokerError: the broker refused it.
        """
        known = self._channels.get(channel)
        if known is None or not known.watched:
            return self.broker.publish(channel, payload)
        self._index.check(payload, True)
        try:
            return self.broker.publish(channel, payload)
        finally:
            self._index.checked = None

    def _failed(self, error: BaseException) -> None:
        self.emit("error", ErrorEvent(error))
        self._on_error(error)

    @property
    def fan_out(self) -> FanOut:
        """What brings publishes to its sockets."""
        return self._index.fan_out

    def subscribe_socket(self, subscriber: Subscriber, channel: str) -> Awaitable[None] | None:
        """See `ChannelIndex.subscribe_socket`."""
        return self._index.subscribe_socket(subscriber, channel)

    def unsubscribe_socket(self, subscriber: Subscriber, channel: str) -> None:
        """See `ChannelIndex.unsubscribe_socket`."""
        self._index.unsubscribe_socket(subscriber, channel)

    # The exchange's own channels

    def subscribe(self, channel: str) -> AGChannel:
        """Subscribe the server itself; returns the channel, whose `async for` yields publishes.

        Raises:
            BrokerError: the broker refused at once; a later refusal is emitted as 'subscribeFail'.
            InvalidArgumentsError: the channel has no name.
        """
        self.loop_binding.check()
        checked_name("A channel's name", channel)
        channel = whole_text(channel)
        known = self._channels.setdefault(channel, ChannelEntry())
        if not known.watched:
            known.watched = True
            if known.state != SUBSCRIBED:
                self._index.want(channel, known)
            if known.operation is not None:
                _then(
                    self._index.settled(known, known.operation),
                    lambda error: self._subscribed(channel, error),
                )
            else:
                self._subscribed(channel, None)
        return self.channel(channel)

    def _subscribed(self, channel: str, error: BaseException | None) -> None:
        if error is None:
            self._emit_channel("subscribe", SubscribeEvent(channel))
            return
        if not (
            self.channel_is_listened_to(channel, "subscribeFail")
            or self.get_listener_consumer_count("subscribeFail")
        ):
            self._reporter.line(
                f"The exchange's subscription to {clean(channel)!r} failed, and nobody listens to "
                f"'subscribeFail': {one_line(error)}",
                logging.WARNING,
                ("subscribeFail", type(error).__qualname__),
            )
        self._emit_channel("subscribeFail", SubscribeFailEvent(channel, error))

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe the server itself; its sockets are not touched."""
        self.loop_binding.check()
        check_text("A channel's name", channel)
        known = self._channels.get(channel)
        if known is None or not known.watched:
            return
        was_subscribed = known.state == SUBSCRIBED
        known.watched = False
        self._index.release(channel, known)
        if was_subscribed:
            self._emit_channel("unsubscribe", UnsubscribeEvent(channel))

    def _emit_channel(
        self,
        name: str,
        event: SubscribeEvent | UnsubscribeEvent | SubscribeFailEvent,
    ) -> None:
        self._channel_listeners.write(f"{event.channel}/{name}", event)
        self.emit(name, event)

    def channel(self, channel: str) -> AGChannel:
        """A view of a channel; it does not subscribe."""
        return AGChannel(channel, self, self)

    def get_channel_state(self, channel: str) -> str:
        """'pending', 'subscribed' or 'unsubscribed': of the server itself, not of its sockets."""
        known = self._channels.get(channel)
        return known.state if known is not None and known.watched else UNSUBSCRIBED

    def get_channel_options(self, channel: str) -> dict[str, Any]:
        """Always empty: an exchange subscribes without options."""
        return {}

    def subscriptions(self, include_pending: bool = False) -> list[str]:
        """The channels the server itself is subscribed to."""
        return [name for name in list(self._channels) if self.is_subscribed(name, include_pending)]

    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool:
        """Whether the server itself is subscribed."""
        state = self.get_channel_state(channel)
        return state == SUBSCRIBED or (include_pending and state == PENDING)

    def get_backpressure(self) -> int:
        """The highest backpressure of any consumer of the exchange, its channels or listeners."""
        return max(self.get_all_listeners_backpressure(), self.get_all_channels_backpressure())

    def destroy(self) -> None:
        """End all loops over the exchange's channels and events once they took their backlog."""
        self.close_all_channels()
        self.close_all_listeners()


def _then(awaitable: Awaitable[None], done: Callable[[BaseException | None], None]) -> None:
    """Have `done(error or None)` called when something that nobody awaits is over."""

    def finished(task: asyncio.Future[None]) -> None:
        if not task.cancelled():
            done(task.exception())

    # Kept alive by what it waits for: a channel's operation or the broker's own future.
    asyncio.ensure_future(awaitable).add_done_callback(finished)
