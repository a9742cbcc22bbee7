"""AGChannel, a view of one channel, and the channel methods that exchanges and clients share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from socketcluster.codecs.text import whole_text
from socketcluster.protocol.state import PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.streams import ConsumableStream, Consumer, ConsumerStats, StreamDemux
from socketcluster.validation import check_text


class ChannelMethods:
    """The channel_/…_channel methods over two demuxes: outputs (by channel name) and listeners
    (by "channel/event")."""

    __slots__ = ()

    _channel_outputs: StreamDemux[Any]
    _channel_listeners: StreamDemux[Any]

    def _listener_names(self, channel: str) -> list[str]:
        start = f"{channel}/"
        found = self._channel_listeners.get_consumer_stats_list_all()
        return list(dict.fromkeys(s.stream for s in found if s.stream.startswith(start)))

    def close_channel(self, channel: str) -> None:
        """End the consumers of a channel and of its listeners once they took their backlog."""
        self.channel_close_output(channel)
        self.channel_close_all_listeners(channel)

    def close_all_channel_outputs(self) -> None:
        """End the consumers of all channels once they took their backlog."""
        self._channel_outputs.close_all()

    def close_all_channel_listeners(self) -> None:
        """End the consumers of all channel listeners once they took their backlog."""
        self._channel_listeners.close_all()

    def close_all_channels(self) -> None:
        """`close_channel` for all."""
        self.close_all_channel_outputs()
        self.close_all_channel_listeners()

    def kill_channel(self, channel: str) -> None:
        """End the consumers of a channel and of its listeners now; their backlog is dropped."""
        self.channel_kill_output(channel)
        self.channel_kill_all_listeners(channel)

    def kill_all_channel_outputs(self) -> None:
        """End the consumers of all channels now."""
        self._channel_outputs.kill_all()

    def kill_all_channel_listeners(self) -> None:
        """End the consumers of all channel listeners now."""
        self._channel_listeners.kill_all()

    def kill_all_channels(self) -> None:
        """`kill_channel` for all."""
        self.kill_all_channel_outputs()
        self.kill_all_channel_listeners()

    def kill_channel_output_consumer(self, consumer_id: int) -> None:
        """End one consumer of any channel now."""
        self._channel_outputs.kill_consumer(consumer_id)

    def kill_channel_listener_consumer(self, consumer_id: int) -> None:
        """End one consumer of any channel listener now."""
        self._channel_listeners.kill_consumer(consumer_id)

    def get_channel_output_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one channel consumer."""
        return self._channel_outputs.get_consumer_stats(consumer_id)

    def get_channel_listener_consumer_stats(self, consumer_id: int) -> ConsumerStats | None:
        """Figures of one channel listener's consumer."""
        return self._channel_listeners.get_consumer_stats(consumer_id)

    def get_all_channel_outputs_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of all channel consumers."""
        return self._channel_outputs.get_consumer_stats_list_all()

    def get_all_channel_listeners_consumer_stats_list(self) -> list[ConsumerStats]:
        """Figures of all channel listeners' consumers."""
        return self._channel_listeners.get_consumer_stats_list_all()

    def get_channel_backpressure(self, channel: str) -> int:
        """The highest backpressure of any consumer of the channel or its listeners."""
        return max(
            self.channel_get_output_backpressure(channel),
            self.channel_get_all_listeners_backpressure(channel),
        )

    def get_all_channel_outputs_backpressure(self) -> int:
        """The highest backpressure of any channel consumer."""
        return self._channel_outputs.get_backpressure_all()

    def get_all_channel_listeners_backpressure(self) -> int:
        """The highest backpressure of any channel listener's consumer."""
        return self._channel_listeners.get_backpressure_all()

    def get_all_channels_backpressure(self) -> int:
        """The highest backpressure of any channel or channel listener."""
        return max(
            self.get_all_channel_outputs_backpressure(),
            self.get_all_channel_listeners_backpressure(),
        )

    def get_channel_output_consumer_backpressure(self, consumer_id: int) -> int:
        """What one channel consumer has not yet taken."""
        return self._channel_outputs.get_consumer_backpressure(consumer_id)

    def get_channel_listener_consumer_backpressure(self, consumer_id: int) -> int:
        """What one channel listener's consumer has not yet taken."""
        return self._channel_listeners.get_consumer_backpressure(consumer_id)

    def has_any_channel_output_consumer(self, consumer_id: int) -> bool:
        """Whether any channel has this consumer."""
        return self._channel_outputs.has_consumer_all(consumer_id)

    def has_any_channel_listener_consumer(self, consumer_id: int) -> bool:
        """Whether any channel listener has this consumer."""
        return self._channel_listeners.has_consumer_all(consumer_id)

    def channel_close_output(self, channel: str) -> None:
        """End the consumers of a channel once they took their backlog."""
        self._channel_outputs.close(channel)

    def channel_close_listener(self, channel: str, event: str) -> None:
        """End the consumers of one listener of a channel once they took their backlog."""
        self._channel_listeners.close(f"{channel}/{event}")

    def channel_close_all_listeners(self, channel: str) -> None:
        """End the consumers of all listeners of a channel once they took their backlog."""
        for name in self._listener_names(channel):
            self._channel_listeners.close(name)

    def channel_kill_output(self, channel: str) -> None:
        """End the consumers of a channel now."""
        self._channel_outputs.kill(channel)

    def channel_kill_listener(self, channel: str, event: str) -> None:
        """End the consumers of one listener of a channel now."""
        self._channel_listeners.kill(f"{channel}/{event}")

    def channel_kill_all_listeners(self, channel: str) -> None:
        """End the consumers of all listeners of a channel now."""
        for name in self._listener_names(channel):
            self._channel_listeners.kill(name)

    def channel_get_output_consumer_stats_list(self, channel: str) -> list[ConsumerStats]:
        """Figures of a channel's consumers."""
        return self._channel_outputs.get_consumer_stats_list(channel)

    def channel_get_listener_consumer_stats_list(
        self, channel: str, event: str
    ) -> list[ConsumerStats]:
        """Figures of the consumers of one listener of a channel."""
        return self._channel_listeners.get_consumer_stats_list(f"{channel}/{event}")

    def channel_get_all_listeners_consumer_stats_list(self, channel: str) -> list[ConsumerStats]:
        """Figures of the consumers of all listeners of a channel."""
        names = set(self._listener_names(channel))
        found = self._channel_listeners.get_consumer_stats_list_all()
        return [stats for stats in found if stats.stream in names]

    def channel_get_output_backpressure(self, channel: str) -> int:
        """The highest backpressure of a channel's consumers."""
        return self._channel_outputs.get_backpressure(channel)

    def channel_get_listener_backpressure(self, channel: str, event: str) -> int:
        """The highest backpressure of the consumers of one listener of a channel."""
        return self._channel_listeners.get_backpressure(f"{channel}/{event}")

    def channel_get_all_listeners_backpressure(self, channel: str) -> int:
        """The highest backpressure of the consumers of all listeners of a channel."""
        names = self._listener_names(channel)
        return max((self._channel_listeners.get_backpressure(name) for name in names), default=0)

    def channel_has_output_consumer(self, channel: str, consumer_id: int) -> bool:
        """Whether the channel has this consumer."""
        return self._channel_outputs.has_consumer(channel, consumer_id)

    def channel_has_listener_consumer(self, channel: str, event: str, consumer_id: int) -> bool:
        """Whether one listener of the channel has this consumer."""
        return self._channel_listeners.has_consumer(f"{channel}/{event}", consumer_id)

    def channel_is_listened_to(self, channel: str, event: str) -> bool:
        """Whether one listener of the channel has a consumer."""
        return self._channel_listeners.get_consumer_count(f"{channel}/{event}") > 0

    def channel_has_any_listener_consumer(self, channel: str, consumer_id: int) -> bool:
        """Whether any listener of the channel has this consumer."""
        return any(
            self._channel_listeners.has_consumer(name, consumer_id)
            for name in self._listener_names(channel)
        )


class ChannelClient(Protocol):
    """What a channel needs of its exchange or client, beside `ChannelMethods`."""

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

    def __init__(self, name: str, client: ChannelClient, methods: ChannelMethods) -> None:
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
        """`ChannelMethods.channel_close_output`."""
        self._methods.channel_close_output(self.name)

    def close_listener(self, event: str) -> None:
        """`ChannelMethods.channel_close_listener`."""
        self._methods.channel_close_listener(self.name, event)

    def close_all_listeners(self) -> None:
        """`ChannelMethods.channel_close_all_listeners`."""
        self._methods.channel_close_all_listeners(self.name)

    def kill_output(self) -> None:
        """`ChannelMethods.channel_kill_output`."""
        self._methods.channel_kill_output(self.name)

    def kill_listener(self, event: str) -> None:
        """`ChannelMethods.channel_kill_listener`."""
        self._methods.channel_kill_listener(self.name, event)

    def kill_all_listeners(self) -> None:
        """`ChannelMethods.channel_kill_all_listeners`."""
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
