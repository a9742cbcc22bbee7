"""Who a client is: the token it has, where it keeps it, and what it tells the server of it.

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
from typing import TYPE_CHECKING, Any

from socketcluster.client.token_store import MemoryTokenStore, TokenStore
from socketcluster.errors import BadConnectionError, TimeoutError, hydrate_error
from socketcluster.events import (
    AuthenticateEvent,
    AuthStateChangeEvent,
    DeauthenticateEvent,
    RemoveAuthTokenEvent,
)
from socketcluster.protocol.state import AUTHENTICATED, CLOSED, UNAUTHENTICATED
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.auth_state import AuthStateMixin

if TYPE_CHECKING:
    from socketcluster.client.socket import AGClientSocket


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """What the server made of a token; `auth_error` says why it did not take it."""

    is_authenticated: bool
    auth_error: BaseException | None = None


class ClientAuth:
    """The authentication of one client. Its state outlives connections.

    Attributes:
        given_up: whether the token was taken away since it was last loaded.
    """

    __slots__ = (
        "_last_operation",
        "_socket",
        "given_up",
        "signed_token",
        "state",
        "store",
        "token",
    )

    def __init__(self, socket: AGClientSocket, store: TokenStore | None) -> None:
        self._socket = socket
        self.store: TokenStore = store or MemoryTokenStore()
        self.state: str = UNAUTHENTICATED
        self.token: Any = None
        self.signed_token: str | None = None
        self.given_up = False
        self._last_operation: asyncio.Task[None] | None = None

    async def settled(self, seconds: float | None = None) -> None:
        """Wait until all saving and removing is done, or so long."""
        if self._last_operation is not None:
            await asyncio.wait([self._last_operation], timeout=seconds)

    async def load(self) -> str | None:
        """The token kept from before, after all saving and removing is done."""
        await self.settled()
        self.given_up = False
        token = self.store.load_token(self._socket.auth_token_name)
        return await token if inspect.isawaitable(token) else token

    def authenticated(self, signed_token: str | None) -> None:
        """The server has taken a token, or given one."""
        socket = self._socket
        self.signed_token = signed_token
        self.token = token_data(signed_token)
        if self.state != AUTHENTICATED:
            old_state, self.state = self.state, AUTHENTICATED
            socket.subscribed.authenticated()
            socket.emit(
                "authStateChange",
                AuthStateChangeEvent(old_state, self.state, self.token, signed_token),
            )
        socket.emit("authenticate", AuthenticateEvent(self.token, signed_token))

    def unauthenticated(self) -> None:
        """There is no token any more."""
        if self.state == UNAUTHENTICATED:
            return
        socket = self._socket
        old_state, self.state = self.state, UNAUTHENTICATED
        token, signed = self.token, self.signed_token
        self.token = self.signed_token = None
        socket.emit("authStateChange", AuthStateChangeEvent(old_state, self.state))
        socket.emit("deauthenticate", DeauthenticateEvent(token, signed))

    def given(self, signed_token: str) -> None:
        """The server gave a token."""
        self.authenticated(signed_token)
        self.save(signed_token)

    def taken(self) -> None:
        """The server took the token away, or the client gives it up."""
        self.given_up = True
        self.forget()
        self.unauthenticated()

    def save(self, signed_token: str) -> None:
        """Keep a token."""
        name = self._socket.auth_token_name
        self._operate(lambda: self.store.save_token(name, signed_token, {}), lambda _: None)

    def forget(self) -> None:
        """Keep the token no longer; 'removeAuthToken' follows."""
        name, socket = self._socket.auth_token_name, self._socket
        self._operate(
            lambda: self.store.remove_token(name),
            lambda token: socket.emit("removeAuthToken", RemoveAuthTokenEvent(token)),
        )

    def _operate(self, operation: Callable[[], Any], done: Callable[[Any], None]) -> None:
        # One after the other, or a slow save could undo the removal that came after it.
        self._last_operation = asyncio.ensure_future(
            self._after(self._last_operation, operation, done)
        )

    async def _after(
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
            self._socket.emit_error(error)
            return
        done(result)

    async def authenticate(self, signed_token: str) -> AuthStatus:
        """`AGClientSocket.authenticate`."""
        try:
            answer = await self._socket.invoke("#authenticate", signed_token)
        except (BadConnectionError, TimeoutError):
            raise  # Which say nothing about the token.
        except Exception:
            self.unauthenticated()
            raise
        status = _auth_status(answer)
        if status.is_authenticated:
            self.authenticated(signed_token)
            self.save(signed_token)
        else:
            self.unauthenticated()
        return status


def _auth_status(answer: Any) -> AuthStatus:
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("authError")
    return AuthStatus(
        answer.get("isAuthenticated") is True, None if error is None else hydrate_error(error)
    )


def token_data(signed_token: str | None) -> Any:
    """The claims of a JWT, unverified; its second part as text if that is no JSON, else None."""
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

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    state: str
    loop_binding: LoopBinding

    def transmit(self, event: str, data: Any = None) -> None: ...

    def get_signed_auth_token(self) -> str | None:
        """`signed_auth_token`."""
        return self.auth.signed_token

    async def authenticate(self, signed_auth_token: str) -> AuthStatus:
        """Show the server a token that the application has. It is kept if the server takes it.

        Cancelling gives up the waiting; what the server answers then changes nothing here.

        Raises:
            AuthTokenError: the token is bad.
            BadConnectionError, TimeoutError: no answer; the state stays as it was.
        """
        self.loop_binding.check()
        return await self.auth.authenticate(signed_auth_token)

    async def deauthenticate(self) -> None:
        """Give up the token, here and on the server. It does not wait for the server.

        Raises:
            ResourceLimitError: the server cannot be told, for want of room; here it is given up.
        """
        self.loop_binding.check()
        try:
            if self.state != CLOSED:
                self.transmit("#removeAuthToken")
        finally:
            self.auth.taken()
