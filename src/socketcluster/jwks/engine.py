"""JWKSAuthEngine: verifies tokens with the public keys that their issuer publishes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jwt

from socketcluster.auth import MAX_TOKEN_LENGTH, JWTAuthEngine
from socketcluster.errors import (
    AuthTokenError,
    AuthTokenInvalidError,
    InvalidOptionsError,
    UsageError,
)
from socketcluster.jwks.fetching import FetchError, check_url, fetch
from socketcluster.jwks.keys import KeySetError, PublicKey, find_key, parse_keys

logger: logging.Logger = logging.getLogger("socketcluster.auth")

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
RETRY_SECONDS = 30.0
"""The shortest time between two fetches, whatever unknown keys tokens name."""


class JWKSAuthEngine:
    """Verifies JSON Web Tokens of an identity provider, with the keys that it publishes.

        AGServer(auth_engine=JWKSAuthEngine(
            "https://id.example.com/.well-known/jwks.json",
            issuer="https://id.example.com/", audience="chat"))

    The keys are fetched in a thread when the first token arrives, and kept for `cache_seconds`. If
    they cannot be fetched then, they are used for another `stale_seconds`. A token that names an
    unknown key causes another fetch, at most every 30 s. The header's `jku` and `x5u` are ignored.
    Only public keys count, each for the algorithms of its type and curve.

    While there are no keys, a token is refused with an AuthTokenError whose `is_bad_token` is
    false, so that clients keep it. Each failed fetch is logged as a WARNING.

    Args:
        url: the key set; https, or http to this machine.
        issuer: the `iss` that a token must have.
        audience: the `aud`, or one of several; None accepts any, also a token for another
            application of the same issuer.
        algorithms: the accepted ones; all are signatures with a public key.
        timeout: seconds for a fetch.

    Raises:
        InvalidOptionsError: the url is not https, or an algorithm is unknown or symmetric.

    Source: RFC 7517, RFC 8725.
    """

    def __init__(
        self,
        url: str,
        *,
        issuer: str,
        audience: str | Sequence[str] | None = None,
        algorithms: Sequence[str] = ALGORITHMS,
        cache_seconds: float = 3600,
        stale_seconds: float = 24 * 3600,
        timeout: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        refused = [name for name in algorithms if name not in ALGORITHMS]
        if isinstance(algorithms, str) or refused or not algorithms:
            raise InvalidOptionsError(
                f"The algorithms must be of {', '.join(ALGORITHMS)}, not {algorithms!r}",
                "algorithms",
            )
        if not isinstance(issuer, str) or not issuer:
            raise InvalidOptionsError("The issuer must be a text, the `iss` of tokens", "issuer")
        self.url: str = check_url(url)
        self._options = {"issuer": issuer, "audience": audience}
        self._algorithms = tuple(algorithms)
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._timeout = timeout
        self._clock = clock
        self._verifier = JWTAuthEngine()
        self._keys: list[PublicKey] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def verify_token(
        self, signed_token: Any, key: str | bytes, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Verify a token, and return its claims; `key` and `options` of the server are not used.

        Raises:
            AuthTokenInvalidError, AuthTokenExpiredError, AuthTokenNotBeforeError: it is invalid.
            AuthTokenError: the keys cannot be fetched.
            InvalidArgumentsError: it is no text.
        """
        algorithm, kid = self._read_header(signed_token)
        found = await self._find(kid, algorithm)
        if found is None:
            raise AuthTokenInvalidError("The issuer has no key for this token")
        return self._verifier.verify_token(
            signed_token, found.pem, {**self._options, "algorithms": [algorithm]}
        )

    def sign_token(self, token: dict[str, Any], key: str | bytes, options: Any) -> NoReturn:
        """Refuse to sign.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "JWKSAuthEngine only verifies tokens: its issuer signs them, so set_auth_token has no "
            "use here; clients authenticate with a token of the issuer"
        )

    def _read_header(self, signed_token: Any) -> tuple[str, str | None]:
        """Return the algorithm and the key's name, which nothing has verified yet."""
        plain = isinstance(signed_token, str) and 0 < len(signed_token) <= MAX_TOKEN_LENGTH
        if not plain or signed_token.count(".") != 2:
            self._verifier.verify_token(signed_token, "", {})  # Raises the error for it.
        try:
            header = jwt.get_unverified_header(signed_token)
        except Exception as error:
            raise AuthTokenInvalidError("invalid token") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise AuthTokenInvalidError("invalid algorithm")
        return algorithm, kid if isinstance(kid, str) else None

    async def _find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        found = find_key(self._keys, kid, algorithm)
        if (found is None or self._age() > self._cache_seconds) and self._may_fetch():
            await self._fetch()
            found = find_key(self._keys, kid, algorithm)
        if self._age() > self._cache_seconds + self._stale_seconds:
            error = AuthTokenError("The keys of the token's issuer are not available")
            error.is_bad_token = False  # The client keeps its token.
            raise error
        return found

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _may_fetch(self) -> bool:
        if self._fetching is not None or self._tried_at is None:
            return True
        return self._clock() - self._tried_at >= RETRY_SECONDS

    async def _fetch(self) -> None:
        """Fetch the keys, or wait for the fetch under way. Cancelling a caller leaves it alone."""
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.ensure_future(self._refresh())
        await asyncio.shield(self._fetching)

    async def _refresh(self) -> None:
        try:
            document = await asyncio.to_thread(fetch, self.url, self._timeout)
            self._keys = parse_keys(document)
            self._fetched_at = self._clock()
        except (FetchError, KeySetError) as error:
            until = "" if self._fetched_at is None else "; the former keys are used meanwhile"
            text = f"The keys of tokens cannot be fetched from {self.url}: {error}{until}"
            logger.warning("%s", text.encode("unicode_escape").decode()[:900])
        finally:
            self._fetching = None
