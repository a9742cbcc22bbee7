"""AGChannel, a view of one channel of an exchange or a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Literal, Protocol, TypedDict, Unpack, overload

from socketcluster import events
from socketcluster.codecs.text import whole_text
from socketcluster.generics import DataT
from socketcluster.literals import SubscriptionState
from socketcluster.options import check_text, checked_name
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.pubsub.channel_methods import ChannelMixin
from socketcluster.sockets.typed import typed_values
from socketcluster.streams import (
    ConsumableStream,
    Consumer,
    ConsumerStats,
    ConvertedStream,
    StreamDemux,
)


def channel_name(name: str) -> str:
    """Return a channel's name, with U+FFFD for each lone surrogate.

    Raises:
        InvalidArgumentsError: the name is empty or not a str.
    """
    checked_name("A channel's name", name)
    return whole_text(name)


class SubscribeOptionsDict(TypedDict, total=False):
    """The options of a client's `subscribe`; an exchange has none."""

    wait_for_auth: bool
    """Wait until the client is authenticated. Default: False."""
    priority: float | None
    """The order of subscriptions on connect, highest first. Default: None, for 0."""
    data: Any
    """Sent to the server with the subscription. Default: None."""
    recover: bool
    """Receive the publishes that were missed while the connection was lost. Default: False."""


class ChannelClient(Protocol):
    """The exchange or client of a channel, beside the methods of `ChannelMixin`."""

    @property
    def subscribe(self) -> Callable[..., AGChannel[Any]]: ...
    def unsubscribe(self, channel: str) -> Awaitable[None] | None: ...
    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool: ...
    def get_channel_state(self, channel: str) -> SubscriptionState: ...
    def get_channel_options(self, channel: str) -> dict[str, Any]: ...
    def transmit_publish(self, channel: str, data: Any) -> None: ...
    async def invoke_publish(self, channel: str, data: Any) -> None: ...


