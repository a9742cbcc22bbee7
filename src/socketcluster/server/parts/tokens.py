"""The tokens of a server: its auth engine and keys, verifying and signing."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from socketcluster.auth import (
    SIGN_OPTIONS,
    AuthEngine,
    JWTAuthEngine,
    translate_token_error,
    warn_of_short_key,
)
from socketcluster.errors import (
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    AuthTokenNotBeforeError,
    InvalidArgumentsError,
)
from socketcluster.literals import AuthenticationState
from socketcluster.options import refuse_unknown
from socketcluster.protocol.state import AUTHENTICATED, UNAUTHENTICATED

_REASONS = (
    (AuthTokenExpiredError, "expired"),
    (AuthTokenNotBeforeError, "early"),
    (AuthTokenInvalidError, "invalid"),
    (BaseException, "other"),
)
REASONS = tuple(reason for _, reason in _REASONS)
"""Why a client's token was not accepted."""


@dataclass(frozen=True, slots=True)
class AuthInfo:
    """The result of verifying a client's token; `action.data` of HANDSHAKE_SC."""

    signed_auth_token: Any
    auth_token_error: BaseException | None
    auth_token: dict[str, Any] | None
    auth_state: AuthenticationState


class Tokens:
    """Verifies and signs the tokens of a server's sockets.

    Attributes:
        engine: the auth engine.
        signature_key, verification_key: handed to the engine.
        signature_options, verification_options: handed to the engine with each token.
        failures: tokens of clients that were not accepted, by reason.
    """

    __slots__ = (
        "_default_expiry",
        "_report_engine",
        "engine",
        "failures",
        "signature_key",
        "signature_options",
        "verification_key",
        "verification_options",
    )

    signature_key: str | bytes
    verification_key: str | bytes

    def __init__(
        self,
        engine: AuthEngine | None,
        keys: tuple[str | bytes, str | bytes],
        algorithm: str,
        verify_algorithms: list[str],
        default_expiry: float,
        report_engine: Callable[[BaseException, Any], None],
    ) -> None:
        """Make the tokens of a server.

        `keys` are the ones that sign and verify; `default_expiry` is in seconds; `report_engine`
        logs an engine's failure, as opposed to a bad token.
        """
        self.engine: AuthEngine = engine or JWTAuthEngine()
        self.signature_key, self.verification_key = keys
        self.signature_options: dict[str, Any] = {"algorithm": algorithm}
        self.verification_options: dict[str, Any] = {"algorithms": verify_algorithms}
        self._default_expiry = default_expiry
        self._report_engine = report_engine
        self.failures: Counter[str] = Counter()
        if isinstance(self.engine, JWTAuthEngine):
            warn_of_short_key(self.signature_key, algorithm)

    async def verify(self, signed_token: Any, socket: Any) -> AuthInfo:
        """Verify a token with the auth engine. A bad token raises no error."""
        if signed_token is None and type(self.engine) is JWTAuthEngine:
            # The engine's own error. Most clients have no token: its call is 0.6 % of a connection.
            error = AuthTokenInvalidError("jwt must be provided")
            return AuthInfo(None, error, None, UNAUTHENTICATED)
        options = {**self.verification_options, "socket": socket}
        try:
            claims = self.engine.verify_token(signed_token, self.verification_key, options)
            if inspect.isawaitable(claims):
                claims = await claims
            if not isinstance(claims, dict):
                raise AuthTokenInvalidError("The token's claims are not an object")
        except Exception as error:
            failure = translate_token_error(error)
            # Engines raise all kinds of errors when there is no token.
            if signed_token is not None and type(failure) is AuthTokenError:
                self._report_engine(error, socket)
            return AuthInfo(signed_token, failure, None, UNAUTHENTICATED)
        return AuthInfo(signed_token, None, claims, AUTHENTICATED)

    def count_failure(self, error: BaseException) -> None:
        """Count a client's token that was not accepted."""
        reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
        self.failures[reason] += 1

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse an option of `set_auth_token` that the engine does not have.

        Raises:
            InvalidArgumentsError: the engine has no such option.
        """
        names = {*SIGN_OPTIONS, *getattr(self.engine, "sign_options", ())}
        refuse_unknown(options, names, "set_auth_token")

    async def sign(self, claims: dict[str, Any], options: dict[str, Any], socket: Any) -> str:
        """Sign claims with the auth engine, which may add claims such as `iat` and `exp`.

        Raises:
            InvalidArgumentsError: the claims are not a dict.
            Exception: the engine failed.
        """
        options = {name: value for name, value in options.items() if value is not None}
        options.update(self.signature_options, socket=socket)
        if not isinstance(cast("object", claims), dict):
            raise InvalidArgumentsError(
                f"An auth token's claims must be a dict, not {type(claims).__name__}"
            )
        if claims.get("exp") is None:
            options.setdefault("expires_in", self._default_expiry)
        else:
            options.pop("expires_in", None)
        signed = self.engine.sign_token(claims, self.signature_key, options)
        return str(await signed if inspect.isawaitable(signed) else signed)
