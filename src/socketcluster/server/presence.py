"""Presence, wired into a server: its sockets are members of channels, and see who else is."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.text import whole_text
from socketcluster.errors import EncodeError, UsageError
from socketcluster.events import OccupiedEvent, VacatedEvent
from socketcluster.presence.channels import PresenceChannels
from socketcluster.presence.local import NO_INFO, Seat
from socketcluster.presence.messages import NodeLink
from socketcluster.presence.rule import PREFIX, Rule
from socketcluster.pubsub.exchange import SubscribeSocket, UnsubscribeSocket
from socketcluster.pubsub.fanout import Subscriber
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.runtime.cancelling import close
from socketcluster.server.channel_names import ChannelNames
from socketcluster.server.context import SocketContext
from socketcluster.server.hub import Hub
from socketcluster.server.parts.middleware import ViewerMiddleware
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.users import UserIndex

MAX_INFO_BYTES = 1024
"""Bytes of the JSON text of one socket's info."""

MAX_USER = 255
"""Characters of the longest user that is listed."""

PAYLOAD_SHARE = 4
"""A publish to viewers takes at most this part of `max_outbound_buffer`."""

_JSON = JSONCodec()


class PresenceLifecycle(Protocol):
    """The lifecycle of a server, as its presence sees it."""

    def add_background(self, function: Callable[[], Awaitable[Any]]) -> None: ...


class ServerPresence:
    """The members of a server's channels. It does nothing until a rule has presence.

    Attributes:
        channels: the members; None while no rule has presence.
    """

    __slots__ = ("_context", "_hub", "_rules", "_users", "channels")

    def __init__(
        self, context: SocketContext, hub: Hub, users: UserIndex, rules: RuleTable
    ) -> None:
        self._context = context
        self._hub = hub
        self._users = users
        self._rules = rules
        self.channels: PresenceChannels | None = None

    def connect(
        self, names: ChannelNames, link: NodeLink | None, lifecycle: PresenceLifecycle
    ) -> None:
        """Begin, if a rule has presence. Sockets that are subscribed already are no members."""
        if self.channels is not None or not self._rules.has_presence:
            return
        context, exchange = self._context, self._context.exchange
        channels = PresenceChannels(self._find, FanOutput(context), self, link)
        self.channels = exchange.members = channels
        names.show_presence(lambda channel: channels.rule_of(channel) is not None)
        context.channel_names = names
        context.subscription_observer = self
        self._hub.update_user = self._update_user
        viewers = Viewers(channels, exchange.subscribe_socket, exchange.unsubscribe_socket)
        exchange.subscribe_socket = viewers.subscribe_socket
        exchange.unsubscribe_socket = viewers.unsubscribe_socket
        lifecycle.add_background(self._run)

    async def _run(self) -> None:
        channels = self._channels
        channels.start()
        try:
            await asyncio.Event().wait()
        finally:
            channels.close()

    @property
    def _channels(self) -> PresenceChannels:
        assert self.channels is not None
        return self.channels

    def _find(self, channel: str) -> Rule | None:
        rule = self._rules.find(channel)
        if rule is None or rule.presence is None:
            return None
        return Rule(rule.presence, rule.pattern.text)

    def members_here(self) -> Counter[str]:
        """Count the members that have a socket here, by the pattern of the rule."""
        return Counter() if self.channels is None else self.channels.members_here()

    # The sockets' subscriptions

    def subscribed(self, socket: AGServerSocket, channel: str, options: dict[str, Any]) -> None:
        """See `SubscriptionObserver`."""
        rule = self._channels.rule_of(channel)
        if channel.startswith(PREFIX) and not isinstance(socket.middleware, ViewerMiddleware):
            socket.middleware = socket.middleware.for_viewer()
        if rule is not None:
            self._channels.join(channel, rule, socket, self._seat(socket, channel, rule))
        self._hub.subscribed(socket, channel, options)

    def unsubscribed(self, socket: AGServerSocket, channel: str) -> None:
        """See `SubscriptionObserver`."""
        self._channels.leave(channel, socket)
        self._hub.unsubscribed(socket, channel)

    def _update_user(self, socket: AGServerSocket) -> None:
        """Move a socket to its present user."""
        self._users.update(socket)
        channels = self._channels
        for channel in socket.subscribed.names():
            seat, rule = channels.seat(channel, socket), channels.rule_of(channel)
            if seat is None or rule is None:
                continue
            found = self._seat(socket, channel, rule)
            if found.user != seat.user:
                channels.join(channel, rule, socket, found)

    def _seat(self, socket: AGServerSocket, channel: str, rule: Rule) -> Seat:
        user = self._users.identify(socket)
        if not user:
            return Seat(None)
        user = whole_text(user)
        if len(user) > MAX_USER:
            text = (
                f"The user of a socket in the channel {channel!r} has {len(user)} characters, and "
                f"is not listed: a member has at most {MAX_USER}. See the option identify"
            )
            self._context.report_fault(UsageError(text), socket)
            return Seat(None)
        info = rule.presence.info
        if info is None:
            return Seat(user)
        try:
            return Seat(user, _checked(info(socket), channel))
        except Exception as error:  # The member is shown without it.
            self._context.report_fault(error, socket)
            return Seat(user)

    # Listener

    def occupied(self, channel: str) -> None:
        """See `Listener`."""
        event = OccupiedEvent(channel)
        self._context.exchange.emit("occupied", event)
        self._context.emitter.emit("occupied", event)

    def vacated(self, channel: str) -> None:
        """See `Listener`."""
        event = VacatedEvent(channel)
        self._context.exchange.emit("vacated", event)
        self._context.emitter.emit("vacated", event)


