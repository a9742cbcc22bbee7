"""The authentication of one socket: its token, and how it gains and loses one.

A socket counts as authenticated only after its token was verified, or signed, and middleware
allowed it. A timer drops an expired token. When a socket loses its token, or gets another user's,
middleware decides again on its channels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Never, Protocol

from socketcluster.auth import expiry_of, is_expired
from socketcluster.error_text import describe_error
from socketcluster.errors import (
    AuthError,
    AuthTokenExpiredError,
    InvalidActionError,
    InvalidArgumentsError,
)
from socketcluster.events import (
    AuthenticateEvent,
    AuthStateChangeEvent,
    AuthTokenSignedEvent,
    BadAuthTokenEvent,
    DeauthenticateEvent,
)
from socketcluster.literals import AuthenticationState
from socketcluster.middleware import MIDDLEWARE_INBOUND, AGAction
from socketcluster.options import refuse_unknown
from socketcluster.protocol.state import (
    AUTHENTICATED,
    CLOSE_SIGNING_FAILED,
    CLOSED,
    CONNECTING,
    UNAUTHENTICATED,
)
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.tokens import AuthInfo, Tokens
from socketcluster.sockets.auth_state import AuthStateMixin

_RENEWED = frozenset({"exp", "iat", "nbf", "jti"})
"""Claims that differ from one token of a user to the next."""


class AuthObserver(Protocol):
    """Receives the changes of a socket's authentication; `socket` is the `AuthOwner`."""

    def auth_state_changed(
        self,
        socket: Any,
        old_state: AuthenticationState,
        new_state: AuthenticationState,
        token: dict[str, Any] | None,
    ) -> None: ...
    def authenticated(self, socket: Any, token: dict[str, Any]) -> None: ...
    def deauthenticated(self, socket: Any, old_token: dict[str, Any] | None) -> None: ...
    def bad_token_received(self, socket: Any, error: BaseException, signed_token: Any) -> None: ...
    def token_changed(self, socket: Any) -> None: ...


class Reauthorized(Protocol):
    """Channels that middleware decides on again."""

    def reauthorize(self) -> None: ...


class Closable(Protocol):
    """A socket's closing, with a separate reason for the client."""

    def leave(self, code: int, reason: str | None, client_reason: str) -> None: ...


class AuthOwner(Protocol):
    """The authentication's view of its socket."""

    @property
    def life(self) -> Life: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def middleware(self) -> SocketMiddleware: ...
    @property
    def subscribed(self) -> Reauthorized: ...
    @property
    def closing(self) -> Closable: ...
    def emit(self, event: str, data: Any = None) -> None: ...
    def emit_error(self, error: BaseException) -> None: ...


