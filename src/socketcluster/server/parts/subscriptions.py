"""The subscriptions of one socket: subscribing, unsubscribing, reauthorization and kicking out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from socketcluster.error_text import describe_error
from socketcluster.errors import (
    BrokerError,
    InvalidActionError,
    ResourceLimitError,
    SocketClusterError,
)
from socketcluster.events import SubscribeEvent, UnsubscribeEvent
from socketcluster.middleware import MIDDLEWARE_INBOUND, AGAction
from socketcluster.protocol.state import CLOSED, OPEN, PENDING, SUBSCRIBED
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.authentication import SocketAuth
from socketcluster.server.parts.deciders import Deciders
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.reauthorization import (
    OnDecided,
    Reauthorization,
    ReauthorizationPace,
)
from socketcluster.server.parts.subscription_data import SentData, SubscriptionData
from socketcluster.server.parts.subscription_errors import (
    abandoned_error,
    failure_text,
    limit_error,
    limit_reached,
    undecided_text,
)

UNDECIDED = "Middleware did not decide in time whether the socket may stay subscribed"


class SubscriptionObserver(Protocol):
    """Receives the changes of a socket's subscriptions; `socket` is the `SubscriptionsOwner`."""

    def subscribed(self, socket: Any, channel: str, options: dict[str, Any]) -> None: ...
    def unsubscribed(self, socket: Any, channel: str) -> None: ...


class ChannelNames(Protocol):
    """The meaning that names of channels have to clients."""

    def asked(self, channel: str) -> str:
        """Return the channel that middleware and handlers are asked about."""
        ...

    def twin(self, channel: str) -> str | None:
        """Return the channel that a socket leaves with this one when it is kicked out."""
        ...


class SubscriptionsOwner(Protocol):
    """The subscriptions' view of their socket."""

    id: str

    @property
    def life(self) -> Life: ...
    @property
    def auth(self) -> SocketAuth: ...
    @property
    def inbound(self) -> Inbound: ...
    @property
    def outbound(self) -> Outbound: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def middleware(self) -> SocketMiddleware: ...
    def emit(self, event: str, data: Any = None) -> None: ...


class SubscriptionsContext(Protocol):
    """The subscriptions' view of their server."""

    @property
    def options(self) -> ServerOptions: ...
    @property
    def exchange(self) -> AGExchange: ...
    @property
    def wire(self) -> Wire: ...
    @property
    def reporter(self) -> Reporter: ...
    @property
    def ack_timeout(self) -> float: ...
    @property
    def deciders(self) -> Deciders: ...
    @property
    def reauthorization_pace(self) -> ReauthorizationPace: ...
    @property
    def subscription_observer(self) -> SubscriptionObserver: ...
    @property
    def channel_names(self) -> ChannelNames | None: ...
    def report_broker(
        self, action: str, error: BaseException, channel: str | None = None
    ) -> None: ...


