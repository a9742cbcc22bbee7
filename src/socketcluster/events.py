"""The events of servers, clients, sockets, channels and exchanges, as frozen dataclasses.

Field names are the documented JavaScript property names in snake_case. `LISTENERS` of the
documentation: `server.listener("connection")` yields `ConnectionEvent` objects, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """'error' of a server, socket or exchange."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """'warning' of a server: what went wrong without ending it, every socket error included."""

    warning: BaseException


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """'ready' of a server or exchange."""


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """'message' of a socket: any message received, as text or, for a binary one, bytes."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class RawEvent:
    """'raw' of a socket: a message that is neither a call, an event nor an answer."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class ConnectEvent:
    """'connect' of a socket: its handshake is complete. `ping_timeout` in milliseconds.

    Of a client it has the signed token that was shown, and what subscribes to the pending
    channels when `auto_subscribe_on_connect` is off.
    """

    id: str
    ping_timeout: float
    is_authenticated: bool
    auth_error: BaseException | None = None
    auth_token: str | None = None
    process_pending_subscriptions: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class ConnectAbortEvent:
    """'connectAbort' of a socket."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class DisconnectEvent:
    """'disconnect' of a socket."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """'close' of a socket: lost at any stage."""

    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class EndEvent:
    """'end' of a socket: its last event."""


@dataclass(frozen=True, slots=True)
class SubscribeEvent:
    """'subscribe' of a socket, an exchange or a channel. `subscription_options` is what the
    client sent beside the name; an exchange's is empty."""

    channel: str
    subscription_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnsubscribeEvent:
    """'unsubscribe' of a socket, an exchange or a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class AuthenticateEvent:
    """'authenticate' of a socket. Only a client's has the signed token."""

    auth_token: dict[str, Any]
    signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class DeauthenticateEvent:
    """'deauthenticate' of a socket. Only a client's has the signed token."""

    old_auth_token: dict[str, Any] | None
    old_signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class AuthStateChangeEvent:
    """'authStateChange' of a socket. Only a client's has the signed token."""

    old_auth_state: str
    new_auth_state: str
    auth_token: dict[str, Any] | None = None
    signed_auth_token: str | None = None


@dataclass(frozen=True, slots=True)
class BadAuthTokenEvent:
    """'badAuthToken' of a socket."""

    auth_error: BaseException
    signed_auth_token: Any


@dataclass(frozen=True, slots=True)
class AuthTokenSignedEvent:
    """'authTokenSigned' of a socket."""

    signed_auth_token: str


@dataclass(frozen=True, slots=True)
class BrokerAwayEvent:
    """'brokerAway' of an exchange: the broker's engine is lost; it is tried again."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class BrokerGapEvent:
    """'brokerGap' of an exchange: the engine is back, and everything is subscribed again.

    Publishes of the last `duration` milliseconds may be missing; `error` is why it was lost.
    """

    duration: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class ConnectingEvent:
    """'connecting' of a client: it begins to connect, for the first time or again."""


@dataclass(frozen=True, slots=True)
class RemoveAuthTokenEvent:
    """'removeAuthToken' of a client: the store has forgotten the signed token."""

    old_auth_token: str | None


@dataclass(frozen=True, slots=True)
class SubscribeRequestEvent:
    """'subscribeRequest' of a client: it asks the server to subscribe it."""

    channel: str
    subscription_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SubscribeFailEvent:
    """'subscribeFail' of a client, an exchange or a channel: the server, or the
    exchange's broker, refused; it may be tried again."""

    channel: str
    error: BaseException
    subscription_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubscribeStateChangeEvent:
    """'subscribeStateChange' of a client and of its channel; states are 'pending', 'subscribed'
    and 'unsubscribed'."""

    channel: str
    old_channel_state: str
    new_channel_state: str
    subscription_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KickOutEvent:
    """'kickOut' of a client and of its channel: the server has unsubscribed it."""

    channel: str
    message: Any
