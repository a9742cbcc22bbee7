"""The channels of one socket, and whether it may keep them when it has lost its identity."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

from socketcluster.errors import (
    BadConnectionError,
    BrokerError,
    InvalidActionError,
    ResourceLimitError,
    SocketClusterError,
    describe_error,
)
from socketcluster.events import SubscribeEvent, UnsubscribeEvent
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.options import check_text
from socketcluster.protocol.state import CLOSED, PENDING, SUBSCRIBED
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.events import SubscriptionEvent, UnsubscriptionEvent
from socketcluster.server.packets.replies import broker_error
from socketcluster.server.parts.reauthorization import Answer, Reauthorization

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


UNDECIDED = "Middleware did not decide in time whether the socket may stay subscribed"


class Subscriptions:
    """Subscribes one socket to channels; a pending subscription counts towards the limit.

    Attributes:
        channels: the state of each, 'pending' or 'subscribed'.
        reauthorization: middleware is deciding again on some of them.
    """

    __slots__ = ("_data", "_data_size", "_pending", "_socket", "channels", "reauthorization")

    def __init__(self, socket: AGServerSocket) -> None:
        self._socket = socket
        self.channels: dict[str, str] = {}
        self._data: dict[str, bytes] | None = None  # As encoded: bounded, and nobody changes it.
        self._data_size = 0
        self._pending: asyncio.Future[None] | None = None  # What the broker is asked for now.
        self.reauthorization: Reauthorization | None = None

    def subscribe(
        self, channel: str, options: dict[str, Any], data: bytes | None = None
    ) -> Awaitable[None] | None:
        """Subscribe; None means that it is done. Of a second subscription only `data` counts: what
        the client gave, encoded, kept for middleware that is asked again.

        Raises:
            BrokerError: a limit is reached or the broker refused.
        """
        socket = self._socket
        if channel not in self.channels:
            limit = socket.server.options.socket_channel_limit
            if limit and len(self.channels) >= limit:
                reason = InvalidActionError(
                    f"Socket {socket.id} tried to exceed the channel subscription limit of {limit}"
                )
                raise _exceeded(channel, reason) from reason
        self._keep(channel, data)
        known = self.channels.get(channel)
        if known is None:
            self.channels[channel] = PENDING
        try:
            pending = socket.server.exchange.subscribe_socket(socket.outbound, channel)
        except Exception as error:
            self._forget(channel)
            raise self._refused(channel, error) from error
        if pending is None:
            self._subscribed(channel, options)
            return None
        return self._subscribe_later(pending, channel, options)

    async def _subscribe_later(
        self, pending: Awaitable[None], channel: str, options: dict[str, Any]
    ) -> None:
        self._pending = asyncio.ensure_future(pending)
        try:
            await self._pending
        except Exception as error:
            self._pending = None
            self._forget(channel)
            raise self._refused(channel, error) from error
        except asyncio.CancelledError:  # Maybe before it began.
            self._forget(channel)
            self._socket.server.exchange.unsubscribe_socket(self._socket.outbound, channel)
            if self._pending is None:
                raise _given_up(channel) from None
            raise
        self._pending = None
        if self._socket.state == CLOSED or channel not in self.channels:
            self._socket.server.exchange.unsubscribe_socket(self._socket.outbound, channel)
            raise _given_up(channel)
        self._subscribed(channel, options)

    def give_up_pending(self) -> None:
        """The client left: do not wait for the broker's answer to a subscription."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()

    def _refused(self, channel: str, error: Exception) -> BrokerError:
        """The broker refused; the client is not told its reason."""
        self._socket.server.report_broker("subscribe", error)
        refused = BrokerError(f"{_failed(channel)} - {describe_error(error)}")
        refused.public_message = _failed(channel)
        return refused

    def _subscribed(self, channel: str, options: dict[str, Any]) -> None:
        socket = self._socket
        self.channels[channel] = SUBSCRIBED
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
        was = self._forget(channel)
        socket.server.exchange.unsubscribe_socket(socket.outbound, channel)
        if was == SUBSCRIBED:
            socket.emit("unsubscribe", UnsubscribeEvent(channel))
            socket.server.emit("unsubscription", UnsubscriptionEvent(socket, channel))

    def leave_all(self) -> None:
        """The socket is gone: unsubscribe from all channels."""
        if self.reauthorization is not None:
            self.reauthorization.cancel()
            self.reauthorization = None
        for channel in list(self.channels):
            self.unsubscribe(channel)

    def _keep(self, channel: str, data: bytes | None) -> None:
        kept = self._data or {}
        limit = self._socket.server.options.max_subscription_data
        size = self._data_size - len(kept.get(channel, b"")) + len(data or b"")
        if size > limit:
            reason = ResourceLimitError(
                f"The data of the socket's subscriptions exceeds {limit} bytes "
                "(max_subscription_data)"
            )
            raise _exceeded(channel, reason) from reason
        self._data_size = size
        if data is not None:
            kept[channel] = data
            self._data = kept
        else:
            kept.pop(channel, None)

    def _forget(self, channel: str) -> str | None:
        if self._data is not None:
            self._data_size -= len(self._data.pop(channel, b""))
        return self.channels.pop(channel, None)

    # Asking middleware again

    def reauthorize(self, channels: Iterable[str] | None = None) -> None:
        """Have SUBSCRIBE middleware decide again on channels, or on all: the socket is somebody
        else now, or nobody. Its later messages wait for that. Without middleware it stays."""
        socket = self._socket
        channels = list(self.channels if channels is None else channels)
        if not channels or socket.state == CLOSED or not self._has_middleware:
            return
        if self.reauthorization is None:
            socket.inbound.hold()
            self.reauthorization = Reauthorization(
                self, socket.server.reauthorization_pace, socket.server.ack_timeout / 1000
            )
        self.reauthorization.add(channels)

    def reauthorize_since(self, losses: int, channel: str) -> None:
        """`reauthorize` a channel if the socket lost an identity after so many losses: middleware
        may have decided on the former one."""
        if losses != self._socket.auth.losses and channel in self.channels:
            self.reauthorize([channel])

    @property
    def _has_middleware(self) -> bool:
        return MIDDLEWARE_INBOUND in self._socket.server.middleware

    def ask_again(self, channel: str, answer: Answer) -> None:
        """See `ReauthorizedSocket`."""
        if channel not in self.channels or not self._has_middleware:
            answer(None)
            return
        socket = self._socket
        try:
            kept = None if self._data is None else self._data.get(channel)
            data = None if kept is None else socket.server.wire.payloads.decode(kept)
        except SocketClusterError as error:  # The codec is another one now.
            answer(error)
            return
        socket.put_before(
            MIDDLEWARE_INBOUND,
            AGAction.SUBSCRIBE,
            lambda error, _: answer(error),
            channel=channel,
            data=data,
            again=True,
        )

    def expel(self, channel: str, reason: str) -> None:
        """See `ReauthorizedSocket`."""
        if channel in self.channels and self._socket.state != CLOSED:
            self._socket.kick_out_of(channel, reason)

    def expel_undecided(self, channels: Iterable[str]) -> None:
        """See `ReauthorizedSocket`."""
        socket = self._socket
        left = [channel for channel in channels if channel in self.channels]
        if not left or socket.state == CLOSED:
            return
        socket.server.reporter.line(
            f"Socket {socket.id} lost its identity and is kicked out of {len(left):,} "
            f"channel{'s' * (len(left) > 1)}: SUBSCRIBE middleware, asked again, decided nothing "
            "within ack_timeout",
            logging.WARNING,
            "reauthorization",
        )
        for channel in left:
            self.expel(channel, UNDECIDED)

    def reauthorized(self) -> None:
        """See `ReauthorizedSocket`."""
        self.reauthorization = None
        self._socket.inbound.release()

    def names(self) -> list[str]:
        """The channels subscribed to, pending ones left out."""
        return [name for name, state in self.channels.items() if state == SUBSCRIBED]


