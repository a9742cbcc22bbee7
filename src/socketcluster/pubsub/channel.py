"""AGChannel, a view of one channel of an exchange or a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from socketcluster.codecs.text import whole_text
from socketcluster.options import check_text
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.pubsub.channel_methods import ChannelMixin
from socketcluster.streams import ConsumableStream, Consumer, ConsumerStats


class ChannelClient(Protocol):
    """What a channel needs of its exchange or client, beside `ChannelMixin`."""

    @property
    def subscribe(self) -> Callable[..., AGChannel]: ...
    def unsubscribe(self, channel: str) -> Awaitable[None] | None: ...
    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool: ...
    def get_channel_state(self, channel: str) -> str: ...
    def get_channel_options(self, channel: str) -> dict[str, Any]: ...
    def transmit_publish(self, channel: str, data: Any) -> None: ...
    async def invoke_publish(self, channel: str, data: Any) -> None: ...


class AGChannel(ConsumableStream[Any]):
    """One channel: a stream of what is published to it, and its state and listeners.

    It is a view that may be made many times; consuming it does not subscribe. Each consumer sees
    every publish after it was made.

    Source: SocketCluster documentation, AGChannel.
    """

    __slots__ = ("_methods", "client", "name")

    PENDING = PENDING
    SUBSCRIBED = SUBSCRIBED
    UNSUBSCRIBED = UNSUBSCRIBED

    def __init__(self, name: str, client: ChannelClient, methods: ChannelMixin) -> None:
        check_text("A channel's name", name)
        self.name = whole_text(name)
        self.client = client
        self._methods = methods

    @property
    def state(self) -> str:
        """'pending', 'subscribed' or 'unsubscribed'."""
        return self.client.get_channel_state(self.name)

    @property
    def options(self) -> dict[str, Any]:
        """The options it was subscribed with."""
        return self.client.get_channel_options(self.name)

    def create_consumer(self, timeout: float | timedelta | None = None) -> Consumer[Any]:
        """A consumer of the publishes from now on; `timeout` in ms between two of them."""
        return self._methods._channel_outputs.stream(self.name).create_consumer(timeout)

    def listener(self, event: str) -> ConsumableStream[Any]:
        """The stream of one event of this channel: 'subscribe', 'subscribeFail', 'unsubscribe',
        and of a client's 'subscribeStateChange' and 'kickOut' too."""
        check_text("An event's name", event)
        return self._methods._channel_listeners.stream(f"{self.name}/{event}")

    def subscribe(self, **options: Any) -> None:
        """Subscribe the exchange or client to it; `options` are those of a client's `subscribe`."""
        self.client.subscribe(self.name, **options)

    def unsubscribe(self) -> Awaitable[None] | None:
        """Unsubscribe the exchange or client from it."""
        return self.client.unsubscribe(self.name)

    def is_subscribed(self, include_pending: bool = False) -> bool:
        """Whether it is subscribed, or about to be."""
        return self.client.is_subscribed(self.name, include_pending)

    def transmit_publish(self, data: Any) -> None:
        """Publish to it without waiting."""
        self.client.transmit_publish(self.name, data)

    async def invoke_publish(self, data: Any) -> None:
        """Publish to it and wait until that was accepted."""
        await self.client.invoke_publish(self.name, data)

    def close(self) -> None:
        """End all its consumers once they took their backlog."""
        self._methods.close_channel(self.name)

    def kill(self) -> None:
        """End all its consumers now."""
        self._methods.kill_channel(self.name)

    def close_output(self) -> None:
        """`ChannelMixin.channel_close_output`."""
        self._methods.channel_close_output(self.name)

    def close_listener(self, event: str) -> None:
        """`ChannelMixin.channel_close_listener`."""
        self._methods.channel_close_listener(self.name, event)

    def close_all_listeners(self) -> None:
        """`ChannelMixin.channel_close_all_listeners`."""
        self._methods.channel_close_all_listeners(self.name)

    def kill_output(self) -> None:
        """`ChannelMixin.channel_kill_output`."""
        self._methods.channel_kill_output(self.name)

    def kill_listener(self, event: str) -> None:
        """`ChannelMixin.channel_kill_listener`."""
        self._methods.channel_kill_listener(self.name, event)

    def kill_all_listeners(self) -> None:
        """`ChannelMixin.channel_kill_all_listeners`."""
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
        """Figures of one of its consumers."""
        if not self.has_output_consumer(consumer_id):
            return None
        return self._methods.get_channel_output_consumer_stats(consumer_id)

    def get_listener_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one consumer of its listeners."""
        if not self.has_any_listener_consumer(consumer_id):
            return None
        return self._methods.get_channel_listener_consumer_stats(consumer_id)

    def get_output_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of its consumers."""
        return self._methods.channel_get_output_consumer_stats_list(self.name)

    def get_listener_consumer_stats_list(self, event: str) -> list[ConsumerStats]:
        """Figures of the consumers of one of its listeners."""
        return self._methods.channel_get_listener_consumer_stats_list(self.name, event)

    def get_all_listeners_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of the consumers of its listeners."""
        return self._methods.channel_get_all_listeners_consumer_stats_list(self.name)

    def get_backpressure(self) -> int:
        """The highest backpressure of its consumers and its listeners' consumers."""
        return self._methods.get_channel_backpressure(self.name)

    def get_output_backpressure(self) -> int:
        """The highest backpressure of its consumers."""
        return self._methods.channel_get_output_backpressure(self.name)

    def get_listener_backpressure(self, event: str) -> int:
        """The highest backpressure of one of its listeners' consumers."""
        return self._methods.channel_get_listener_backpressure(self.name, event)

    def get_all_listeners_backpressure(self) -> int:
        """The highest backpressure of its listeners' consumers."""
        return self._methods.channel_get_all_listeners_backpressure(self.name)

    def get_output_consumer_backpressure(self, consumer_id: int) -> int:
        """What one of its consumers has not yet taken."""
        if not self.has_output_consumer(consumer_id):
            return 0
        return self._methods.get_channel_output_consumer_backpressure(consumer_id)

    def get_listener_consumer_backpressure(self, consumer_id: int) -> int:
        """What one consumer of its listeners has not yet taken."""
        if not self.has_any_listener_consumer(consumer_id):
            return 0
        return self._methods.get_channel_listener_consumer_backpressure(consumer_id)

    def has_output_consumer(self, consumer_id: int) -> bool:
        """Whether this is one of its consumers."""
        return self._methods.channel_has_output_consumer(self.name, consumer_id)

    def has_listener_consumer(self, event: str, consumer_id: int) -> bool:
        """Whether this is a consumer of that listener of it."""
        return self._methods.channel_has_listener_consumer(self.name, event, consumer_id)

    def has_any_listener_consumer(self, consumer_id: int) -> bool:
        """Whether this is a consumer of any of its listeners."""
        return self._methods.channel_has_any_listener_consumer(self.name, consumer_id)
