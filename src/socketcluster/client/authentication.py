"""Authentication of a client: its token, where the token is kept, and how the server learns of it.

Source: npm socketcluster-client, AGClientSocket; SocketCluster protocol 2, "Authentication".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from socketcluster.client.messaging import ClientMessaging
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.client.token_store import MemoryTokenStore, TokenStore
from socketcluster.errors import BadConnectionError, TimeoutError, hydrate_error
from socketcluster.events import (
    AuthenticateEvent,
    AuthStateChangeEvent,
    DeauthenticateEvent,
    RemoveAuthTokenEvent,
)
from socketcluster.literals import AuthenticationState, SocketState
from socketcluster.protocol.state import AUTHENTICATED, CLOSED, UNAUTHENTICATED, StateMachine
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.auth_state import AuthStateMixin


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """The server's verdict on a token; `auth_error` says why it was rejected."""

    is_authenticated: bool
    auth_error: BaseException | None = None


class ClientAuth:
    """The authentication of one client. Its state outlives connections.

    Attributes:
        store: keeps the token.
        token: the claims of the token, None when unauthenticated.
        signed_token: the token itself, None when unauthenticated.
        removed_since_load: whether the token was removed since it was last loaded. The handshake
            that it was loaded for does not authenticate then.
    """

    __slots__ = (
        "_binding",
        "_events",
        "_last_operation",
        "_machine",
        "_messaging",
        "_on_authenticated",
        "_on_token_changed",
        "_settings",
        "_socket_machine",
        "removed_since_load",
        "signed_token",
        "store",
        "token",
    )

    def __init__(
        self,
        settings: Settings,
        binding: LoopBinding,
        machine: StateMachine[AuthenticationState],
        socket_machine: StateMachine[SocketState],
        messaging: ClientMessaging,
        events: Events,
        on_authenticated: Callable[[], None],
        on_token_changed: Callable[[], None],
    ) -> None:
        """Create the authentication.

        `machine` holds the authentication's state, and `socket_machine` the client's.
        `on_authenticated` is called when the client becomes authenticated, before the events.
        `on_token_changed` is called before the events too.
        """
        self._settings = settings
        self._binding = binding
        self._machine = machine
        self._socket_machine = socket_machine
        self._messaging = messaging
        self._events = events
        self._on_authenticated = on_authenticated
        self._on_token_changed = on_token_changed
        self.store: TokenStore = settings.options.auth_engine or MemoryTokenStore()
        self.token: Any = None
        self.signed_token: str | None = None
        self.removed_since_load: bool = False
        self._last_operation: asyncio.Task[None] | None = None

    def configure(self) -> None:
        """Use the token store of new options."""
        self.store = self._settings.options.auth_engine or MemoryTokenStore()

    @property
    def state(self) -> AuthenticationState:
        """'authenticated' or 'unauthenticated'."""
        return self._machine.state

    # The token store

    async def wait_stored(self, seconds: float | None = None) -> None:
        """Wait until all saving and removing is done, `seconds` at most."""
        if self._last_operation is not None:
            await asyncio.wait([self._last_operation], timeout=seconds)

    async def load(self) -> str | None:
        """Return the stored token, after all saving and removing is done."""
        await self.wait_stored()
        self.removed_since_load = False
        token = self.store.load_token(self._settings.options.token_name())
        return await token if inspect.isawaitable(token) else token

    def _save(self, signed_token: str) -> None:
        name = self._settings.options.token_name()
        self._operate(lambda: self.store.save_token(name, signed_token, {}), lambda _: None)

    def _remove(self) -> None:
        name, emit = self._settings.options.token_name(), self._events.emit
        self._operate(
            lambda: self.store.remove_token(name),
            lambda token: emit("removeAuthToken", RemoveAuthTokenEvent(token)),
        )

    def _operate(self, operation: Callable[[], Any], done: Callable[[Any], None]) -> None:
        # One after the other, or a slow save could undo a later removal.
        self._last_operation = asyncio.ensure_future(
            self._run_after(self._last_operation, operation, done)
        )

    async def _run_after(
        self,
        previous: asyncio.Task[None] | None,
        operation: Callable[[], Any],
        done: Callable[[Any], None],
    ) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        try:
            result = operation()
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:
            self._events.emit_error(error)
            return
        done(result)

    # The state

    def authenticated(self, signed_token: str | None) -> None:
        """Become authenticated: the server has accepted a token, or issued one."""
        if signed_token != self.signed_token:
            self._on_token_changed()
        self.signed_token = signed_token
        self.token = token_data(signed_token)
        if self.state != AUTHENTICATED:
            self._machine.to(AUTHENTICATED)
            self._on_authenticated()
            self._events.emit(
                "authStateChange",
                AuthStateChangeEvent(UNAUTHENTICATED, AUTHENTICATED, self.token, signed_token),
            )
        self._events.emit("authenticate", AuthenticateEvent(self.token, signed_token))

    def unauthenticated(self) -> None:
        """Become unauthenticated: there is no longer a token."""
        if self.state == UNAUTHENTICATED:
            return
        self._machine.to(UNAUTHENTICATED)
        token, signed_token = self.token, self.signed_token
        self.token = self.signed_token = None
        self._on_token_changed()
        self._events.emit("authStateChange", AuthStateChangeEvent(AUTHENTICATED, UNAUTHENTICATED))
        self._events.emit("deauthenticate", DeauthenticateEvent(token, signed_token))

    def set_token(self, signed_token: str) -> None:
        """Use and store a token that the server has issued."""
        self.authenticated(signed_token)
        self._save(signed_token)

    def remove_token(self) -> None:
        """Give up the token and remove it from the store; 'removeAuthToken' follows."""
        self.removed_since_load = True
        self._remove()
        self.unauthenticated()

    async def authenticate(self, signed_token: str) -> AuthStatus:
        """See `ClientAuthMixin.authenticate`."""
        try:
            answer = await self._messaging.invoke("#authenticate", signed_token)
        except (BadConnectionError, TimeoutError):
            raise  # They say nothing about the token.
        except Exception:
            self.unauthenticated()
            raise
        status = _auth_status(answer)
        if status.is_authenticated:
            self.authenticated(signed_token)
            self._save(signed_token)
        else:
            self.unauthenticated()
        return status

    def deauthenticate(self) -> None:
        """See `ClientAuthMixin.deauthenticate`."""
        self._binding.check()
        try:
            if self._socket_machine.state != CLOSED:
                self._messaging.transmit("#removeAuthToken", None)
        finally:
            self.remove_token()


