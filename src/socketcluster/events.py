"""The events of servers, clients, sockets, channels and exchanges, as frozen dataclasses.

`server.listener("ready")` yields `ReadyEvent` objects, and so on. Fields have the documented
JavaScript property names in snake_case. The events that carry a socket are in `server.events`.

Source: SocketCluster documentation, the events of each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from socketcluster.literals import AuthenticationState, SubscriptionState
from socketcluster.position import Position


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """'error' of a server, client, socket or exchange."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """'warning' of a server: an error that did not stop it. It includes every socket's 'error'."""

    warning: BaseException


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """'ready' of a server or exchange."""


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """'message' of a socket: any received message, as str, or bytes for a binary one."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class RawEvent:
    """'raw' of a socket: a received message that is no call, event or answer."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class ConnectEvent:
    """'connect' of a socket: its handshake is complete.

    Attributes:
        id: the socket's id.
        ping_timeout: milliseconds.
        is_authenticated: whether the server accepted the client's token.
        auth_error: the reason if it did not.
        auth_token: a client's signed token; None at the server.
        process_pending_subscriptions: subscribes a client to its pending channels, for a client
            with `auto_subscribe_on_connect` off; None at the server.
    """

    id: str
    ping_timeout: float
    is_authenticated: bool
    auth_error: BaseException | None = None
    auth_token: str | None = None
    process_pending_subscriptions: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class ConnectAbortEvent:
    """'connectAbort' of a socket: it was closed before its handshake was complete."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class DisconnectEvent:
    """'disconnect' of a socket: it was closed after its handshake."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """'close' of a socket: it was closed, at any stage."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class EndEvent:
    """'end' of a socket: its last event."""


@dataclass(frozen=True, slots=True)
class SubscribeEvent:
    """'subscribe' of a socket, an exchange or a channel.

    Attributes:
        channel: the channel.
        subscription_options: the options that the client sent; empty for an exchange.
    """

    channel: str
    subscription_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnsubscribeEvent:
    """'unsubscribe' of a socket, an exchange or a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class AuthenticateEvent:
    """'authenticate' of a socket. Only a client's event has the signed token."""

    auth_token: dict[str, Any]
    signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class DeauthenticateEvent:
    """'deauthenticate' of a socket. Only a client's event has the signed token."""

    old_auth_token: dict[str, Any] | None
    old_signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class AuthStateChangeEvent:
    """'authStateChange' of a socket. Only a client's event has the signed token."""

    old_auth_state: AuthenticationState
    new_auth_state: AuthenticationState
    auth_token: dict[str, Any] | None = None
    signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class BadAuthTokenEvent:
    """'badAuthToken' of a socket: its client sent a bad token."""

    auth_error: BaseException
    signed_auth_token: Any


@dataclass(frozen=True, slots=True)
class AuthTokenSignedEvent:
    """'authTokenSigned' of a socket: `set_auth_token` signed a token."""

    signed_auth_token: str


@dataclass(frozen=True, slots=True)
class BrokerAwayEvent:
    """'brokerAway' of an exchange: the backend is lost; reconnecting goes on.

    Attributes:
        error: the reason of the loss.
        channels: the affected channels of this process.
        server: the address of the lost server, if the broker knows it. In a Redis cluster the
            other servers go on.
    """

    error: BaseException
    channels: frozenset[str] = frozenset()
    server: str | None = None


@dataclass(frozen=True, slots=True)
class BrokerGapEvent:
    """'brokerGap' of an exchange: the backend is back, and everything is subscribed again.

    Attributes:
        duration: milliseconds of which publishes may be missing.
        error: the reason of the loss.
        channels: the channels of this process of which publishes may be missing. Those with
            history are filled, and named only if publishes are missing all the same.
        server: the address of the server that was lost, if the broker knows it. In a Redis
            cluster the other servers went on.
    """

    duration: float
    error: BaseException
    channels: frozenset[str] = frozenset()
    server: str | None = None


@dataclass(frozen=True, slots=True)
class OccupiedEvent:
    """'occupied' of a server and its exchange: a channel with presence has its first subscriber.

    The server emits it to which that client is connected, for the first on all servers. Servers
    that get their first one at the same moment may each emit it.
    """

    channel: str


@dataclass(frozen=True, slots=True)
class VacatedEvent:
    """'vacated' of a server and its exchange: the last subscriber of a channel has left.

    The server emits it which that client was connected to, after the channel's `leave_delay`.
    Servers that lose their last ones within two seconds may each emit it; none does for a server
    that was killed.
    """

    channel: str


@dataclass(frozen=True, slots=True)
class ConnectingEvent:
    """'connecting' of a client: an attempt to connect begins."""


@dataclass(frozen=True, slots=True)
class RemoveAuthTokenEvent:
    """'removeAuthToken' of a client: its store has dropped the signed token."""

    old_auth_token: str | None


@dataclass(frozen=True, slots=True)
class SubscribeRequestEvent:
    """'subscribeRequest' of a client: it sends a '#subscribe'."""

    channel: str
    subscription_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SubscribeFailEvent:
    """'subscribeFail' of a client, an exchange or a channel: a subscription was refused.

    The server refused it, or the exchange's broker. It may be tried again.
    """

    channel: str
    error: BaseException
    subscription_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecoverFailEvent:
    """'recoverFail' of a client and of its channel: publishes that it missed cannot be recovered.

    They are no longer stored, they are too many, or the channel has no history. Live publishes
    continue.

    Attributes:
        channel: the channel.
        since: the newest publish that the client has received before; None if it is not known.
    """

    channel: str
    since: Position | None


@dataclass(frozen=True, slots=True)
class SubscribeStateChangeEvent:
    """'subscribeStateChange' of a client and of its channel.

    The states are 'pending', 'subscribed' and 'unsubscribed'.
    """

    channel: str
    old_channel_state: SubscriptionState
    new_channel_state: SubscriptionState
    subscription_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KickOutEvent:
    """'kickOut' of a client and of its channel: the server unsubscribed it."""

    channel: str
    message: Any
