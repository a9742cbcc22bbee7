"""The channels of a client: the methods that subscribe and publish.

Source: SocketCluster documentation, AGClientSocket and AGChannel.
"""

from __future__ import annotations

from typing import Any, TypeVar, Unpack, overload

from socketcluster.client.subscriptions import Subscriptions
from socketcluster.generics import TypeForm
from socketcluster.literals import SubscriptionState
from socketcluster.protocol.state import PENDING, SUBSCRIBED
from socketcluster.pubsub.channel import AGChannel, SubscribeOptionsDict, channel_name
from socketcluster.pubsub.channel_methods import ChannelMixin

T = TypeVar("T")


class SubscriptionMixin(ChannelMixin):
    """Pub/sub. Source: SocketCluster documentation, AGClientSocket."""

    __slots__ = ()

    _subscriptions: Subscriptions

    @overload
    def subscribe(
        self, channel: str, **options: Unpack[SubscribeOptionsDict]
    ) -> AGChannel[Any]: ...
    @overload
    def subscribe(
        self, channel: str, data_type: type[T], **options: Unpack[SubscribeOptionsDict]
    ) -> AGChannel[T]: ...
    @overload
    def subscribe(
        self, channel: str, data_type: TypeForm[T], **options: Unpack[SubscribeOptionsDict]
    ) -> AGChannel[T]: ...
    def subscribe(
        self,
        channel: str,
        data_type: Any = Any,
        *,
        wait_for_auth: bool = False,
        priority: float | None = None,
        data: Any = None,
        recover: bool = False,
    ) -> AGChannel[Any]:
        """Subscribe now, or as soon as there is a connection, and again after it was lost.

        `wait_for_auth` waits until the client is authenticated. `priority` (highest first, default
        0) gives the order in which channels are subscribed to on connect. `data` is sent to the
        server. `recover` receives the publishes that were missed while the connection was lost;
        if some are no longer stored, 'recoverFail' is emitted. `data` must be a dict then.
        Returns the channel, whose `async for` yields the publishes; a consumer made before
        the server has answered misses none. With a type it yields data of that type; other data is
        skipped, with an 'error'.

        Raises:
            InvalidArgumentsError: the name is no text or empty, the priority is no number, the
                codec cannot encode the data, data of the type cannot be checked, or the data of a
                subscription that recovers is no dict.
        """
        options: dict[str, Any] = {"wait_for_auth": wait_for_auth}
        if priority is not None:
            options["priority"] = priority
        if data is not None:
            options["data"] = data
        if recover:
            options["recover"] = True
        view = self.channel(channel_name(channel), data_type)
        self._subscriptions.subscribe(channel, options)
        return view

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, at once."""
        self._subscriptions.unsubscribe(channel)

    @overload
    def channel(self, channel: str) -> AGChannel[Any]: ...
    @overload
    def channel(self, channel: str, data_type: type[T]) -> AGChannel[T]: ...
    @overload
    def channel(self, channel: str, data_type: TypeForm[T]) -> AGChannel[T]: ...
    def channel(self, channel: str, data_type: Any = Any) -> AGChannel[Any]:
        """Return a view of a channel; it does not subscribe. `data_type` is that of `subscribe`."""
        return AGChannel(
            channel,
            self,
            self,
            self._channel_outputs,
            self._channel_listeners,
            data_type,
            self._invalid_data,
        )

    def _invalid_data(self, error: Exception) -> None:
        """Report data of the server that is not of its type."""
        raise NotImplementedError

    def transmit_publish(self, channel: str, data: Any) -> None:
        """Publish without waiting.

        Raises:
            InvalidArgumentsError: the channel has no name, or the codec cannot encode `data`.
            ResourceLimitError: more would wait than `max_outbound_buffer` allows.
        """
        self._subscriptions.transmit_publish(channel, data)

    async def invoke_publish(self, channel: str, data: Any) -> Any:
        """Publish, and wait until the server has accepted it.

        Raises:
            InvalidArgumentsError: the channel has no name, or the codec cannot encode `data`.
            SocketClusterError: any other error that `invoke` raises.
        """
        return await self._subscriptions.invoke_publish(channel, data)

    def process_pending_subscriptions(self) -> None:
        """Subscribe to the pending channels: needed without `auto_subscribe_on_connect`."""
        self._subscriptions.process_pending()

    def subscriptions(self, include_pending: bool = False) -> list[str]:
        """Return the channels subscribed to, and the pending ones if asked for."""
        channels = self._subscriptions.channels
        return [name for name in channels if self.is_subscribed(name, include_pending)]

    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool:
        """Return whether a channel is subscribed to, or pending if that counts."""
        state = self._subscriptions.get_state(channel)
        return state == SUBSCRIBED or (include_pending and state == PENDING)

    def get_channel_state(self, channel: str) -> SubscriptionState:
        """Return 'pending', 'subscribed' or 'unsubscribed'."""
        return self._subscriptions.get_state(channel)

    def get_channel_options(self, channel: str) -> dict[str, Any]:
        """Return the options of a subscription; empty if the channel is not wanted."""
        subscription = self._subscriptions.channels.get(channel)
        return {} if subscription is None else dict(subscription.options)