class SubscriptionMixin:
    """The channels of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    subscribed: Subscriptions
    loop_binding: LoopBinding

    def transmit(self, event: str, data: Any = None) -> None: ...

    async def kick_out(
        self, channel: str | Iterable[str] | None = None, message: str | None = None
    ) -> None:
        """Unsubscribe the client from a channel, several, or all, and tell it why.

        Raises:
            InvalidActionError: it is not subscribed to one of them; it has left the others.
            InvalidArgumentsError: a name is no text; nothing is done then.
        """
        self.loop_binding.check()
        if channel is None:
            channels = self.subscriptions()
        else:
            if not isinstance(channel, Iterable):
                check_text("A channel's name", channel)
            channels = [channel] if isinstance(channel, str) else list(channel)
        for name in channels:
            check_text("A channel's name", name)
        failure: InvalidActionError | None = None
        for name in channels:
            try:
                self.kick_out_of(name, message)
            except InvalidActionError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def kick_out_of(self, channel: str, message: str | None) -> None:
        """`kick_out` of one channel, at once.

        Raises:
            InvalidActionError: it is not subscribed to it.
        """
        data = {"channel": channel} if message is None else {"channel": channel, "message": message}
        self.transmit("#kickOut", data)
        self.subscribed.unsubscribe(channel)

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


def _exceeded(channel: str, reason: SocketClusterError) -> BrokerError:
    return broker_error(f"{_failed(channel)} - {describe_error(reason)}")


def _given_up(channel: str) -> BadConnectionError:
    return BadConnectionError(
        f"The subscription to the {channel} channel was given up", "disconnect"
    )


def _failed(channel: str) -> str:
    return f"Failed to subscribe socket to the {channel} channel"