class SocketAuth:
    """The authentication of one socket.

    Attributes:
        state: 'authenticated' or 'unauthenticated'.
        token, signed_token: the claims and the token; None when unauthenticated.
        expires_at: seconds since 1970 at which the token expires, None if it does not.
        losses: how often the socket has lost its identity.
    """

    __slots__ = (
        "_observer",
        "_socket",
        "_tokens",
        "expires_at",
        "losses",
        "signed_token",
        "state",
        "token",
    )

    def __init__(self, socket: AuthOwner, tokens: Tokens, observer: AuthObserver) -> None:
        self._socket = socket
        self._tokens = tokens
        self._observer = observer
        self.state: AuthenticationState = UNAUTHENTICATED
        self.token: dict[str, Any] | None = None
        self.signed_token: str | None = None
        self.expires_at: float | None = None
        self.losses: int = 0

    # Tokens from a client

    def verify(self, signed_token: Any) -> Awaitable[AuthInfo]:
        """See `Tokens.verify`."""
        return self._tokens.verify(signed_token, self._socket)

    async def accept(self, info: AuthInfo) -> None:
        """Authenticate the socket with a verified token, if AUTHENTICATE middleware allows it.

        Raises:
            Exception: the token is bad or middleware blocked it; the socket has no token then.
        """
        socket = self._socket
        if info.auth_token_error is not None:
            self._clear()
            error = info.auth_token_error
            if info.signed_auth_token is not None:
                self._tokens.count_failure(error)
                socket.emit_error(error)
                if getattr(error, "is_bad_token", False):
                    self._emit_bad_token(error, info.signed_auth_token)
            raise error
        if socket.middleware.has(MIDDLEWARE_INBOUND):
            try:
                await socket.middleware.decide(
                    MIDDLEWARE_INBOUND,
                    AGAction.AUTHENTICATE,
                    signed_auth_token=info.signed_auth_token,
                    auth_token=info.auth_token,
                )
            except Exception as error:
                self._clear()
                if getattr(error, "is_bad_token", False):
                    self._emit_bad_token(error, info.signed_auth_token)
                raise
        if not socket.life.ended:
            assert info.auth_token is not None
            self._set(info.auth_token, info.signed_auth_token)

    def _emit_bad_token(self, error: BaseException, signed_token: Any) -> None:
        self._socket.emit("badAuthToken", BadAuthTokenEvent(error, signed_token))
        self._observer.bad_token_received(self._socket, error, signed_token)

    # Tokens from the server

    async def set_token(self, claims: dict[str, Any], options: dict[str, Any]) -> None:
        """See `AGServerSocket.set_auth_token`."""
        socket = self._socket
        if socket.life.state == CONNECTING:
            error = InvalidActionError("Cannot call setAuthToken before completing the handshake")
            socket.emit_error(error)
            raise error
        self._tokens.check_options(options)
        reject_on_failed_delivery = options.pop("reject_on_failed_delivery", False)
        if options.pop("algorithm", None) is not None:
            socket.emit_error(
                InvalidArgumentsError(
                    "Cannot change auth token algorithm at runtime - "
                    "It must be specified as a config option on launch"
                )
            )
        claims = copy.deepcopy(claims)
        signed_token = await self._sign(claims, options)
        if socket.life.state != CLOSED:
            old_state = self.state
            self._set(claims, signed_token)
            if not socket.life.ended:  # The observer may close a socket.
                socket.emit("authTokenSigned", AuthTokenSignedEvent(signed_token))
                self.emit_authenticated(old_state)
        if not reject_on_failed_delivery:
            socket.messaging.transmit("#setAuthToken", {"token": signed_token})
            return
        try:
            await socket.messaging.invoke("#setAuthToken", {"token": signed_token}, None)
        except Exception as cause:
            failure = AuthError(f"Failed to deliver auth token to client - {cause}")
            socket.emit_error(failure)
            raise failure from cause

    async def _sign(self, claims: dict[str, Any], options: dict[str, Any]) -> str:
        try:
            # The engine adds its own claims to `claims`, such as `iat` and `exp`.
            return await self._tokens.sign(claims, options, self._socket)
        except Exception as error:
            self._socket.emit_error(error)
            # The client gets no reason, because the fault is this side's.
            self._socket.closing.leave(CLOSE_SIGNING_FAILED, describe_error(error), "")
            raise

    # Losing the token

    async def deauthenticate(self, reject_on_failed_delivery: bool) -> None:
        """See `AGServerSocket.deauthenticate`."""
        if not reject_on_failed_delivery:
            self.drop_everywhere()
            return
        self.drop()
        try:
            await self._socket.messaging.invoke("#removeAuthToken", None, None)
        except Exception as error:
            self._socket.emit_error(error)
            raise

    def drop(self) -> None:
        """Drop the token on this side only, and emit the events."""
        socket = self._socket
        old_state, old_token = self.state, self.token
        self._clear()
        if old_state != UNAUTHENTICATED:
            socket.emit("authStateChange", AuthStateChangeEvent(old_state, self.state))
            self._observer.auth_state_changed(socket, old_state, self.state, None)
        socket.emit("deauthenticate", DeauthenticateEvent(old_token))
        self._observer.deauthenticated(socket, old_token)

    def drop_everywhere(self) -> None:
        """Drop the token, and have the client remove it."""
        self.drop()
        self._socket.messaging.transmit_in_any_state("#removeAuthToken")

    def check_expiry(self) -> AuthTokenExpiredError | None:
        """Drop an expired token; return the error for middleware, or None if it is valid."""
        if self.expires_at is None or time.time() <= self.expires_at:
            return None
        expired = AuthTokenExpiredError("The socket auth token has expired", self.expires_at)
        self.drop_everywhere()
        return expired

    # State

    def _set(self, claims: dict[str, Any], signed_token: str) -> None:
        lost = self.token is not None and _identity(self.token) != _identity(claims)
        self.state = AUTHENTICATED
        self.token = claims
        self.signed_token = signed_token
        self.expires_at = expiry_of(claims)
        self._observer.token_changed(self._socket)
        if lost:
            self._lost_identity()

    def _clear(self) -> None:
        lost = self.token is not None
        self.state = UNAUTHENTICATED
        self.token = self.signed_token = self.expires_at = None
        if lost:
            self._observer.token_changed(self._socket)
            self._lost_identity()

    def _lost_identity(self) -> None:
        self.losses += 1
        self._socket.subscribed.reauthorize()

    def emit_authenticated(self, old_state: AuthenticationState) -> None:
        """Emit the events of authentication."""
        socket, token = self._socket, self.token
        if token is None:
            return
        if old_state != AUTHENTICATED:
            socket.emit("authStateChange", AuthStateChangeEvent(old_state, self.state, token))
            self._observer.auth_state_changed(socket, old_state, self.state, token)
        socket.emit("authenticate", AuthenticateEvent(token))
        self._observer.authenticated(socket, token)


