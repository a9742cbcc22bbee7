"""The fixed texts that the API takes and returns, as types that checkers and editors know."""

from __future__ import annotations

from typing import Literal

SocketState = Literal["connecting", "open", "closed"]
"""The `state` of a socket or a client."""

AuthenticationState = Literal["authenticated", "unauthenticated"]
"""The `auth_state` of a socket or a client."""

SubscriptionState = Literal["pending", "subscribed", "unsubscribed"]
"""The `state` of a channel."""

CleanupMode = Literal["kill", "close", "none"]
"""The values of the option `socket_stream_cleanup_mode`."""

ChannelsDefault = Literal["allow", "refuse"]
"""The values of the option `channels_default`."""

SessionStore = Literal["memory", "engine"]
"""The values of `store` in `Recovery`."""

Exceeded = Literal["error", "pause", "close"]
"""The values of `exceeded` in `Limits` and `Rate`."""

MiddlewareType = Literal["handshake", "inboundRaw", "inbound", "outbound"]
"""The types of middleware functions."""

ActionType = Literal[
    "handshakeWS",
    "handshakeSC",
    "message",
    "transmit",
    "invoke",
    "subscribe",
    "publishIn",
    "publishOut",
    "authenticate",
]
"""The `type` of an action."""

ActionOutcome = Literal["allowed", "blocked"]
"""The `outcome` of an action that a middleware function has decided."""

ServerEventName = Literal[
    "authentication",
    "authenticationStateChange",
    "badSocketAuthToken",
    "closure",
    "connection",
    "connectionAbort",
    "deauthentication",
    "disconnection",
    "error",
    "handshake",
    "occupied",
    "ready",
    "subscription",
    "unsubscription",
    "vacated",
    "warning",
]
"""The events of a server."""

SocketEventName = Literal[
    "authStateChange",
    "authTokenSigned",
    "authenticate",
    "badAuthToken",
    "close",
    "connect",
    "connectAbort",
    "deauthenticate",
    "disconnect",
    "end",
    "error",
    "message",
    "raw",
    "subscribe",
    "unsubscribe",
]
"""The events of a server's socket."""

ClientEventName = Literal[
    "authStateChange",
    "authenticate",
    "close",
    "connect",
    "connectAbort",
    "connecting",
    "deauthenticate",
    "disconnect",
    "error",
    "kickOut",
    "message",
    "raw",
    "recoverFail",
    "removeAuthToken",
    "subscribe",
    "subscribeFail",
    "subscribeRequest",
    "subscribeStateChange",
    "unsubscribe",
]
"""The events of a client."""

ExchangeEventName = Literal[
    "brokerAway",
    "brokerGap",
    "error",
    "occupied",
    "ready",
    "subscribe",
    "subscribeFail",
    "unsubscribe",
    "vacated",
]
"""The events of an exchange."""

ChannelEventName = Literal[
    "kickOut",
    "recoverFail",
    "subscribe",
    "subscribeFail",
    "subscribeStateChange",
    "unsubscribe",
]
"""The events of a channel; an exchange's has no 'kickOut', 'recoverFail' or
'subscribeStateChange'."""