class AGChannel(ConsumableStream[DataT]):
    """One channel: a stream of its publishes, with its state and its listeners.

    It is a view: a channel may have many, and consuming one does not subscribe. Each consumer
    receives every publish since the consumer was created.

    A channel made with a type, `AGChannel[Article]`, yields data of that type only.

    Source: SocketCluster documentation, AGChannel.
    """

    __slots__ = ("_convert", "_listeners", "_methods", "_outputs", "client", "name")

    PENDING: Final = PENDING
    SUBSCRIBED: Final = SUBSCRIBED
    UNSUBSCRIBED: Final = UNSUBSCRIBED

    def __init__(
        self,
        name: str,
        client: ChannelClient,
        methods: ChannelMixin,
        outputs: StreamDemux[Any],
        listeners: StreamDemux[Any],
        data_type: Any = Any,
        on_invalid: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """Make a view; the demuxes are those that `methods` works on.

        A publish that is not of `data_type` is skipped, and `on_invalid` gets the error.
        """
        check_text("A channel's name", name)
        self.name: str = whole_text(name)
        self.client: ChannelClient = client
        self._methods = methods
        self._outputs = outputs
        self._listeners = listeners
        self._convert: Callable[[Any], Any] | None = None
        if data_type is not Any:
            what = f"A publish on the channel {self.name!r}"
            self._convert = typed_values(data_type, what, on_invalid)

    @property
    def state(self) -> SubscriptionState:
        """'pending', 'subscribed' or 'unsubscribed'."""
        return self.client.get_channel_state(self.name)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the subscription."""
        return self.client.get_channel_options(self.name)

    def create_consumer(self, timeout: float | timedelta | None = None) -> Consumer[DataT]:
        """Create a consumer of publishes from now on; `timeout` is the ms to wait for each."""
        if self._convert is None:
            return self._outputs.create_consumer(self.name, timeout)
        stream = ConvertedStream[DataT](self._outputs, self.name, self._convert)
        return stream.create_consumer(timeout)

    @overload
    def listener(self, event: Literal["subscribe"]) -> ConsumableStream[events.SubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeFail"]
    ) -> ConsumableStream[events.SubscribeFailEvent]: ...
    @overload
    def listener(
        self, event: Literal["unsubscribe"]
    ) -> ConsumableStream[events.UnsubscribeEvent]: ...
    @overload
    def listener(
        self, event: Literal["subscribeStateChange"]
    ) -> ConsumableStream[events.SubscribeStateChangeEvent]: ...
    @overload
    def listener(
        self, event: Literal["recoverFail"]
    ) -> ConsumableStream[events.RecoverFailEvent]: ...
    @overload
    def listener(self, event: Literal["kickOut"]) -> ConsumableStream[events.KickOutEvent]: ...
    @overload
    def listener(self, event: str) -> ConsumableStream[Any]: ...
    def listener(self, event: str) -> ConsumableStream[Any]:
        """Return the stream of one of the channel's events.

        They are 'subscribe', 'subscribeFail' and 'unsubscribe'; with a client also
        'subscribeStateChange', 'recoverFail' and 'kickOut'.
        """
        check_text("An event's name", event)
        return self._listeners.stream(f"{self.name}/{event}")

    def subscribe(self, **options: Unpack[SubscribeOptionsDict]) -> None:
        """Subscribe the exchange or client; `options` are those of a client's `subscribe`."""
        self.client.subscribe(self.name, **options)

    def unsubscribe(self) -> Awaitable[None] | None:
        """Unsubscribe the exchange or client."""
        return self.client.unsubscribe(self.name)

    def is_subscribed(self, include_pending: bool = False) -> bool:
        """Return whether it is subscribed; with `include_pending` also if it is about to be."""
        return self.client.is_subscribed(self.name, include_pending)

    def transmit_publish(self, data: Any) -> None:
        """Publish to the channel without waiting."""
        self.client.transmit_publish(self.name, data)

    async def invoke_publish(self, data: Any) -> None:
        """Publish to the channel, and wait until that is accepted."""
        await self.client.invoke_publish(self.name, data)

    def close(self) -> None:
        """End all its consumers after their backlog."""
        self._methods.close_channel(self.name)

    def kill(self) -> None:
        """End all its consumers now."""
        self._methods.kill_channel(self.name)

    def close_output(self) -> None:
        """See `ChannelMixin.channel_close_output`."""
        self._methods.channel_close_output(self.name)

    def close_listener(self, event: str) -> None:
        """See `ChannelMixin.channel_close_listener`."""
        self._methods.channel_close_listener(self.name, event)

    def close_all_listeners(self) -> None:
        """See `ChannelMixin.channel_close_all_listeners`."""
        self._methods.channel_close_all_listeners(self.name)

    def kill_output(self) -> None:
        """See `ChannelMixin.channel_kill_output`."""
        self._methods.channel_kill_output(self.name)

    def kill_listener(self, event: str) -> None:
        """See `ChannelMixin.channel_kill_listener`."""
        self._methods.channel_kill_listener(self.name, event)

    def kill_all_listeners(self) -> None:
        """See `ChannelMixin.channel_kill_all_listeners`."""
        self._methods.channel_kill_all_listeners(self.name)

    def kill_output_consumer(self, consumer_id: int) -> None:
        """End one of its consumers now."""
        if self.has_output_consumer(consumer_id):
            self._methods.kill_channel_output_consumer(consumer_id)

    def kill_listener_consumer(self, consumer_id: int) -> None:
        """End one consumer of its listeners now."""
        if self.has_any_listener_consumer(consumer_id):
            self._methods.kill_channel_listener_consumer(consumer_id)

    def get_output_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return statistics of one of its consumers."""
        if not self.has_output_consumer(consumer_id):
            return None
        return self._methods.get_channel_output_consumer_stats(consumer_id)

    def get_listener_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Return statistics of one consumer of its listeners."""
        if not self.has_any_listener_consumer(consumer_id):
            return None
        return self._methods.get_channel_listener_consumer_stats(consumer_id)

    def get_output_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return statistics of its consumers."""
        return self._methods.channel_get_output_consumer_stats_list(self.name)

    def get_listener_consumer_stats_list(self, event: str) -> list[ConsumerStats]:
        """Return statistics of the consumers of one of its listeners."""
        return self._methods.channel_get_listener_consumer_stats_list(self.name, event)

    def get_all_listeners_consumer_stats_list(self) -> list[ConsumerStats]:
        """Return statistics of the consumers of its listeners."""
        return self._methods.channel_get_all_listeners_consumer_stats_list(self.name)

    def get_backpressure(self) -> int:
        """Return the highest backpressure of its consumers and its listeners' consumers."""
        return self._methods.get_channel_backpressure(self.name)

    def get_output_backpressure(self) -> int:
        """Return the highest backpressure of its consumers."""
        return self._methods.channel_get_output_backpressure(self.name)

    def get_listener_backpressure(self, event: str) -> int:
        """Return the highest backpressure of one of its listeners' consumers."""
        return self._methods.channel_get_listener_backpressure(self.name, event)

    def get_all_listeners_backpressure(self) -> int:
        """Return the highest backpressure of its listeners' consumers."""
        return self._methods.channel_get_all_listeners_backpressure(self.name)

    def get_output_consumer_backpressure(self, consumer_id: int) -> int:
        """Return the backpressure of one of its consumers."""
        if not self.has_output_consumer(consumer_id):
            return 0
        return self._methods.get_channel_output_consumer_backpressure(consumer_id)

    def get_listener_consumer_backpressure(self, consumer_id: int) -> int:
        """Return the backpressure of one consumer of its listeners."""
        if not self.has_any_listener_consumer(consumer_id):
            return 0
        return self._methods.get_channel_listener_consumer_backpressure(consumer_id)

    def has_output_consumer(self, consumer_id: int) -> bool:
        """Return whether it has this consumer."""
        return self._methods.channel_has_output_consumer(self.name, consumer_id)

    def has_listener_consumer(self, event: str, consumer_id: int) -> bool:
        """Return whether one of its listeners has this consumer."""
        return self._methods.channel_has_listener_consumer(self.name, event, consumer_id)

    def has_any_listener_consumer(self, consumer_id: int) -> bool:
        """Return whether any of its listeners has this consumer."""
        return self._methods.channel_has_any_listener_consumer(self.name, consumer_id)
