"""Subscriptions of a client: wanted channels, their state, and resubscription after reconnects.

Source: SocketCluster documentation, AGClientSocket and AGChannel; npm socketcluster-client.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from socketcluster.client.messaging import ClientMessaging
from socketcluster.client.reconnect import ReconnectOptions, reconnect_delay
from socketcluster.client.recovery import ChannelRecovery, check_recoverable
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.codecs.text import whole_text
from socketcluster.errors import (
    BadConnectionError,
    InvalidActionError,
    InvalidArgumentsError,
    SocketClusterError,
)
from socketcluster.events import (
    KickOutEvent,
    RecoverFailEvent,
    SubscribeEvent,
    SubscribeFailEvent,
    SubscribeRequestEvent,
    SubscribeStateChangeEvent,
    UnsubscribeEvent,
)
from socketcluster.literals import AuthenticationState, SocketState, SubscriptionState
from socketcluster.options import check_text, checked_name
from socketcluster.protocol.state import (
    AUTHENTICATED,
    OPEN,
    PENDING,
    SUBSCRIBED,
    SUBSCRIPTION_TRANSITIONS,
    UNSUBSCRIBED,
    StateMachine,
)
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import clean, one_line


class Subscription:
    """A channel that the client wants.

    Attributes:
        machine: its state.
        cid: the number of the `#subscribe` call that is not answered yet.
        attempts: how many attempts have failed in a row.
        retry: the timer of the next attempt.
        recovery: what the client has received; None if the subscription does not recover.
        settled: done once the present attempt is; its result is the error. None if no call waits.
    """

    __slots__ = ("attempts", "cid", "machine", "name", "options", "recovery", "retry", "settled")

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name: str = name
        self.recovery: ChannelRecovery | None = None
        self.use(options)
        self.machine: StateMachine[SubscriptionState] = StateMachine(
            SUBSCRIPTION_TRANSITIONS, PENDING
        )
        self.cid: int | None = None
        self.attempts: int = 0
        self.retry: asyncio.TimerHandle | None = None
        self.settled: asyncio.Future[BaseException | None] | None = None

    @property
    def state(self) -> SubscriptionState:
        """'pending', 'subscribed', or 'unsubscribed' when it is over."""
        return self.machine.state

    def use(self, options: dict[str, Any]) -> None:
        """Replace the options."""
        self.options: dict[str, Any] = options
        if not options.get("recover"):
            self.recovery = None
        elif self.recovery is None:
            self.recovery = ChannelRecovery()

    def sent_options(self) -> dict[str, Any]:
        """The options that the server receives beside the name, without what recovery adds."""
        sent: dict[str, Any] = {}
        if self.options["wait_for_auth"]:
            sent["waitForAuth"] = True
        if self.options.get("data") is not None:
            sent["data"] = self.options["data"]
        return sent

    def settle(self, error: BaseException | None) -> None:
        """Tell those that wait that the channel is subscribed to, or why not."""
        settled, self.settled = self.settled, None
        if settled is not None:
            settled.set_result(error)


class Subscriptions:
    """The subscriptions of one client. They outlive connections.

    Attributes:
        channels: the wanted channels, by name.
        on_first_recovery: called before the first subscription that recovers.
    """

    __slots__ = (
        "_auth_machine",
        "_binding",
        "_events",
        "_held_back",
        "_machine",
        "_messaging",
        "_settings",
        "channels",
        "on_first_recovery",
    )

    def __init__(
        self,
        settings: Settings,
        binding: LoopBinding,
        machine: StateMachine[SocketState],
        auth_machine: StateMachine[AuthenticationState],
        messaging: ClientMessaging,
        events: Events,
    ) -> None:
        """`machine` holds the client's state, and `auth_machine` that of its authentication."""
        self._settings = settings
        self._binding = binding
        self._machine = machine
        self._auth_machine = auth_machine
        self._messaging = messaging
        self._events = events
        self._held_back = False
        self.channels: dict[str, Subscription] = {}
        self.on_first_recovery: Callable[[], None]

    def subscribe(self, name: str, options: dict[str, Any]) -> None:
        """Request a channel. For a requested one only the options change."""
        self._binding.check()
        checked_name("A channel's name", name)
        name = whole_text(name)
        priority = options.get("priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int | float):
            raise InvalidArgumentsError(f"The priority must be a number, not {priority!r}")
        self._settings.wire.encode(options.get("data"))  # Raises now rather than later.
        if options.get("recover"):
            check_recoverable(options.get("data"))
            if not self._settings.recovers:
                self.on_first_recovery()
        subscription = self.channels.get(name)
        if subscription is not None:
            subscription.use(options)
            return
        self.channels[name] = Subscription(name, options)
        self._request(self.channels[name])

    def unsubscribe(self, name: str) -> None:
        """See `SubscriptionMixin.unsubscribe`."""
        self._binding.check()
        check_text("A channel's name", name)
        subscription = self.channels.get(name)
        if subscription is None:
            return
        if self._machine.state == OPEN:
            self._messaging.transmit("#unsubscribe", self.decorated(name))
        self._end(subscription, UNSUBSCRIBED)

    def transmit_publish(self, name: str, data: Any) -> None:
        """See `SubscriptionMixin.transmit_publish`."""
        checked_name("A channel's name", name)
        self._messaging.transmit("#publish", {"channel": self.decorated(name), "data": data})

    async def invoke_publish(self, name: str, data: Any) -> Any:
        """See `SubscriptionMixin.invoke_publish`."""
        checked_name("A channel's name", name)
        publish = {"channel": self.decorated(name), "data": data}
        return await self._messaging.invoke("#publish", publish)

    def decorated(self, name: str) -> str:
        """Return the name of a channel as it is on the wire."""
        return (self._settings.options.channel_prefix or "") + name

    def undecorated(self, name: str) -> str:
        """Return the name of a channel without the prefix that it has on the wire."""
        return name.removeprefix(self._settings.options.channel_prefix or "")

    def get_state(self, name: str) -> SubscriptionState:
        """See `SubscriptionMixin.get_channel_state`."""
        subscription = self.channels.get(name)
        return UNSUBSCRIBED if subscription is None else subscription.state

    def settled(self, name: str) -> asyncio.Future[BaseException | None] | None:
        """Return a future that is done once a channel is subscribed to; None if it is not wanted.

        The result is the error of a failed attempt, or None. It must not be cancelled.
        """
        subscription = self.channels.get(name)
        if subscription is None:
            return None
        settled = subscription.settled or asyncio.get_running_loop().create_future()
        if subscription.state == SUBSCRIBED:
            settled.set_result(None)
        else:
            subscription.settled = settled
        return settled

    # As connections open and close

    def hold_back(self) -> None:
        """Subscribe to nothing until `process_pending`."""
        self._held_back = True

    def authenticated(self) -> None:
        """Subscribe to the channels that waited for authentication."""
        if not self._held_back:
            self.process_pending()

    def process_pending(self) -> None:
        """Subscribe to all pending channels, by priority, then in the order they were wanted."""
        self._binding.check()
        self._held_back = False
        pending = [entry for entry in self.channels.values() if entry.state == PENDING]
        pending.sort(key=lambda entry: -(entry.options.get("priority") or 0))
        for subscription in pending:
            self._request(subscription)

    def suspend(self) -> None:
        """Make all subscriptions pending: the connection is lost."""
        for subscription in list(self.channels.values()):
            self._end(subscription, PENDING)

    # One subscription

    def _waits_for_auth(self, subscription: Subscription) -> bool:
        return subscription.options["wait_for_auth"] and self._auth_machine.state != AUTHENTICATED

    def _request(self, subscription: Subscription) -> None:
        if self._waits_for_auth(subscription):
            return
        if self._machine.state != OPEN or self._held_back or subscription.cid is not None:
            return
        self._cancel_retry(subscription)
        sent = subscription.sent_options()
        data = {"channel": self.decorated(subscription.name), **sent}
        if subscription.recovery is not None:
            data["data"] = subscription.recovery.sent_data(sent.get("data"))
        try:
            subscription.cid = self._messaging.open_call(
                "#subscribe",
                data,
                lambda error, answer: self._answered(subscription, sent, error, answer),
            )
        except SocketClusterError as error:  # There is no room, or the data cannot be encoded.
            self._failed(subscription, sent, error)
            return
        self._events.emit("subscribeRequest", SubscribeRequestEvent(subscription.name, sent))

    def _answered(
        self,
        subscription: Subscription,
        sent: dict[str, Any],
        error: BaseException | None,
        answer: Any,
    ) -> None:
        subscription.cid = None
        if isinstance(error, BadConnectionError) and not error.is_remote:
            return  # The next connection requests it again.
        if error is not None:
            self._failed(subscription, sent, error)
            return
        subscription.attempts = 0
        recovery = subscription.recovery
        is_lost = recovery is not None and recovery.answered(answer)
        self._change(subscription, SUBSCRIBED, sent)
        subscription.settle(None)
        event = SubscribeEvent(subscription.name, sent)
        self._events.emit_of_channel(subscription.name, "subscribe", event)
        if recovery is not None and is_lost:
            fail = RecoverFailEvent(subscription.name, recovery.asked)
            self._events.emit_of_channel(subscription.name, "recoverFail", fail)

    def _failed(
        self, subscription: Subscription, sent: dict[str, Any], error: BaseException
    ) -> None:
        if self._waits_for_auth(subscription):
            return  # Authentication requests it again.
        subscription.settle(error)
        retry_options = self._settings.options.subscription_retry_options
        if retry_options is None:
            del self.channels[subscription.name]
            subscription.machine.to(UNSUBSCRIBED)
        else:
            assert isinstance(retry_options, ReconnectOptions)
            delay = reconnect_delay(retry_options, subscription.attempts, random.random())
            subscription.attempts += 1
            loop = asyncio.get_running_loop()
            subscription.retry = loop.call_later(delay / 1000, self._request, subscription)
        name = subscription.name
        if not self._events.is_listened_to(name, "subscribeFail"):
            self._events.reporter.line(
                f"The subscription to {clean(name)!r} failed, and nobody listens to "
                f"'subscribeFail': {one_line(error)}",
                logging.WARNING,
                ("subscribeFail", type(error).__qualname__),
            )
        event = SubscribeFailEvent(name, error, sent)
        self._events.emit_of_channel(name, "subscribeFail", event)

    def _end(self, subscription: Subscription, state: SubscriptionState) -> None:
        if subscription.cid is not None:
            self._messaging.calls.forget(subscription.cid)
            subscription.cid = None
        self._cancel_retry(subscription)
        name = subscription.name
        if state == UNSUBSCRIBED:
            del self.channels[name]
            subscription.settle(InvalidActionError(f"The client left the channel {name!r}"))
        if subscription.state == SUBSCRIBED:
            self._change(subscription, state, subscription.sent_options())
            self._events.emit_of_channel(name, "unsubscribe", UnsubscribeEvent(name))
        elif state != PENDING:
            subscription.machine.to(state)

    def _cancel_retry(self, subscription: Subscription) -> None:
        if subscription.retry is not None:
            subscription.retry.cancel()
            subscription.retry = None

    def _change(
        self, subscription: Subscription, state: SubscriptionState, sent: dict[str, Any]
    ) -> None:
        old_state = subscription.state
        subscription.machine.to(state)
        event = SubscribeStateChangeEvent(subscription.name, old_state, state, sent)
        self._events.emit_of_channel(subscription.name, "subscribeStateChange", event)

    def kicked_out(self, name: str, message: Any) -> None:
        """Give up a channel that the server has kicked the client out of."""
        subscription = self.channels.get(name)
        if subscription is not None:
            self._events.emit_of_channel(name, "kickOut", KickOutEvent(name, message))
            self._end(subscription, UNSUBSCRIBED)
