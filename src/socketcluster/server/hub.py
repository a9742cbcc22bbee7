"""The hub: the sockets of a server, and the server's events about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from socketcluster.literals import AuthenticationState
from socketcluster.server.events import (
    AuthenticationEvent,
    AuthenticationStateChangeEvent,
    BadSocketAuthTokenEvent,
    ClosureEvent,
    ConnectionAbortEvent,
    ConnectionEvent,
    DeauthenticationEvent,
    DisconnectionEvent,
    SubscriptionEvent,
    UnsubscriptionEvent,
)
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.users import UserIndex


class Hub:
    """The sockets of one server; the `SocketObserver` of all of them.

    Attributes:
        opening: handlers of connections that are accepted, and have no socket yet.
        pending: the sockets in the handshake phase, by id.
        clients: the connected sockets, by id.
        update_user: called with a socket whose user may be another now.
    """

    __slots__ = ("_emit", "_users", "clients", "opening", "pending", "update_user")

    def __init__(self, emit: Callable[[str, Any], None], users: UserIndex) -> None:
        self._emit = emit
        self._users = users
        self.update_user: Callable[[AGServerSocket], None] = users.update
        self.opening: set[Any] = set()
        self.pending: dict[str, AGServerSocket] = {}
        self.clients: dict[str, AGServerSocket] = {}

    def add(self, socket: AGServerSocket) -> None:
        """Add a new socket, which is in the handshake phase."""
        self.pending[socket.id] = socket

    def forget(self, socket: AGServerSocket) -> None:
        """Remove a socket."""
        self.pending.pop(socket.id, None)
        self.clients.pop(socket.id, None)
        self._users.forget(socket)

    def sockets(self) -> list[AGServerSocket]:
        """All sockets, connected ones first."""
        return [*self.clients.values(), *self.pending.values()]

    def token_changed(self, socket: AGServerSocket) -> None:
        """Have handlers forget what they know of the socket's user, who may be another now."""
        if socket.handling is not None:
            socket.context.handling.token_changed(socket)
        self.update_user(socket)

    # The server's events

    def opened(self, socket: AGServerSocket) -> None:
        """Move a socket to the clients, because its handshake is complete."""
        self.pending.pop(socket.id, None)
        self.clients[socket.id] = socket
        if not self._users.follows_tokens:
            asyncio.get_running_loop().call_soon(self.update_user, socket)

    def connection_event(
        self, socket: AGServerSocket, is_authenticated: bool, auth_error: BaseException | None
    ) -> ConnectionEvent:
        """Make the 'connection' event of a socket."""
        ping_timeout = socket.context.ping_timeout
        return ConnectionEvent(socket, socket.id, ping_timeout, is_authenticated, auth_error)

    def connection_lost(self, socket: AGServerSocket, code: int, reason: str | None) -> None:
        """Emit 'disconnection', or 'connectionAbort' if the handshake was never completed."""
        for procedure in socket.messaging.unanswered.values():
            socket.context.count_abandoned(procedure)
        socket.context.counts.ended(
            code,
            socket.life.was_opened,
            socket.inbound.received,
            socket.get_bytes_received(),
            socket.outbound.get_sent_size(),
        )
        if socket.life.was_opened:
            self._emit("disconnection", DisconnectionEvent(socket, code, reason))
        else:
            self._emit("connectionAbort", ConnectionAbortEvent(socket, code, reason))

    def closed(self, socket: AGServerSocket, code: int, reason: str | None) -> None:
        """Emit 'closure'."""
        self._emit("closure", ClosureEvent(socket, code, reason))

    def subscribed(self, socket: AGServerSocket, channel: str, options: dict[str, Any]) -> None:
        """Emit 'subscription'."""
        self._emit("subscription", SubscriptionEvent(socket, channel, options))

    def unsubscribed(self, socket: AGServerSocket, channel: str) -> None:
        """Emit 'unsubscription'."""
        self._emit("unsubscription", UnsubscriptionEvent(socket, channel))

    def auth_state_changed(
        self,
        socket: AGServerSocket,
        old_state: AuthenticationState,
        new_state: AuthenticationState,
        token: dict[str, Any] | None,
    ) -> None:
        """Emit 'authenticationStateChange'."""
        event = AuthenticationStateChangeEvent(socket, old_state, new_state, token)
        self._emit("authenticationStateChange", event)

    def authenticated(self, socket: AGServerSocket, token: dict[str, Any]) -> None:
        """Emit 'authentication'."""
        self._emit("authentication", AuthenticationEvent(socket, token))

    def deauthenticated(self, socket: AGServerSocket, old_token: dict[str, Any] | None) -> None:
        """Emit 'deauthentication'."""
        self._emit("deauthentication", DeauthenticationEvent(socket, old_token))

    def bad_token_received(
        self, socket: AGServerSocket, error: BaseException, signed_token: Any
    ) -> None:
        """Emit 'badSocketAuthToken'."""
        self._emit("badSocketAuthToken", BadSocketAuthTokenEvent(socket, error, signed_token))


class ClientsMixin:
    """The sockets of a server. Source: AGServer specification."""

    __slots__ = ()

    hub: Hub

    @property
    def clients(self) -> dict[str, AGServerSocket]:
        """The connected sockets, by id."""
        return self.hub.clients

    @property
    def clients_count(self) -> int:
        """How many clients are connected."""
        return len(self.hub.clients)

    @property
    def pending_clients(self) -> dict[str, AGServerSocket]:
        """The sockets in the handshake phase, by id."""
        return self.hub.pending

    @property
    def pending_clients_count(self) -> int:
        """How many clients are in the handshake phase."""
        return len(self.hub.pending)


def drop_failed(socket: AGServerSocket, error: Exception) -> None:
    """Drop one socket that this side failed with, and report the fault. Other sockets go on."""
    socket.closing.fail(error)
