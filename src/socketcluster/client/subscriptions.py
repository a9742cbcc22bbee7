"""The channels of a client: which it wants, which it has, and how it gets them back.

Source: SocketCluster documentation, AGClientSocket and AGChannel; npm socketcluster-client.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

from socketcluster.client.reconnect import ReconnectOptions, reconnect_delay
from socketcluster.codecs.text import whole_text
from socketcluster.errors import BadConnectionError, InvalidArgumentsError, SocketClusterError
from socketcluster.events import (
    KickOutEvent,
    SubscribeEvent,
    SubscribeFailEvent,
    SubscribeRequestEvent,
    SubscribeStateChangeEvent,
    UnsubscribeEvent,
)
from socketcluster.options import check_text, checked_name
from socketcluster.protocol.state import AUTHENTICATED, OPEN, PENDING, SUBSCRIBED, UNSUBSCRIBED
from socketcluster.pubsub.channel import AGChannel
from socketcluster.pubsub.channel_methods import ChannelMixin
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import clean, one_line

if TYPE_CHECKING:
    from socketcluster.client.socket import AGClientSocket


class Subscription:
    """A channel that the client wants."""

    __slots__ = ("attempts", "cid", "name", "options", "retry", "state")

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.options = options
        self.state: str = PENDING
        self.cid: int | None = None
        self.attempts = 0
        self.retry: asyncio.TimerHandle | None = None

    def sent_options(self) -> dict[str, Any]:
        """What the server is sent beside the name."""
        sent: dict[str, Any] = {}
        if self.options["wait_for_auth"]:
            sent["waitForAuth"] = True
        if self.options.get("data") is not None:
            sent["data"] = self.options["data"]
        return sent


class Subscriptions:
    """The subscriptions of one client; they outlive connections."""

    __slots__ = ("_held_back", "_socket", "channels")

    def __init__(self, socket: AGClientSocket) -> None:
        self._socket = socket
        self._held_back = False
        self.channels: dict[str, Subscription] = {}

    def subscribe(self, name: str, options: dict[str, Any]) -> None:
        """Want a channel; of one already wanted only the options change."""
        checked_name("A channel's name", name)
        name = whole_text(name)
        priority = options.get("priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int | float):
            raise InvalidArgumentsError(f"The priority must be a number, not {priority!r}")
        self._socket.wire.encode(options.get("data"))  # Which raises now rather than later.
        known = self.channels.get(name)
        if known is not None:
            known.options = options
            return
        self.channels[name] = Subscription(name, options)
        self._try(self.channels[name])

    def unsubscribe(self, name: str) -> None:
        """Want a channel no longer."""
        known = self.channels.get(name)
        if known is None:
            return
        if self._socket.state == OPEN:
            self._socket.transmit("#unsubscribe", self.decorated(name))
        self._left(known, UNSUBSCRIBED)

    def decorated(self, name: str) -> str:
        """The channel's name on the wire."""
        return (self._socket.options.channel_prefix or "") + name

    def undecorated(self, name: str) -> str:
        """The reverse."""
        return name.removeprefix(self._socket.options.channel_prefix or "")

    # As the connection comes and goes

    def hold_back(self) -> None:
        """Ask for nothing until `process_pending`."""
        self._held_back = True

    def authenticated(self) -> None:
        """The client has a token now: ask for what waited for one."""
        if not self._held_back:
            self.process_pending()

    def process_pending(self) -> None:
        """Ask for all channels wanted and not yet subscribed to, by priority, then in order."""
        self._held_back = False
        pending = [known for known in self.channels.values() if known.state == PENDING]
        pending.sort(key=lambda known: -(known.options.get("priority") or 0))
        for known in pending:
            self._try(known)

    def suspend(self) -> None:
        """The connection is lost: all are pending again."""
        for known in list(self.channels.values()):
            self._left(known, PENDING)

    def _try(self, known: Subscription) -> None:
        socket = self._socket
        if known.options["wait_for_auth"] and socket.auth_state != AUTHENTICATED:
            return
        if socket.state != OPEN or self._held_back or known.cid is not None:
            return
        self._stop_retrying(known)
        sent = known.sent_options()
        data = {"channel": self.decorated(known.name), **sent}
        try:
            known.cid = socket.open_call(
                "#subscribe", data, lambda error, _: self._answered(known, sent, error)
            )
        except SocketClusterError as error:  # There is no room, or the data cannot be encoded.
            self._failed(known, sent, error)
            return
        socket.emit("subscribeRequest", SubscribeRequestEvent(known.name, sent))

    def _answered(
        self, known: Subscription, sent: dict[str, Any], error: BaseException | None
    ) -> None:
        known.cid = None
        if isinstance(error, BadConnectionError) and not error.is_remote:
            return  # It is asked for again on the next connection.
        if error is not None:
            self._failed(known, sent, error)
            return
        known.attempts = 0
        self._change(known, SUBSCRIBED, sent)
        event = SubscribeEvent(known.name, sent)
        self._socket.emit_channel(known.name, "subscribe", event)

    def _failed(self, known: Subscription, sent: dict[str, Any], error: BaseException) -> None:
        socket = self._socket
        if known.options["wait_for_auth"] and socket.auth_state != AUTHENTICATED:
            return  # It is asked for again when there is a token.
        retrying = socket.options.subscription_retry_options
        if retrying is None:
            del self.channels[known.name]
        else:
            assert isinstance(retrying, ReconnectOptions)
            delay = reconnect_delay(retrying, known.attempts, random.random())
            known.attempts += 1
            loop = asyncio.get_running_loop()
            known.retry = loop.call_later(delay / 1000, self._try, known)
        if not (
            socket.channel_is_listened_to(known.name, "subscribeFail")
            or socket.get_listener_consumer_count("subscribeFail")
        ):
            socket.reporter.line(
                f"The subscription to {clean(known.name)!r} failed, and nobody listens to "
                f"'subscribeFail': {one_line(error)}",
                logging.WARNING,
                ("subscribeFail", type(error).__qualname__),
            )
        event = SubscribeFailEvent(known.name, error, sent)
        socket.emit_channel(known.name, "subscribeFail", event)

    def _left(self, known: Subscription, state: str) -> None:
        if known.cid is not None:
            self._socket.calls.forget(known.cid)
            known.cid = None
        self._stop_retrying(known)
        if state == UNSUBSCRIBED:
            del self.channels[known.name]
        if known.state == SUBSCRIBED:
            self._change(known, state, known.sent_options())
            self._socket.emit_channel(known.name, "unsubscribe", UnsubscribeEvent(known.name))
        known.state = state

    def _stop_retrying(self, known: Subscription) -> None:
        if known.retry is not None:
            known.retry.cancel()
            known.retry = None

    def _change(self, known: Subscription, state: str, sent: dict[str, Any]) -> None:
        old_state, known.state = known.state, state
        event = SubscribeStateChangeEvent(known.name, old_state, state, sent)
        self._socket.emit_channel(known.name, "subscribeStateChange", event)

    def kicked_out(self, name: str, message: Any) -> None:
        """The server has unsubscribed the client."""
        known = self.channels.get(name)
        if known is not None:
            self._socket.emit_channel(name, "kickOut", KickOutEvent(name, message))
            self._left(known, UNSUBSCRIBED)