def _checked(info: Any, channel: str) -> Any:
    """Return a copy of what an `info` function returned, as JSON has it.

    Raises:
        UsageError: it is no JSON, or too large.
    """
    text = f"The info of Presence for the channel {channel!r}"
    if info is None:
        return NO_INFO
    if inspect.isawaitable(info):
        close(info)
        raise UsageError(f"{text} must be a plain function, not an async one")
    try:
        encoded = _JSON.encode_bytes(info)
    except EncodeError as error:
        raise UsageError(f"{text} must return JSON: {error}") from error
    if len(encoded) > MAX_INFO_BYTES:
        raise UsageError(
            f"{text} returned {len(encoded):,} bytes of JSON: it may return {MAX_INFO_BYTES:,}. "
            "Return what others see of the member, such as a name"
        )
    return _JSON.decode_value(encoded)


class Viewers:
    """Subscribes sockets to what `$presence/…` shows, and to all other channels as before."""

    __slots__ = ("_channels", "_subscribe", "_unsubscribe")

    def __init__(
        self,
        channels: PresenceChannels,
        subscribe: SubscribeSocket,
        unsubscribe: UnsubscribeSocket,
    ) -> None:
        self._channels = channels
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe

    def subscribe_socket(self, subscriber: Subscriber, channel: str) -> Awaitable[None] | None:
        """See `AGExchange`."""
        if not channel.startswith(PREFIX):
            return self._subscribe(subscriber, channel)
        self._channels.watch(channel[len(PREFIX) :], subscriber)
        return None

    def unsubscribe_socket(self, subscriber: Subscriber, channel: str) -> None:
        """See `AGExchange`."""
        if channel.startswith(PREFIX):
            self._channels.unwatch(channel[len(PREFIX) :], subscriber)
        else:
            self._unsubscribe(subscriber, channel)


class FanOutput:
    """Sends what viewers see, as a publish that never leaves this process.

    Attributes:
        max_size: the bytes of the largest payload.
    """

    __slots__ = ("_context", "max_size")

    def __init__(self, context: SocketContext) -> None:
        self._context = context
        self.max_size: int = context.options.max_outbound_buffer // PAYLOAD_SHARE

    def encode(self, data: Any) -> bytes:
        """See `Output`."""
        return self._context.wire.payloads.encode(data)

    def send(self, channel: str, viewers: dict[Subscriber, None], payload: bytes) -> None:
        """See `Output`."""
        self._context.exchange.fan_out.publish(channel, viewers, payload, self._frame)

    def _frame(self, channel: str, payload: bytes) -> bytes:
        # None of them may be dropped for a slow client, or it would show members that have left.
        return bytes(self._context.wire.payloads.publish_frame(channel, payload))

    def before_change(self, viewers: dict[Subscriber, None]) -> None:
        """See `Output`."""
        fan_out = self._context.exchange.fan_out
        if fan_out.subscribers is viewers:
            fan_out.deliver()

    def report_fault(self, error: BaseException) -> None:
        """See `Output`."""
        self._context.report_fault(error)

    def too_large(self, channel: str, size: int) -> None:
        """See `Output`."""
        self._context.reporter.line(
            f"The members of the channel {channel!r} are counted and not listed: the list has "
            f"{size:,} bytes, and {self.max_size:,} are a quarter of max_outbound_buffer. Have "
            "Presence return less info, or set a lower members_limit",
            logging.WARNING,
            ("presence", "too large"),
            channel=channel,
        )
