"""Auth engines, which sign and verify the tokens of sockets: JWT by default.

Source: RFC 7519; npm ag-auth and jsonwebtoken, with whose tokens it is compatible.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
import warnings
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeGuard, cast

import jwt

from socketcluster.errors import (
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    AuthTokenNotBeforeError,
    InvalidArgumentsError,
    SocketClusterError,
)

logger: logging.Logger = logging.getLogger("socketcluster.auth")

MAX_TOKEN_LENGTH = 32 * 1024
"""Characters of the longest token to verify: the time grows with its length."""

MAX_TIME = 2**53
"""The latest `exp`, `nbf` and `iat`, in seconds: the largest number exact in every language."""

SIGN_OPTIONS = (
    "expires_in",
    "not_before",
    "audience",
    "issuer",
    "subject",
    "jwt_id",
    "header",
    "algorithm",
    "reject_on_failed_delivery",
)
"""Options of `set_auth_token`. An auth engine lists further ones in `sign_options`."""

_LONGEST = 1e11

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII).fullmatch
_HMAC = ("HS256", "HS384", "HS512")
_CLAIMS = {
    "audience": "aud",
    "issuer": "iss",
    "subject": "sub",
    "jwt_id": "jti",
    "expires_in": "exp",
    "not_before": "nbf",
}
_NO_CHECKS = {
    "verify_sub": False,
    "verify_jti": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_exp": False,
    "verify_nbf": False,
}


class AuthEngine(Protocol):
    """Signs and verifies tokens. Both methods may be async, and find the socket in `options`.

    An engine lists options that `JWTAuthEngine` does not have in an attribute `sign_options`;
    `set_auth_token` refuses all others.
    """

    def verify_token(
        self, signed_token: Any, key: str | bytes, options: Mapping[str, Any]
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Verify a token, and return its claims; raise if it is bad. `options` has `algorithms`."""
        ...

    def sign_token(
        self, token: dict[str, Any], key: str | bytes, options: Mapping[str, Any]
    ) -> str | Awaitable[str]:
        """Sign claims; `options` has `algorithm` and the options of `set_auth_token`.

        Claims that it adds to `token`, such as `exp`, are the socket's claims too.
        """
        ...


