"""The channels of one socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

from socketcluster.errors import BadConnectionError, BrokerError, InvalidActionError, named
from socketcluster.events import (
    SubscribeEvent,
    SubscriptionEvent,
    UnsubscribeEvent,
    UnsubscriptionEvent,
)
from socketcluster.protocol.state import AUTHENTICATED, CLOSED, PENDING, SUBSCRIBED

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


class Subscriptions:
    """Subscribes one socket to channels; a pending subscription counts towards the limit."""

    __slots__ = ("_authenticated", "_socket", "channels")

    def __init__(self, socket: AGServerSocket) -> None:
        self._socket = socket
        self.channels: dict[str, str] = {}
        # Those made under a token: they end with it.
        self._authenticated: set[str] | None = None

    def subscribe(self, channel: str, options: dict[str, Any]) -> Awaitable[None] | None:
        """Subscribe; None means that it is done. A second subscription changes nothing.

        Raises:
            BrokerError: the limit is reached or the broker refused.
        """
        socket = self._socket
        if channel not in self.channels:
            limit = socket.server.options.socket_channel_limit
            if limit and len(self.channels) >= limit:
                reason: Exception = InvalidActionError(
                    f"Socket {socket.id} tried to exceed the channel subscription limit of {limit}"
                )
                raise _failed(channel, reason) from reason
        known = self.channels.get(channel)
        if known is None:
            self.channels[channel] = PENDING
        try:
            pending = socket.server.exchange.subscribe_socket(socket.outbound, channel)
        except Exception as error:
            self.channels.pop(channel, None)
            raise _failed(channel, error) from error
        if pending is None:
            self._subscribed(channel, options)
            return None
        return self._subscribe_later(pending, channel, options)

    async def _subscribe_later(
        self, pending: Awaitable[None], channel: str, options: dict[str, Any]
    ) -> None:
        try:
            await pending
        except Exception as error:
            self.channels.pop(channel, None)
            raise _failed(channel, error) from error
        except asyncio.CancelledError:
            self.channels.pop(channel, None)
            raise
        if self._socket.state == CLOSED or channel not in self.channels:
            self._socket.server.exchange.unsubscribe_socket(self._socket.outbound, channel)
            raise BadConnectionError(
                f"The subscription to the {channel} channel was given up", "disconnect"
            )
        self._subscribed(channel, options)

    def _subscribed(self, channel: str, options: dict[str, Any]) -> None:
        socket = self._socket
        self.channels[channel] = SUBSCRIBED
        if socket.auth_state == AUTHENTICATED:
            self._authenticated = self._authenticated or set()
            self._authenticated.add(channel)
        socket.emit("subscribe", SubscribeEvent(channel, options))
        socket.server.emit("subscription", SubscriptionEvent(socket, channel, options))

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, at once.

        Raises:
            InvalidActionError: it is not subscribed.
        """
        socket = self._socket
        if channel not in self.channels:
            raise InvalidActionError(
                f"Socket {socket.id} tried to unsubscribe from a channel which it is "
                "not subscribed to"
            )
        was = self.channels.pop(channel)
        if self._authenticated is not None:
            self._authenticated.discard(channel)
        socket.server.exchange.unsubscribe_socket(socket.outbound, channel)
        if was == SUBSCRIBED:
            socket.emit("unsubscribe", UnsubscribeEvent(channel))
            socket.server.emit("unsubscription", UnsubscriptionEvent(socket, channel))

    def unsubscribe_all(self) -> None:
        """Unsubscribe from all channels."""
        for channel in list(self.channels):
            self.unsubscribe(channel)

    def made_under_token(self) -> list[str]:
        """The channels subscribed to while the socket was authenticated."""
        return [channel for channel in self.channels if channel in (self._authenticated or ())]

    def names(self) -> list[str]:
        """The channels subscribed to, pending ones left out."""
        return [name for name, state in self.channels.items() if state == SUBSCRIBED]


class SubscriptionMethods:
    """The channels of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    subscribed: Subscriptions

    def transmit(self, event: str, data: Any = None) -> None: ...

    async def kick_out(
        self, channel: str | Iterable[str] | None = None, message: str | None = None
    ) -> None:
        """Unsubscribe the client from a channel, several, or all, and tell it why.

        Raises:
            InvalidActionError: it is not subscribed to one of them; it has left the others.
        """
        if channel is None:
            channels = self.subscriptions()
        else:
            channels = [channel] if isinstance(channel, str) else list(channel)
        failure: InvalidActionError | None = None
        for name in channels:
            try:
                self._kick_out(name, message)
            except InvalidActionError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _kick_out(self, channel: str, message: str | None) -> None:
        data = {"channel": channel} if message is None else {"channel": channel, "message": message}
        self.transmit("#kickOut", data)
        self.subscribed.unsubscribe(channel)

    def kick_out_authenticated(self, message: str) -> None:
        """Kick it out of the channels that it subscribed to while it had a token."""
        for channel in self.subscribed.made_under_token():
            self._kick_out(channel, message)

    @property
    def channel_subscriptions(self) -> dict[str, bool]:
        """The channels subscribed to, as keys."""
        return dict.fromkeys(self.subscribed.names(), True)

    @property
    def channel_subscriptions_count(self) -> int:
        """How many channels it is subscribed to, or about to be."""
        return len(self.subscribed.channels)

    def subscriptions(self) -> list[str]:
        """The names of the channels subscribed to."""
        return self.subscribed.names()

    def is_subscribed(self, channel: str) -> bool:
        """Whether it is subscribed to a channel."""
        return self.subscribed.channels.get(channel) == SUBSCRIBED


def _failed(channel: str, error: BaseException) -> BrokerError:
    return BrokerError(f"Failed to subscribe socket to the {channel} channel - {named(error)}")