def _identity(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in _RENEWED}


class AuthMixin(AuthStateMixin[SocketAuth, dict[str, Any] | None]):
    """The authentication of a socket. Source: SocketCluster documentation, AGServerSocket."""

    __slots__ = ()

    loop_binding: LoopBinding

    async def set_auth_token(
        self,
        data: dict[str, Any],
        *,
        expires_in: int | float | timedelta | None = None,
        not_before: int | float | timedelta | None = None,
        audience: str | list[str] | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        jwt_id: str | None = None,
        header: dict[str, Any] | None = None,
        reject_on_failed_delivery: bool = False,
        **engine_options: Never,
    ) -> None:
        """Sign `data` as the client's token, authenticate the socket with it, and send it.

        `expires_in` and `not_before` are seconds from now. `reject_on_failed_delivery` waits for
        the client's acknowledgment. Cancelling before the token is signed changes nothing; later
        it only stops the waiting. Options of an auth engine's own, which it names in
        `sign_options`, are given as `**options` with a `dict[str, Any]`.

        Raises:
            InvalidActionError: the handshake is not complete.
            InvalidArgumentsError: an option is unknown, and nothing has changed; or `data` is not
                a dict, a time is out of range, or an option contradicts a claim, and the socket is
                closed with 4002.
            AuthError: the client did not acknowledge, with `reject_on_failed_delivery`; without
                it, a socket that was closed meanwhile only emits a warning.
        """
        self.loop_binding.check()
        options: dict[str, Any] = {
            **engine_options,
            "expires_in": expires_in,
            "not_before": not_before,
            "audience": audience,
            "issuer": issuer,
            "subject": subject,
            "jwt_id": jwt_id,
            "header": header,
            "reject_on_failed_delivery": reject_on_failed_delivery,
        }
        await self.auth.set_token(data, options)

    def deauthenticate_self(self) -> None:
        """Drop the token on this side only; the client keeps its own."""
        self.loop_binding.check()
        self.auth.drop()

    async def deauthenticate(
        self, *, reject_on_failed_delivery: bool = False, **unknown: Never
    ) -> None:
        """Drop the token, and have the client remove it.

        `reject_on_failed_delivery` waits for the client's acknowledgment, and raises the errors
        of `invoke`. Cancelling only stops the waiting.

        Raises:
            InvalidArgumentsError: an option is unknown; nothing has changed.
        """
        self.loop_binding.check()
        refuse_unknown(unknown, ("reject_on_failed_delivery",), "deauthenticate")
        await self.auth.deauthenticate(reject_on_failed_delivery)

    def is_auth_token_expired(self, token: dict[str, Any] | None) -> bool:
        """Whether claims have an `exp` in the past."""
        return token is not None and is_expired(token, time.time())
