"""Who a socket is: its token, how it gets one, how it loses it.

A socket counts as authenticated only after its token was verified, or signed, and middleware
allowed it. An expired token is taken away by a timer. When a socket loses its token, or gets
somebody else's, middleware decides again on its channels.
"""

from __future__ import annotations

import copy
import inspect
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never, cast

from socketcluster.auth import (
    SIGN_OPTIONS,
    JWTAuthEngine,
    expiry_of,
    is_expired,
    translate_token_error,
)
from socketcluster.errors import (
    AuthError,
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    InvalidActionError,
    InvalidArgumentsError,
    describe_error,
)
from socketcluster.events import (
    AuthenticateEvent,
    AuthStateChangeEvent,
    AuthTokenSignedEvent,
    BadAuthTokenEvent,
    DeauthenticateEvent,
)
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.middleware.action import AGAction
from socketcluster.options import refuse_unknown
from socketcluster.protocol.state import (
    AUTHENTICATED,
    CLOSE_SIGNING_FAILED,
    CLOSED,
    CONNECTING,
    UNAUTHENTICATED,
)
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.events import (
    AuthenticationEvent,
    AuthenticationStateChangeEvent,
    BadSocketAuthTokenEvent,
    DeauthenticationEvent,
)
from socketcluster.server.parts.leaving import leave
from socketcluster.sockets.auth_state import AuthStateMixin

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


_RENEWED = frozenset({"exp", "iat", "nbf", "jti"})
"""Claims that differ from one token of a user to the next."""


@dataclass(frozen=True, slots=True)
class AuthInfo:
    """What the verification of a client's token found; `action.data` of HANDSHAKE_SC."""

    signed_auth_token: Any
    auth_token_error: BaseException | None
    auth_token: dict[str, Any] | None
    auth_state: str


