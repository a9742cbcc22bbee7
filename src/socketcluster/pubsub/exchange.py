"""AGExchange: the server's own pub/sub client, on top of the channel index and a broker.

Source: SocketCluster documentation, AGExchange; npm ag-simple-broker.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from socketcluster.brokers.base import Broker
from socketcluster.events import (
    ErrorEvent,
    ReadyEvent,
    SubscribeEvent,
    SubscribeFailEvent,
    UnsubscribeEvent,
)
from socketcluster.generics import TypeForm
from socketcluster.literals import SubscriptionState
from socketcluster.options import check_text
from socketcluster.protocol.payloads import Payloads
from socketcluster.protocol.state import PENDING, SUBSCRIBED
from socketcluster.pubsub.channel import AGChannel, channel_name
from socketcluster.pubsub.channel_methods import ChannelMixin
from socketcluster.pubsub.delivery import PublishDelivery
from socketcluster.pubsub.fanout import FanOut, Subscriber
from socketcluster.pubsub.frame_limit import FrameLimit
from socketcluster.pubsub.gaps import GapReports
from socketcluster.pubsub.history_methods import HistoryMixin
from socketcluster.pubsub.index import ChannelIndex, OnBrokerError, match_again
from socketcluster.pubsub.listeners import ExchangeListeners
from socketcluster.pubsub.listing import ChannelListing
from socketcluster.pubsub.presence_methods import Members, PresenceMixin
from socketcluster.pubsub.publish_methods import PublishMixin, when_done
from socketcluster.pubsub.recovery import Recoveries
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.pubsub.stored import StoredPublishes
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter, clean, one_line
from socketcluster.streams import Bound, StreamDemux

T = TypeVar("T")

Publish = Callable[[str, bytes], Awaitable[None] | None]
SubscribeSocket = Callable[[Subscriber, str], Awaitable[None] | None]
UnsubscribeSocket = Callable[[Subscriber, str], None]

logger: logging.Logger = logging.getLogger("socketcluster")


class AGExchange(PublishMixin, HistoryMixin, ChannelMixin, PresenceMixin, ExchangeListeners):
    """The server's own pub/sub client, which also serves its sockets' subscriptions.

    Events: 'subscribe', 'unsubscribe', 'subscribeFail', 'error', 'ready', 'brokerAway',
    'brokerGap', 'occupied', 'vacated'. No middleware runs on its calls. It can be made and used
    before an event loop runs.

    Attributes:
        broker: carries publishes to all processes.
        delivery: hands publishes to the broker, and those of the broker to subscribers.
        fan_out: delivers publishes to the server's sockets.
        gaps: reports outages of the broker's backend.
        is_ready: whether the broker is started.
        stored: the publishes of channels with history.
        listing: lists the channels of all servers.
        members: knows the members of channels that have presence; None if none has.
        publish_payload: see `PublishDelivery.publish`; a method here would take 1 % of a publish.
        subscribe_socket, unsubscribe_socket: see `ChannelIndex`. The server replaces them if names
            of channels have a meaning.
    """

    __slots__ = (
        "_channel_listeners",
        "_channel_outputs",
        "_index",
        "_on_error",
        "_payloads",
        "_recoveries",
        "_reporter",
        "broker",
        "delivery",
        "fan_out",
        "gaps",
        "is_ready",
        "listing",
        "members",
        "publish_payload",
        "stored",
        "subscribe_socket",
        "unsubscribe_socket",
    )

    id = "exchange"

    def __init__(
        self,
        broker: Broker,
        payloads: Payloads,
        on_error: OnBrokerError = lambda error, action="", channel=None: None,
        loop_binding: LoopBinding | None = None,
        reporter: Reporter | None = None,
        bound: Bound | None = None,
        max_frame: int = sys.maxsize,
        rules: RuleTable | None = None,
    ) -> None:
        """Make an exchange.

        `bound` limits each consumer of its channels, `max_frame` the bytes of a publish's frame.
        """
        super().__init__(loop_binding)
        self._reporter = Reporter(logger) if reporter is None else reporter
        self._on_error = on_error
        self.broker: Broker = broker
        self.is_ready: bool = False
        self._payloads = payloads
        self._channel_outputs = StreamDemux[Any](binding=self.loop_binding, bound=bound)
        self._channel_listeners = StreamDemux[Any](binding=self.loop_binding)
        self.fan_out: FanOut = FanOut()
        self._index = ChannelIndex(broker, self.fan_out, self._failed)
        self.gaps: GapReports = GapReports(self._index.channels, self, self._failed)
        limit = FrameLimit(payloads, max_frame)
        self.stored: StoredPublishes = StoredPublishes(
            broker,
            self._index.channels,
            RuleTable() if rules is None else rules,
            self.fan_out,
            self._channel_outputs,
            payloads,
            self._failed,
            self.gaps,
            limit,
        )
        self._recoveries = Recoveries(self._index, max_frame // 2, self._failed)
        self.delivery: PublishDelivery = PublishDelivery(
            broker,
            self._index.channels,
            self.fan_out,
            self._channel_outputs,
            payloads,
            self._failed,
            self.gaps,
            limit,
            self.stored,
        )
        self._use_rules()
        self.publish_payload: Publish = self.delivery.publish
        self.members: Members | None = None
        self.listing: ChannelListing = ChannelListing(self._index.channels)
        self.subscribe_socket: SubscribeSocket = self._index.subscribe_socket
        self.unsubscribe_socket: UnsubscribeSocket = self._index.unsubscribe_socket
        broker.attach(self.delivery)

    async def start(self) -> None:
        """Start the broker, then emit 'ready'. The server calls this.

        Raises:
            BrokerError: the broker cannot start.
            InvalidOptionsError: a rule has history, and the broker stores nothing.
        """
        if not self.is_ready:
            self.stored.check_broker()
            await self.broker.start()
            match_again(self._index)
            self.is_ready = True
            self.emit("ready", ReadyEvent())

    async def close(self) -> None:
        """Close the broker. The server calls this."""
        self.is_ready = False
        self._index.close()
        await self.broker.close()

    def _failed(
        self, error: BaseException, action: str = "background", channel: str | None = None
    ) -> None:
        self.emit("error", ErrorEvent(error))
        self._on_error(error, action, channel)

    # The exchange's own subscriptions

    @overload
    def subscribe(self, channel: str) -> AGChannel[Any]: ...
    @overload
    def subscribe(self, channel: str, data_type: type[T]) -> AGChannel[T]: ...
    @overload
    def subscribe(self, channel: str, data_type: TypeForm[T]) -> AGChannel[T]: ...
    def subscribe(self, channel: str, data_type: Any = Any) -> AGChannel[Any]:
        """Subscribe the exchange; return the channel, whose `async for` yields publishes.

        With a type it yields data of that type; other data is skipped, with an 'error'.

        Raises:
            BrokerError: the broker refused at once. If it refuses later, 'subscribeFail' is
                emitted.
            InvalidArgumentsError: the channel has no name, or data of the type cannot be checked.
        """
        self.loop_binding.check()
        channel = channel_name(channel)
        view = self.channel(channel, data_type)
        if not self._index.has_exchange(channel):
            pending = self._index.subscribe_exchange(channel)
            if pending is None:
                self._emit_subscribed(channel, None)
            else:
                when_done(pending, lambda error: self._emit_subscribed(channel, error))
        return view

    def _emit_subscribed(self, channel: str, error: BaseException | None) -> None:
        if error is None:
            self._emit_channel("subscribe", SubscribeEvent(channel))
            return
        if not (
            self.channel_is_listened_to(channel, "subscribeFail")
            or self.get_listener_consumer_count("subscribeFail")
        ):
            kind = ("subscribeFail", type(error).__qualname__)
            self._reporter.line(_failure_text(channel, error), logging.WARNING, kind)
        self._emit_channel("subscribeFail", SubscribeFailEvent(channel, error))

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe the exchange; its sockets' subscriptions stay."""
        self.loop_binding.check()
        check_text("A channel's name", channel)
        if self._index.unsubscribe_exchange(channel):
            self._emit_channel("unsubscribe", UnsubscribeEvent(channel))

    def _emit_channel(
        self,
        name: str,
        event: SubscribeEvent | UnsubscribeEvent | SubscribeFailEvent,
    ) -> None:
        self._channel_listeners.write(f"{event.channel}/{name}", event)
        self.emit(name, event)

    @overload
    def channel(self, channel: str) -> AGChannel[Any]: ...
    @overload
    def channel(self, channel: str, data_type: type[T]) -> AGChannel[T]: ...
    @overload
    def channel(self, channel: str, data_type: TypeForm[T]) -> AGChannel[T]: ...
    def channel(self, channel: str, data_type: Any = Any) -> AGChannel[Any]:
        """Return a view of a channel, without subscribing. `data_type` is that of `subscribe`."""
        return AGChannel(
            channel,
            self,
            self,
            self._channel_outputs,
            self._channel_listeners,
            data_type,
            self._failed,
        )

    def get_channel_state(self, channel: str) -> SubscriptionState:
        """Return 'pending', 'subscribed' or 'unsubscribed', for the exchange's own subscription."""
        return self._index.exchange_state(channel)

    def get_channel_options(self, channel: str) -> dict[str, Any]:
        """Return an empty dict: an exchange subscribes without options."""
        return {}

    def subscriptions(self, include_pending: bool = False) -> list[str]:
        """Return the channels that the exchange itself is subscribed to."""
        channels = list(self._index.channels)
        return [name for name in channels if self.is_subscribed(name, include_pending)]

    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool:
        """Return whether the exchange itself is subscribed."""
        state = self.get_channel_state(channel)
        return state == SUBSCRIBED or (include_pending and state == PENDING)

    @property
    def channels_count(self) -> int:
        """How many channels have a subscriber in this process."""
        return len(self._index.channels)

    def get_backpressure(self) -> int:
        """Return the highest backpressure of the consumers of its channels and listeners."""
        return max(self.get_all_listeners_backpressure(), self.get_all_channels_backpressure())

    def destroy(self) -> None:
        """End all consumers of the exchange's channels and events after their backlog."""
        self.close_all_channels()
        self.close_all_listeners()


def _failure_text(channel: str, error: BaseException) -> str:
    return (
        f"The exchange's subscription to {clean(channel)!r} failed, and nobody listens to "
        f"'subscribeFail': {one_line(error)}"
    )