class SubscriptionMixin(ChannelMixin):
    """Pub/sub. Source: SocketCluster documentation, AGClientSocket."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    subscribed: Subscriptions
    loop_binding: LoopBinding

    def transmit(self, event: str, data: Any = None) -> None: ...

    async def invoke(self, event: str, data: Any = None) -> Any: ...

    def subscribe(
        self,
        channel: str,
        *,
        wait_for_auth: bool = False,
        priority: float | None = None,
        data: Any = None,
    ) -> AGChannel:
        """Subscribe now, or as soon as there is a connection, and again after it was lost.

        `wait_for_auth` waits until the client is authenticated, `priority` (highest first, else
        0) says in what order channels are asked for on connect, `data` goes to the server.
        Returns the channel, whose `async for` yields what is published; a consumer made before
        the server has answered misses nothing.

        Raises:
            InvalidArgumentsError: a name that is no text or empty, a priority that is no number,
                or data that the codec cannot encode.
        """
        self.loop_binding.check()
        options: dict[str, Any] = {"wait_for_auth": wait_for_auth}
        if priority is not None:
            options["priority"] = priority
        if data is not None:
            options["data"] = data
        self.subscribed.subscribe(channel, options)
        return self.channel(channel)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, at once."""
        self.loop_binding.check()
        check_text("A channel's name", channel)
        self.subscribed.unsubscribe(channel)

    def channel(self, channel: str) -> AGChannel:
        """A view of a channel; it does not subscribe."""
        return AGChannel(channel, self, self)

    def transmit_publish(self, channel: str, data: Any) -> None:
        """Publish without waiting. Raises what `transmit` raises, and InvalidArgumentsError for a
        channel without a name."""
        checked_name("A channel's name", channel)
        self.transmit("#publish", {"channel": self.subscribed.decorated(channel), "data": data})

    async def invoke_publish(self, channel: str, data: Any) -> Any:
        """Publish, and wait until the server has accepted it. Raises what `invoke` raises, and
        InvalidArgumentsError for a channel without a name."""
        checked_name("A channel's name", channel)
        pair = {"channel": self.subscribed.decorated(channel), "data": data}
        return await self.invoke("#publish", pair)

    def process_pending_subscriptions(self) -> None:
        """Ask for the channels that are pending: needed without `auto_subscribe_on_connect`."""
        self.loop_binding.check()
        self.subscribed.process_pending()

    def subscriptions(self, include_pending: bool = False) -> list[str]:
        """The channels subscribed to, or also those that are wanted."""
        channels = self.subscribed.channels
        return [name for name in channels if self.is_subscribed(name, include_pending)]

    def is_subscribed(self, channel: str, include_pending: bool = False) -> bool:
        """Whether a channel is subscribed to, or at least wanted."""
        state = self.get_channel_state(channel)
        return state == SUBSCRIBED or (include_pending and state == PENDING)

    def get_channel_state(self, channel: str) -> str:
        """'pending', 'subscribed' or 'unsubscribed'."""
        known = self.subscribed.channels.get(channel)
        return UNSUBSCRIBED if known is None else known.state

    def get_channel_options(self, channel: str) -> dict[str, Any]:
        """What it was subscribed to with; empty if it is not wanted."""
        known = self.subscribed.channels.get(channel)
        return {} if known is None else dict(known.options)