class SocketAuth:
    """The authentication of one socket.

    Attributes:
        losses: how often it has lost its identity.
    """

    __slots__ = ("expires_at", "losses", "signed_token", "socket", "state", "token")

    def __init__(self, socket: AGServerSocket) -> None:
        self.socket = socket
        self.state = UNAUTHENTICATED
        self.token: dict[str, Any] | None = None
        self.signed_token: str | None = None
        self.expires_at: float | None = None
        self.losses = 0

    # What a client shows

    async def verify(self, signed_token: Any) -> AuthInfo:
        """Have the auth engine verify a token. Never raises for a bad one."""
        server = self.socket.server
        if signed_token is None and type(server.auth) is JWTAuthEngine:
            # What it would raise, for most clients come without a token.
            error = AuthTokenInvalidError("jwt must be provided")
            return AuthInfo(None, error, None, UNAUTHENTICATED)
        options = {**server.default_verification_options, "socket": self.socket}
        try:
            claims = server.auth.verify_token(signed_token, server.verification_key, options)
            if inspect.isawaitable(claims):
                claims = await claims
            if not isinstance(claims, dict):
                raise AuthTokenInvalidError("The token's claims are not an object")
        except Exception as error:
            failure = translate_token_error(error)
            # Without a token many an engine raises whatever it likes.
            if signed_token is not None and type(failure) is AuthTokenError:
                server.report_engine(error)
            return AuthInfo(signed_token, failure, None, UNAUTHENTICATED)
        return AuthInfo(signed_token, None, claims, AUTHENTICATED)

    async def accept(self, info: AuthInfo) -> None:
        """Take on a verified token, if AUTHENTICATE middleware allows it.

        Raises:
            Exception: the token is bad or middleware blocked it; the socket has no token then.
        """
        socket = self.socket
        if info.auth_token_error is not None:
            self._clear()
            error = info.auth_token_error
            if info.signed_auth_token is not None:
                socket.emit_error(error)
                if getattr(error, "is_bad_token", False):
                    self._emit_bad_token(error, info.signed_auth_token)
            raise error
        if socket.server.has_middleware(MIDDLEWARE_INBOUND):
            try:
                await socket.decide(
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
        if not socket.ended:
            assert info.auth_token is not None
            self._set(info.auth_token, info.signed_auth_token)

    def _emit_bad_token(self, error: BaseException, signed_token: Any) -> None:
        socket = self.socket
        socket.emit("badAuthToken", BadAuthTokenEvent(error, signed_token))
        socket.server.emit(
            "badSocketAuthToken", BadSocketAuthTokenEvent(socket, error, signed_token)
        )

    # What the server gives

    async def set_token(self, claims: dict[str, Any], options: dict[str, Any]) -> None:
        """`AGServerSocket.set_auth_token`."""
        socket = self.socket
        if socket.state == CONNECTING:
            error = InvalidActionError("Cannot call setAuthToken before completing the handshake")
            socket.emit_error(error)
            raise error
        known = {*SIGN_OPTIONS, *getattr(socket.server.auth, "sign_options", ())}
        refuse_unknown(options, known, "set_auth_token")
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
        if socket.state != CLOSED:
            old_state = self.state
            self._set(claims, signed_token)
            socket.emit("authTokenSigned", AuthTokenSignedEvent(signed_token))
            self.trigger_events(old_state)
        if not reject_on_failed_delivery:
            socket.transmit("#setAuthToken", {"token": signed_token})
            return
        try:
            await socket.invoke("#setAuthToken", {"token": signed_token})
        except Exception as cause:
            failure = AuthError(f"Failed to deliver auth token to client - {cause}")
            socket.emit_error(failure)
            raise failure from cause

    async def _sign(self, claims: dict[str, Any], options: dict[str, Any]) -> str:
        server = self.socket.server
        options = {name: value for name, value in options.items() if value is not None}
        options.update(server.default_signature_options, socket=self.socket)
        try:
            if not isinstance(cast(object, claims), dict):
                raise InvalidArgumentsError(
                    f"An auth token's claims must be a dict, not {type(claims).__name__}"
                )
            if claims.get("exp") is None:
                options.setdefault("expires_in", server.options.auth_default_expiry)
            else:
                options.pop("expires_in", None)
            signed = server.auth.sign_token(claims, server.signature_key, options)
            return str(await signed if inspect.isawaitable(signed) else signed)
        except Exception as error:
            self.socket.emit_error(error)
            # The client is not told why: that is about this side only.
            leave(self.socket, CLOSE_SIGNING_FAILED, describe_error(error), "")
            raise
        # `claims` now also has what the engine added, `iat` and `exp`, as a client sees it.

    # Losing it

    def drop(self) -> None:
        """Forget the token, here only; emits the events."""
        socket = self.socket
        old_state, old_token = self.state, self.token
        self._clear()
        if old_state != UNAUTHENTICATED:
            socket.emit("authStateChange", AuthStateChangeEvent(old_state, self.state))
            socket.server.emit(
                "authenticationStateChange",
                AuthenticationStateChangeEvent(socket, old_state, self.state),
            )
        socket.emit("deauthenticate", DeauthenticateEvent(old_token))
        socket.server.emit("deauthentication", DeauthenticationEvent(socket, old_token))

    def drop_and_tell(self) -> None:
        """Forget the token and have the client forget it."""
        self.drop()
        self.socket.transmit_any_state("#removeAuthToken")

    def check_expiry(self) -> AuthTokenExpiredError | None:
        """Take an expired token away; returns what middleware is told of it."""
        if self.expires_at is None or time.time() <= self.expires_at:
            return None
        expired = AuthTokenExpiredError("The socket auth token has expired", self.expires_at)
        self.drop_and_tell()
        return expired

    # State

    def _set(self, claims: dict[str, Any], signed_token: str) -> None:
        lost = self.token is not None and _identity(self.token) != _identity(claims)
        self.state = AUTHENTICATED
        self.token = claims
        self.signed_token = signed_token
        self.expires_at = expiry_of(claims)
        if lost:
            self._lost()

    def _clear(self) -> None:
        lost = self.token is not None
        self.state = UNAUTHENTICATED
        self.token = self.signed_token = self.expires_at = None
        if lost:
            self._lost()

    def _lost(self) -> None:
        self.losses += 1
        self.socket.subscribed.reauthorize()

    def trigger_events(self, old_state: str) -> None:
        """Tell listeners that the socket is authenticated."""
        socket, token = self.socket, self.token
        if token is None:
            return
        if old_state != AUTHENTICATED:
            socket.emit("authStateChange", AuthStateChangeEvent(old_state, self.state, token))
            socket.server.emit(
                "authenticationStateChange",
                AuthenticationStateChangeEvent(socket, old_state, self.state, token),
            )
        socket.emit("authenticate", AuthenticateEvent(token))
        socket.server.emit("authentication", AuthenticationEvent(socket, token))


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
        **options: Any,
    ) -> None:
        """Sign `data` as the client's token, authenticate the socket with it and send it.

        `expires_in` and `not_before` are seconds from now. With `reject_on_failed_delivery` it
        waits until the client has acknowledged. Cancelling before the token is signed changes
        nothing; after that only the waiting is given up. `options` are those that the auth engine
        names in `sign_options`.

        Raises:
            InvalidActionError: before the handshake is complete.
            InvalidArgumentsError: there is no such option, and nothing has changed; or `data` is
                not a dict, a time is out of range, or an option contradicts a claim, and the
                socket is closed with 4002.
            AuthError: the client did not acknowledge, with `reject_on_failed_delivery`; without
                it, a socket that is closed by then only warns.
        """
        self.loop_binding.check()
        options.update(
            expires_in=expires_in,
            not_before=not_before,
            audience=audience,
            issuer=issuer,
            subject=subject,
            jwt_id=jwt_id,
            header=header,
            reject_on_failed_delivery=reject_on_failed_delivery,
        )
        await self.auth.set_token(data, options)

    def deauthenticate_self(self) -> None:
        """Take the token away on this side only."""
        self.loop_binding.check()
        self.auth.drop()

    async def deauthenticate(
        self, *, reject_on_failed_delivery: bool = False, **wrong: Never
    ) -> None:
        """Take the token away, and have the client remove it.

        With `reject_on_failed_delivery` it waits until the client has acknowledged, and raises
        what `invoke` raises. Cancelling gives up the waiting only.

        Raises:
            InvalidArgumentsError: there is no such option; nothing has changed.
        """
        self.loop_binding.check()
        refuse_unknown(wrong, ("reject_on_failed_delivery",), "deauthenticate")
        if not reject_on_failed_delivery:
            self.auth.drop_and_tell()
            return
        self.auth.drop()
        try:
            await self.auth.socket.invoke("#removeAuthToken")
        except Exception as error:
            self.auth.socket.emit_error(error)
            raise

    def is_auth_token_expired(self, token: dict[str, Any] | None) -> bool:
        """Whether claims have an `exp` that is past."""
        return token is not None and is_expired(token, time.time())