class Subscriptions:
    """The subscriptions of one socket; a pending one counts toward the limit.

    Attributes:
        channels: the state by channel name, 'pending' or 'subscribed'.
        reauthorization: the one under way; None otherwise.
    """

    __slots__ = ("_context", "_data", "_pending", "_socket", "channels", "reauthorization")

    def __init__(self, socket: SubscriptionsOwner, context: SubscriptionsContext) -> None:
        self._socket = socket
        self._context = context
        self.channels: dict[str, str] = {}
        self._data: SubscriptionData | None = None  # Made with the first data.
        self._pending: asyncio.Future[None] | None = None  # The broker's confirmation.
        self.reauthorization: Reauthorization | None = None

    def take_over(self, former: Subscriptions) -> None:
        """Go on with the subscriptions of another part of this socket."""
        self.channels, self.reauthorization = former.channels, former.reauthorization
        self._data, self._pending = former._data, former._pending

    def subscribe(
        self, channel: str, options: dict[str, Any], data: SentData | None = None
    ) -> Awaitable[None] | None:
        """Subscribe to a channel; return None if it is done, else an awaitable.

        `data` is the client's subscription data, which is kept until middleware decides again. A
        second subscription to a channel only replaces that data.

        Raises:
            BrokerError: a limit is reached or the broker refused.
        """
        socket = self._socket
        if channel not in self.channels:
            limit = self._context.options.socket_channel_limit
            if limit and len(self.channels) >= limit:
                raise limit_reached(socket.id, channel, limit)
        self._store_data(channel, data)
        self.channels.setdefault(channel, PENDING)
        try:
            pending = self._context.exchange.subscribe_socket(socket.outbound, channel)
        except Exception as error:
            self._remove(channel)
            raise self._broker_refusal(channel, error) from error
        if pending is None:
            self._subscribed(channel, options)
            return None
        return self._subscribe_later(pending, channel, options)

    async def _subscribe_later(
        self, pending: Awaitable[None], channel: str, options: dict[str, Any]
    ) -> None:
        self._pending = waiting = asyncio.ensure_future(pending)
        if self._socket.life.state == CLOSED:  # The client left before this task began.
            self.abandon_pending()
        try:
            await waiting
        except Exception as error:
            self._pending = None
            self._remove(channel)
            raise self._broker_refusal(channel, error) from error
        except asyncio.CancelledError:  # Possibly before it began.
            self._remove(channel)
            self._context.exchange.unsubscribe_socket(self._socket.outbound, channel)
            if self._pending is None:
                raise abandoned_error(channel) from None
            raise
        self._pending = None
        if self._socket.life.state == CLOSED or channel not in self.channels:
            self._context.exchange.unsubscribe_socket(self._socket.outbound, channel)
            raise abandoned_error(channel)
        self._subscribed(channel, options)

    def abandon_pending(self) -> None:
        """Stop waiting for the broker's confirmation, because the client left."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()

    def _broker_refusal(self, channel: str, error: Exception) -> BrokerError:
        """Report the broker's refusal; return the client's error, which gives no reason."""
        self._context.report_broker("subscribe", error, channel)
        refusal = BrokerError(f"{failure_text(channel)} - {describe_error(error)}")
        refusal.public_message = failure_text(channel)
        return refusal

    def _subscribed(self, channel: str, options: dict[str, Any]) -> None:
        socket = self._socket
        self.channels[channel] = SUBSCRIBED
        socket.emit("subscribe", SubscribeEvent(channel, options))
        self._context.subscription_observer.subscribed(socket, channel, options)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel.

        Raises:
            InvalidActionError: the socket is not subscribed.
        """
        socket = self._socket
        if channel not in self.channels:
            raise InvalidActionError(
                f"Socket {socket.id} tried to unsubscribe from a channel which it is "
                "not subscribed to"
            )
        state = self._remove(channel)
        self._context.exchange.unsubscribe_socket(socket.outbound, channel)
        if state == SUBSCRIBED:
            socket.emit("unsubscribe", UnsubscribeEvent(channel))
            self._context.subscription_observer.unsubscribed(socket, channel)

    def leave_all(self) -> None:
        """Unsubscribe from all channels, because the socket is closed."""
        if self.reauthorization is not None:
            self.reauthorization.cancel()
            self.reauthorization = None
        for channel in list(self.channels):
            self.unsubscribe(channel)

    def _store_data(self, channel: str, data: SentData | None) -> None:
        if data is None and self._data is None:
            return
        if self._data is None:
            send_gap = partial(_send_gap, self._socket, self.channels)
            self._data = _new_data(self._context, send_gap)
        try:
            self._data.put(channel, data)
        except ResourceLimitError as reason:
            raise limit_error(channel, reason) from reason

    def _remove(self, channel: str) -> str | None:
        if self._data is not None:
            self._data.put(channel, None)
        return self.channels.pop(channel, None)

    # Reauthorization

    def reauthorize(self, channels: Iterable[str] | None = None) -> None:
        """Have middleware and handlers decide again on channels, or all, after a loss of identity.

        The socket's later messages wait for the decisions. A channel that neither decides on stays.
        """
        socket = self._socket
        channels = list(self.channels if channels is None else channels)
        if not self._has_middleware:
            find = self._context.deciders.find
            channels = [each for each in channels if find(asked_channel(self._context, each))]
        if not channels or socket.life.state == CLOSED:
            return
        if self.reauthorization is None:
            socket.inbound.hold()
            self.reauthorization = Reauthorization(
                self, self._context.reauthorization_pace, self._context.ack_timeout / 1000
            )
        self.reauthorization.add(channels)

    def reauthorize_since(self, losses: int, channel: str) -> None:
        """Ask again about a channel if the socket has lost an identity since `losses` losses."""
        if losses != self._socket.auth.losses and channel in self.channels:
            self.reauthorize([channel])

    @property
    def _has_middleware(self) -> bool:
        return self._socket.middleware.has(MIDDLEWARE_INBOUND)

    def submit_subscribe(self, channel: str, on_decided: OnDecided) -> None:
        """See `ReauthorizedSocket`."""
        if channel not in self.channels:
            on_decided(None)
            return
        socket = self._socket
        try:
            encoded = None if self._data is None else self._data.get(channel)
            data = None if encoded is None else self._context.wire.payloads.decode(encoded)
        except SocketClusterError as error:  # The codec was replaced.
            on_decided(error)
            return
        asked = asked_channel(self._context, channel)
        if not self._has_middleware:
            self._context.deciders.decide_again(socket, asked, data, on_decided)
            return

        def on_verdict(error: BaseException | None, _: Any) -> None:
            if error is None:
                self._context.deciders.decide_again(socket, asked, data, on_decided)
            else:
                on_decided(error)

        socket.middleware.put(
            MIDDLEWARE_INBOUND,
            AGAction.SUBSCRIBE,
            on_verdict,
            channel=asked,
            data=data,
            again=True,
            presence=asked != channel,
        )

    def kick_out_refused(self, channel: str, reason: str) -> None:
        """See `ReauthorizedSocket`."""
        if channel in self.channels and self._socket.life.state != CLOSED:
            self.kick_out_of(channel, reason)

    def kick_out_undecided(self, channels: Iterable[str]) -> None:
        """See `ReauthorizedSocket`."""
        socket = self._socket
        undecided = [channel for channel in channels if channel in self.channels]
        if not undecided or socket.life.state == CLOSED:
            return
        text = undecided_text(socket.id, len(undecided))
        self._context.reporter.line(text, logging.WARNING, "reauthorization", socket=socket)
        for channel in undecided:
            self.kick_out_refused(channel, UNDECIDED)

    def reauthorized(self) -> None:
        """See `ReauthorizedSocket`."""
        self.reauthorization = None
        self._socket.inbound.release()

    # Kicking out

    def twin(self, channel: str) -> str | None:
        """Return the channel that the socket leaves with this one when it is kicked out."""
        names = self._context.channel_names
        twin = None if names is None else names.twin(channel)
        return twin if twin in self.channels else None

    def kick_out_of(self, channel: str, message: str | None) -> None:
        """Kick the socket out of one channel, and of its twin.

        Raises:
            InvalidActionError: the socket is not subscribed to it.
        """
        data = {"channel": channel} if message is None else {"channel": channel, "message": message}
        twin = self.twin(channel)
        self._socket.messaging.transmit("#kickOut", data)
        self.unsubscribe(channel)
        if twin is not None:
            self.kick_out_of(twin, message)

    def names(self) -> list[str]:
        """The names of the channels subscribed to, without pending ones."""
        return [name for name, state in self.channels.items() if state == SUBSCRIBED]


def asked_channel(context: SubscriptionsContext, channel: str) -> str:
    """Return the channel that middleware and handlers are asked about."""
    names = context.channel_names
    return channel if names is None else names.asked(channel)


def _new_data(
    context: SubscriptionsContext, send_gap: Callable[[str, int], None]
) -> SubscriptionData:
    limit = context.options.max_subscription_data
    return SubscriptionData(limit, context.exchange.gaps, send_gap)


def _send_gap(
    socket: SubscriptionsOwner, channels: dict[str, str], channel: str, duration: int
) -> None:
    if channels.get(channel) == SUBSCRIBED and socket.life.state == OPEN:
        data = {"channel": channel, "duration": duration}
        socket.messaging.transmit_in_any_state("$gap", data)
