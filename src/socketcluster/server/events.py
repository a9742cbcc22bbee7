"""The events of a server that carry a socket, as frozen dataclasses.

Field names are the documented JavaScript property names in snake_case.
Source: AGServer specification, "Events".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from socketcluster.literals import AuthenticationState
from socketcluster.server.socket import AGServerSocket


@dataclass(frozen=True, slots=True)
class HandshakeEvent:
    """'handshake' of a server: a socket was made, and its handshake is not complete yet."""

    socket: AGServerSocket


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """'connection' of a server: a handshake is complete. `ping_timeout` in milliseconds."""

    socket: AGServerSocket
    id: str
    ping_timeout: float
    is_authenticated: bool
    auth_error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ConnectionAbortEvent:
    """'connectionAbort' of a server: a socket was lost before its handshake was complete."""

    socket: AGServerSocket
    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class DisconnectionEvent:
    """'disconnection' of a server: a socket was lost after its handshake."""

    socket: AGServerSocket
    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class ClosureEvent:
    """'closure' of a server: a socket was lost, at any stage."""

    socket: AGServerSocket
    code: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionEvent:
    """'subscription' of a server. `channel_options` has the client's other fields."""

    socket: AGServerSocket
    channel: str
    channel_options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UnsubscriptionEvent:
    """'unsubscription' of a server."""

    socket: AGServerSocket
    channel: str


@dataclass(frozen=True, slots=True)
class AuthenticationEvent:
    """'authentication' of a server."""

    socket: AGServerSocket
    auth_token: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeauthenticationEvent:
    """'deauthentication' of a server; `old_auth_token` is None if there was none."""

    socket: AGServerSocket
    old_auth_token: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class AuthenticationStateChangeEvent:
    """'authenticationStateChange' of a server; states are 'authenticated' and 'unauthenticated'."""

    socket: AGServerSocket
    old_auth_state: AuthenticationState
    new_auth_state: AuthenticationState
    auth_token: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BadSocketAuthTokenEvent:
    """'badSocketAuthToken' of a server: a client sent an invalid or expired token."""

    socket: AGServerSocket
    auth_error: BaseException
    signed_auth_token: Any