class JWTAuthEngine:
    """The default auth engine: JSON Web Tokens (RFC 7519), with PyJWT."""

    __slots__ = ("_max_length",)

    def __init__(self, max_token_length: int = MAX_TOKEN_LENGTH) -> None:
        self._max_length = max_token_length

    def verify_token(
        self, signed_token: Any, key: str | bytes, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Verify a token with one of `options["algorithms"]`, and return its claims.

        `audience` and `issuer` are checked if they are in `options`.

        Raises:
            AuthTokenExpiredError: it has expired.
            AuthTokenNotBeforeError: it is not valid yet.
            AuthTokenInvalidError: it is invalid for another reason.
            InvalidArgumentsError: it is no text.
        """
        if signed_token is None or signed_token == "":
            raise AuthTokenInvalidError("jwt must be provided")
        if not isinstance(signed_token, str):
            raise InvalidArgumentsError("Invalid token format - Token must be a string")
        if len(signed_token) > self._max_length:
            raise AuthTokenInvalidError("jwt is too long")
        if signed_token.count(".") != 2:
            raise AuthTokenInvalidError("jwt malformed")
        if not _COMPACT(signed_token):
            raise AuthTokenInvalidError("invalid token")
        if signed_token.endswith("."):
            raise AuthTokenInvalidError("jwt signature is required")
        # A public key is no secret: with HMAC allowed, its owner could sign tokens.
        refused = ("none", *_HMAC) if _is_pem(key) else ("none",)
        algorithms = [a for a in options.get("algorithms") or () if a not in refused]
        if not algorithms:
            raise AuthTokenInvalidError("invalid algorithm")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Short keys: see `warn_of_short_key`.
                claims: dict[str, Any] = jwt.decode(
                    signed_token,
                    key,
                    algorithms=algorithms,
                    options=_NO_CHECKS,  # type: ignore[arg-type]
                )
        except Exception as error:
            raise AuthTokenInvalidError(_message(error)) from error
        _check_times(claims)
        _check_parties(claims, options)
        return claims

    def sign_token(
        self, token: dict[str, Any], key: str | bytes, options: Mapping[str, Any]
    ) -> str:
        """Sign claims, and return the token; add `iat` and the claims of the options to `token`.

        Raises:
            InvalidArgumentsError: an option contradicts a claim or has a wrong type, a claim
                cannot be encoded, a time is out of range, the token would be too long to verify,
                or the key does not fit the algorithm.
        """
        if not isinstance(cast("object", token), dict):
            raise InvalidArgumentsError("The claims of a token must be a dict")
        _make_times_numbers(token)
        token.setdefault("iat", int(time.time()))
        for option, claim in _CLAIMS.items():
            value = options.get(option)
            if value is None:
                continue
            if claim in token:
                raise InvalidArgumentsError(
                    f'Bad "options.{option}" option. The payload already has an "{claim}" property.'
                )
            if option in ("expires_in", "not_before"):
                value = token["iat"] + _seconds(option, value)
            token[claim] = value
        _check_times_signed(token)
        algorithm, header = options.get("algorithm", "HS256"), options.get("header")
        _check_signing(key, algorithm, header)
        try:
            json.dumps(token, allow_nan=False)  # Other languages cannot read NaN.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                signed = jwt.encode(token, key, algorithm=algorithm, headers=header)
        except Exception as error:
            raise InvalidArgumentsError(f"The token cannot be signed: {error}") from error
        if len(signed) > self._max_length:
            raise InvalidArgumentsError(
                f"The token is too long: {len(signed)} characters, and at most {self._max_length} "
                "are verified"
            )
        return signed


def warn_of_short_key(key: str | bytes, algorithm: str) -> None:
    """Log a WARNING if the secret of an HMAC algorithm is shorter than the algorithm's hash.

    Source: RFC 7518, 3.2.
    """
    if algorithm not in _HMAC or _is_pem(key):
        return
    length, wanted = len(key.encode() if isinstance(key, str) else key), int(algorithm[2:]) // 8
    if length < wanted:
        logger.warning(
            "The auth_key is %d bytes long; a secret for %s must have at least %d bytes, or it can "
            "be guessed from any token. Make one with secrets.token_hex(%d)",
            length,
            algorithm,
            wanted,
            wanted,
        )


def _is_pem(key: str | bytes) -> bool:
    return "-----BEGIN " in key if isinstance(key, str) else b"-----BEGIN " in key


def _check_signing(key: str | bytes, algorithm: Any, header: Any) -> None:
    if algorithm == "none":
        raise InvalidArgumentsError("A token must be signed")
    if algorithm in _HMAC and _is_pem(key):
        raise InvalidArgumentsError("A PEM key cannot be the secret of an HMAC algorithm")
    if header is not None and not isinstance(header, dict):
        raise InvalidArgumentsError('"header" must be a dict')
    if header and header.get("alg", algorithm) != algorithm:
        raise InvalidArgumentsError('"header" cannot change the algorithm')


def _make_times_numbers(claims: dict[str, Any]) -> None:
    for claim in ("iat", "exp", "nbf"):
        if claim not in claims:
            continue
        if isinstance(claims[claim], datetime):
            claims[claim] = int(claims[claim].timestamp())
        if not _is_number(claims[claim]):
            raise InvalidArgumentsError(f'"{claim}" should be a number of seconds')


def _check_times_signed(claims: Mapping[str, Any]) -> None:
    for claim in ("iat", "exp", "nbf"):
        if claim in claims and not 0 <= claims[claim] <= MAX_TIME:
            raise InvalidArgumentsError(
                f'"{claim}" must be from 0 to 2**53 seconds since 1970; expires_in and not_before '
                "count from now"
            )


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _message(error: BaseException) -> str:
    """Return the message that jsonwebtoken has for an error of PyJWT."""
    if isinstance(error, jwt.InvalidSignatureError):
        return "invalid signature"
    if isinstance(error, jwt.InvalidAlgorithmError):
        return "invalid algorithm"
    return "invalid token"


def _seconds(option: str, value: Any) -> int:
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if not _is_number(value) or abs(value) > _LONGEST:
        raise InvalidArgumentsError(f'"{option}" must be a number of seconds or a timedelta')
    return int(value)


def _check_times(claims: Mapping[str, Any]) -> None:
    now = time.time()
    for claim in ("exp", "nbf"):
        if claim in claims and not (_is_number(claims[claim]) and claims[claim] <= MAX_TIME):
            raise AuthTokenInvalidError(f"invalid {claim} value")
    starts = claims.get("nbf")
    if starts is not None and starts > now:
        raise AuthTokenNotBeforeError("jwt not active", _moment(starts))
    if is_expired(claims, now):
        raise AuthTokenExpiredError("jwt expired", _moment(claims["exp"]))


def _check_parties(claims: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for option, claim in (("audience", "aud"), ("issuer", "iss")):
        wanted = options.get(option)
        if wanted is None:
            continue
        accepted = [wanted] if isinstance(wanted, str) else list(wanted)
        claimed = claims.get(claim)
        values = claimed if isinstance(claimed, list) else [claimed]
        if not any(value in accepted for value in values):
            raise AuthTokenInvalidError(f"jwt {option} invalid. expected: {' or '.join(accepted)}")


def _moment(seconds: float) -> datetime | float:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


def is_expired(claims: Mapping[str, Any], now: float) -> bool:
    """Return whether the `exp` of claims is past at `now`, in seconds since 1970.

    An `exp` that is no number is not past; `JWTAuthEngine` refuses such a token.
    """
    expiry = claims.get("exp")
    return _is_number(expiry) and now >= expiry


def expiry_of(claims: Mapping[str, Any]) -> float | None:
    """Return the time at which claims expire, in seconds since 1970; None for never."""
    expiry = claims.get("exp")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or expiry > MAX_TIME:
        return None
    return float(expiry) if expiry > 0 else 0.0  # Also for NaN.


def translate_token_error(error: BaseException) -> AuthTokenError:
    """Turn an error of any auth engine into an AuthTokenError, by its name.

    A client receives the message only of an error of this package, or derived from one; for any
    other it is "Invalid token".

    Source: npm socketcluster-server, AGServerSocket.
    """
    if isinstance(error, AuthTokenError):
        return error
    name = getattr(error, "name", type(error).__name__)
    if name in ("TokenExpiredError", "ExpiredSignatureError"):
        ours: AuthTokenError = AuthTokenExpiredError(str(error), _time(error, "expired_at"))
    elif name in ("NotBeforeError", "ImmatureSignatureError"):
        ours = AuthTokenNotBeforeError(str(error), _time(error, "date"))
    elif name in ("JsonWebTokenError", "InvalidTokenError") or isinstance(
        error, jwt.InvalidTokenError
    ):
        ours = AuthTokenInvalidError(str(error))
    else:
        ours = AuthTokenError(str(error))
    ours.__cause__ = error
    if isinstance(error, SocketClusterError):
        ours.public_message = error.public_message
    else:
        ours.public_message = "Invalid token"
    return ours


def _time(error: BaseException, name: str) -> Any:
    value = getattr(error, name, None)
    return value if isinstance(value, datetime) or _is_number(value) else None
