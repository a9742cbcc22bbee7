"""JWKSAuthEngine: verification with keys that a real HTTP server on this machine publishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from socketcluster import AGServer, JWKSAuthEngine
from socketcluster.errors import (
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    InvalidArgumentsError,
    InvalidOptionsError,
    UsageError,
)
from socketcluster.jwks.fetching import MAX_BYTES, FetchError, fetch
from socketcluster.jwks.keys import parse_keys
from support import connected

ISSUER = "https://id.example.com/"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str | None = None, **fields: Any) -> dict[str, Any]:
    algorithm: Any = RSAAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = OKPAlgorithm
    found: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, **({} if kid is None else {"kid": kid}), **fields}


def sign(key: Any, kid: str | None = None, algorithm: str = "RS256", **claims: Any) -> str:
    header = {} if kid is None else {"kid": kid}
    claims = {"iss": ISSUER, "sub": "ann", "aud": "chat", **claims}
    return jwt.encode(claims, key, algorithm, headers=header)


class Provider:
    """An HTTP server whose answers a test sets."""

    def __init__(self) -> None:
        self.requests = 0
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.asked = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests += 1
                provider.asked.set()
                provider.hold.wait(30)
                self.send_response(provider.status)
                for name, value in provider.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(provider.body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # The reader had enough.
                    self.wfile.write(provider.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def engine(provider: Provider, **options: Any) -> JWKSAuthEngine:
    return JWKSAuthEngine(provider.url, **{"issuer": ISSUER, "audience": "chat", **options})


async def verify(engine: JWKSAuthEngine, token: Any) -> dict[str, Any]:
    return await engine.verify_token(token, "", {"algorithms": ["HS256"]})


async def test_tokens_of_each_key_type(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY, "r"), jwk(EC_KEY, "e"), jwk(ED_KEY, "d"))
    verifying = engine(provider)
    for key, kid, algorithm in (
        (RSA_KEY, "r", "RS256"),
        (RSA_KEY, "r", "PS512"),
        (EC_KEY, "e", "ES256"),
        (ED_KEY, "d", "EdDSA"),
    ):
        assert (await verify(verifying, sign(key, kid, algorithm)))["sub"] == "ann"
    assert provider.requests == 1


@pytest.mark.parametrize(
    "token",
    [
        sign(OTHER_KEY, "r"),
        sign(RSA_KEY, "r", iss="https://evil.example.com/"),
        sign(RSA_KEY, "r", aud="mail"),
        sign(RSA_KEY, "unknown"),
        sign(RSA_KEY),  # Without kid, and the set has two keys.
        sign(RSA_KEY, "e"),
        sign(RSA_KEY, "r", "PS256"),  # The key is published for RS256 only.
        sign("secret " * 10, "r", "HS256"),
        sign("secret " * 10, "o", "HS256"),
        jwt.encode({"iss": ISSUER}, "", "none"),
        "a.b.c",
        "..",
        "a",
        "",
        None,
        "a." * 20_000,
    ],
)
async def test_bad_tokens(provider: Provider, token: Any) -> None:
    oct_key = {"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0", "kid": "o"}
    provider.publish(jwk(RSA_KEY, "r", alg="RS256"), jwk(EC_KEY, "e"), oct_key, {"kty": "new"})
    with pytest.raises(AuthTokenInvalidError) as raised:
        await verify(engine(provider), token)
    assert raised.value.is_bad_token


async def test_times_and_types_are_checked(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY, "r"))
    with pytest.raises(AuthTokenExpiredError):
        await verify(engine(provider), sign(RSA_KEY, "r", exp=1))
    with pytest.raises(InvalidArgumentsError):
        await verify(engine(provider), 5)


async def test_a_key_in_the_token_and_urls_in_it_are_ignored(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY, "r"))
    header = {"kid": "r", "jku": provider.url, "x5u": provider.url, "jwk": jwk(OTHER_KEY, "r")}
    token = jwt.encode({"iss": ISSUER, "aud": "chat"}, OTHER_KEY, "RS256", headers=header)
    with pytest.raises(AuthTokenInvalidError, match="invalid signature"):
        await verify(engine(provider), token)


async def test_a_key_without_a_name_and_an_encryption_key(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY), jwk(OTHER_KEY, use="enc"))
    verifying = engine(provider, audience=["mail", "chat"])
    assert await verify(verifying, sign(RSA_KEY))
    with pytest.raises(AuthTokenInvalidError, match="no key"):
        await verify(verifying, sign(RSA_KEY, algorithm="RS256", kid="named"))


async def test_rotation_and_storms_of_unknown_keys(provider: Provider) -> None:
    clock = Clock()
    provider.publish(jwk(RSA_KEY, "old"))
    verifying = engine(provider, clock=clock)
    assert await verify(verifying, sign(RSA_KEY, "old"))
    provider.publish(jwk(OTHER_KEY, "new"))
    for _ in range(20):
        with pytest.raises(AuthTokenInvalidError, match="no key"):
            await verify(verifying, sign(OTHER_KEY, "new"))
    assert provider.requests == 1
    clock.now += 30
    tokens = [sign(OTHER_KEY, "new"), *[sign(OTHER_KEY, f"unknown {n}") for n in range(20)]]
    first, *others = await asyncio.gather(
        *(verify(verifying, token) for token in tokens), return_exceptions=True
    )
    assert isinstance(first, dict)
    assert all(isinstance(error, AuthTokenInvalidError) for error in others)
    assert provider.requests == 2
    with pytest.raises(AuthTokenInvalidError, match="no key"):
        await verify(verifying, sign(RSA_KEY, "old"))  # Its issuer withdrew it.


async def test_keys_are_cached_then_stale_then_gone(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    provider.publish(jwk(RSA_KEY, "r"))
    verifying, token = engine(provider, clock=clock), sign(RSA_KEY, "r")
    await verify(verifying, token)
    clock.now += 3600
    await verify(verifying, token)
    assert provider.requests == 1
    provider.status = 500
    clock.now += 1
    await verify(verifying, token)
    await verify(verifying, token)
    assert provider.requests == 2
    (record,) = caplog.records
    assert "cannot be fetched from http://127.0.0.1:" in record.message
    assert "500" in record.message
    clock.now += 24 * 3600
    with pytest.raises(AuthTokenError, match="not available") as raised:
        await verify(verifying, token)
    assert type(raised.value) is AuthTokenError
    assert not raised.value.is_bad_token
    provider.status = 200
    clock.now += 30
    assert await verify(verifying, token)


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason"),
    [
        (200, b"{", {}, "no set of keys"),
        (200, b"[]", {}, "no set of keys"),
        (200, b'{"keys": 5}', {}, "no set of keys"),
        (200, b'{"keys": [{"kty": "RSA", "n": "!"}, {}]}', {}, "no public key"),
        (200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', {}, "no public key"),
        (200, b" " * (MAX_BYTES + 1), {}, "larger than"),
        (404, b"\nforged", {}, "404"),
        (302, b"", {"Location": "http://localhost:1/keys"}, "redirects to another host"),
        (302, b"", {"Location": "file:///etc/hosts"}, "not allowed"),
    ],
)
async def test_answers_that_are_no_keys(
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
    headers: dict[str, str],
    reason: str,
) -> None:
    provider.status, provider.body, provider.headers = status, body, headers
    with pytest.raises(AuthTokenError) as raised:
        await verify(engine(provider), sign(RSA_KEY, "r"))
    assert not raised.value.is_bad_token
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.message
    assert "\n" not in record.message


async def test_a_slow_endpoint_blocks_nothing_and_a_caller_may_leave(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY, "r"))
    provider.hold.clear()
    verifying, token = engine(provider, timeout=20), sign(RSA_KEY, "r")
    leaving = asyncio.ensure_future(verify(verifying, token))
    staying = asyncio.ensure_future(verify(verifying, token))
    await asyncio.to_thread(provider.asked.wait, 20)  # The loop goes on meanwhile.
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    provider.hold.set()
    assert (await staying)["sub"] == "ann"
    assert provider.requests == 1


def test_an_endpoint_that_does_not_answer(provider: Provider) -> None:
    provider.hold.clear()
    with pytest.raises(FetchError):
        fetch(provider.url, 0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://id.example.com/keys"},
        {"url": "file:///etc/passwd"},
        {"url": "https://"},
        {"url": 5},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"algorithms": "RS256"},
        {"issuer": ""},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    good: dict[str, Any] = {"url": "https://id.example.com/keys", "issuer": ISSUER}
    JWKSAuthEngine(**good)
    with pytest.raises(InvalidOptionsError):
        JWKSAuthEngine(**{**good, **options})


async def test_a_client_with_a_token_of_the_provider(provider: Provider) -> None:
    provider.publish(jwk(RSA_KEY, "r"))
    async with AGServer(auth_engine=engine(provider), drain_timeout=100) as server:
        await server.listen(0)
        token = sign(RSA_KEY, "r", exp=int(time.time()) + 60)
        async with connected(server, token=token):
            (socket,) = server.clients.values()
            assert socket.auth_token is not None
            assert socket.auth_token["sub"] == "ann"
            with pytest.raises(UsageError, match="only verifies"):
                await socket.set_auth_token({"sub": "eve"})


@pytest.mark.parametrize("fields", [{"alg": "none"}, {"kty": []}, {"n": 5}, {"e": "AA"}])
def test_a_key_that_cannot_be_read_is_left_out(fields: dict[str, Any]) -> None:
    keys = [jwk(RSA_KEY, "odd", **fields), jwk(OTHER_KEY, "good")]
    assert [key.kid for key in parse_keys(json.dumps({"keys": keys}).encode())] == ["good"]