def _auth_status(answer: Any) -> AuthStatus:
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("authError")
    return AuthStatus(
        answer.get("isAuthenticated") is True, None if error is None else hydrate_error(error)
    )


def token_data(signed_token: str | None) -> Any:
    """Return the claims of a JWT, unverified.

    If they are no JSON, return its second part as text; if the text is no JWT, None.
    """
    parts = signed_token.split(".") if isinstance(signed_token, str) else []
    if len(parts) < 2:
        return None
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode()
        return json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return parts[1]


class ClientAuthMixin(AuthStateMixin[ClientAuth, Any]):
    """The authentication of a client. Source: SocketCluster documentation, AGClientSocket."""

    __slots__ = ()

    def get_signed_auth_token(self) -> str | None:
        """Return `signed_auth_token`."""
        return self.auth.signed_token

    async def authenticate(self, signed_auth_token: str) -> AuthStatus:
        """Present a token to the server. It is stored if the server accepts it.

        Cancelling gives up the waiting; a later answer changes nothing here.

        Raises:
            AuthTokenError: the token is bad.
            BadConnectionError, TimeoutError: no answer; the state stays as it was.
        """
        return await self.auth.authenticate(signed_auth_token)

    async def deauthenticate(self) -> None:
        """Give up the token, here and on the server. It does not wait for the server.

        Raises:
            ResourceLimitError: there is no room for the message to the server; the token is given
                up here all the same.
        """
        self.auth.deauthenticate()
