"""Tokens: shown, given, refused, expired, taken away."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from socketcluster import AGAction, AGServer
from socketcluster.errors import (
    AuthError,
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    BrokerError,
    InvalidActionError,
    InvalidArgumentsError,
)
from support import AnswerError, Running, connected, soon, until

KEY = "k" * 32


def signed(claims: dict[str, Any], key: Any = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


async def make(make_server: Any, **options: Any) -> AGServer:
    server: AGServer = await make_server(auth_key=KEY, **options)
    return server


async def test_handshake_with_a_good_token(make_server: Any, running: Running) -> None:
    server = await make(make_server)
    states = running.collect(server.listener("authenticationStateChange"))
    logins = running.collect(server.listener("authentication"))
    token = signed({"name": "bob", "sub": 5, "iat": time.time() + 60})
    async with connected(server, handshake=False) as client:
        assert (await client.handshake(token))["isAuthenticated"] is True
        (socket,) = server.clients.values()
        assert socket.auth_token == socket.get_auth_token()
        assert (socket.auth_token or {})["name"] == "bob"
        assert socket.signed_auth_token == token
        await until(lambda: len(states) == len(logins) == 1)
        assert (states[0].old_auth_state, states[0].new_auth_state) == (
            "unauthenticated",
            "authenticated",
        )
        assert logins[0].auth_token["name"] == "bob"


async def test_empty_claims_are_authenticated(make_server: Any) -> None:
    server = await make(make_server)
    async with connected(server, handshake=False) as client:
        assert (await client.handshake(signed({})))["isAuthenticated"] is True


@pytest.mark.parametrize(
    ("token", "name", "message", "is_bad"),
    [
        ("nonsense", "AuthTokenInvalidError", "jwt malformed", True),
        (signed({}, "x" * 32), "AuthTokenInvalidError", "invalid signature", True),
        (signed({}, "k" * 64, "HS512"), "AuthTokenInvalidError", "invalid algorithm", True),
        (jwt.encode({}, "", "none"), "AuthTokenInvalidError", "jwt signature is required", True),
        (
            jwt.encode({}, "", "none") + "eA",
            "AuthTokenInvalidError",
            "invalid algorithm",
            True,
        ),
        (" " + signed({}), "AuthTokenInvalidError", "invalid token", True),
        (signed({}) + "=", "AuthTokenInvalidError", "invalid token", True),
        (signed({}) + "\n", "AuthTokenInvalidError", "invalid token", True),
        ("a.b.c", "AuthTokenInvalidError", "invalid token", True),
        (5, "AuthTokenError", "Invalid token format - Token must be a string", True),
        ([], "AuthTokenError", "Invalid token format - Token must be a string", True),
        (signed({"exp": 5}), "AuthTokenExpiredError", "jwt expired", True),
        (signed({"nbf": 9e9}), "AuthTokenNotBeforeError", "jwt not active", False),
        ("x" * 36_000, "AuthTokenInvalidError", "jwt is too long", True),
    ],
)
async def test_bad_tokens_in_the_handshake(
    make_server: Any, running: Running, token: Any, name: str, message: str, is_bad: bool
) -> None:
    server = await make(make_server)
    bad = running.collect(server.listener("badSocketAuthToken"))
    async with connected(server, handshake=False) as client:
        status = await client.handshake(token)
        assert status["isAuthenticated"] is False
        assert status["authError"]["name"] == name
        assert status["authError"]["message"] == message
        assert status["authError"]["isBadToken"] is is_bad
        if is_bad:
            assert (await client.event())["event"] == "#removeAuthToken"
            await until(lambda: len(bad) == 1)
            assert bad[0].signed_auth_token == token
            assert bad[0].auth_error.name == name
        assert bad == [] or is_bad
        (socket,) = server.clients.values()
        assert socket.auth_token is None


@pytest.mark.parametrize("token", [None, "", 0, False])
async def test_no_token_in_the_handshake_is_no_error(
    make_server: Any, running: Running, token: Any
) -> None:
    server = await make(make_server)
    warnings = running.collect(server.listener("warning"))
    async with connected(server, handshake=False) as client:
        status = await client.handshake(token)
        assert (status["isAuthenticated"], "authError" in status) == (False, False)
    assert warnings == []


async def test_a_refusal_is_answered_before_the_token_is_removed(make_server: Any) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("#authenticate", "bad")
        await client.event()
        assert '"rid":2' in str(client.messages[-2])
        assert client.messages[-1] == '{"event":"#removeAuthToken"}'


async def test_authenticate_later(make_server: Any, running: Running) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        answer = await client.call("#authenticate", signed({"n": 1}))
        assert answer == {"isAuthenticated": True, "authError": None}
        assert socket.auth_token is not None
        with pytest.raises(AnswerError) as refused:
            await client.call("#authenticate", "bad")
        assert refused.value.wire["name"] == "AuthTokenInvalidError"
        assert socket.auth_state == socket.UNAUTHENTICATED
        assert (await client.event())["event"] == "#removeAuthToken"
        answer = await client.call("#authenticate", signed({"nbf": 9e9}))
        assert answer["isAuthenticated"] is False
        assert answer["authError"]["name"] == "AuthTokenNotBeforeError"
        await client.send({"event": "#authenticate", "data": "x"})
        assert (await client.closed())[0] == 4008


async def test_set_auth_token(make_server: Any, running: Running) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        tokens = running.collect(socket.listener("authTokenSigned"))
        await socket.set_auth_token(
            {"name": "bob"},
            expires_in=60,
            not_before=-5,
            audience="a",
            issuer="i",
            subject="s",
            jwt_id="j",
            header={"kid": "1"},
        )
        packet = await client.event()
        assert packet["event"] == "#setAuthToken"
        token = packet["data"]["token"]
        claims = jwt.decode(token, KEY, ["HS256"], audience="a")
        assert claims["exp"] - claims["iat"] == 60
        assert claims["nbf"] - claims["iat"] == -5
        assert (claims["iss"], claims["sub"], claims["jti"]) == ("i", "s", "j")
        assert jwt.get_unverified_header(token)["kid"] == "1"
        assert socket.auth_token == claims
        await until(lambda: len(tokens) == 1)
        assert tokens[0].signed_auth_token == token == socket.signed_auth_token
        # A claim goes before the option.
        await socket.set_auth_token({"exp": 9_000_000_000}, expires_in=60)
        claims = jwt.decode((await client.event())["data"]["token"], KEY, ["HS256"])
        assert claims["exp"] == 9_000_000_000


async def test_default_expiry(make_server: Any) -> None:
    server = await make(make_server, auth_default_expiry=100)
    async with connected(server):
        (socket,) = server.clients.values()
        await socket.set_auth_token({})
        assert socket.auth_token is not None
        assert socket.auth_token["exp"] - socket.auth_token["iat"] == 100


async def test_delivery_can_be_waited_for(make_server: Any) -> None:
    server = await make(make_server, ack_timeout=20)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        setting = asyncio.create_task(
            socket.set_auth_token({"n": 1}, reject_on_failed_delivery=True)
        )
        packet = await client.event()
        await client.send({"rid": packet["cid"]})
        await soon(setting)
        with pytest.raises(AuthError, match="Failed to deliver auth token to client"):
            await soon(socket.set_auth_token({"n": 1}, reject_on_failed_delivery=True))
        with pytest.raises(TimeoutError):
            await soon(socket.deauthenticate(reject_on_failed_delivery=True))
        assert socket.auth_token is None


async def test_a_token_for_a_closed_socket_is_not_delivered(
    make_server: Any, running: Running
) -> None:
    server = await make(make_server)
    async with connected(server):
        (socket,) = server.clients.values()
        socket.disconnect()
    warnings = running.collect(server.listener("warning"))
    await socket.set_auth_token({"n": 1})
    aborted = "event was aborted due to a bad connection"
    with pytest.raises(AuthError) as failed:
        await socket.set_auth_token({"n": 1}, reject_on_failed_delivery=True)
    why = f"Socket invoke #setAuthToken {aborted}"
    assert str(failed.value) == f"Failed to deliver auth token to client - {why}"
    await until(lambda: len(warnings) == 3)
    assert [str(event.warning) for event in warnings] == [
        f"Socket transmit #setAuthToken {aborted}",
        why,
        str(failed.value),
    ]
    assert socket.auth_token is None


async def test_set_auth_token_before_the_handshake(make_server: Any) -> None:
    server = await make(make_server)
    handshake = server.listener("handshake").create_consumer()
    async with connected(server, handshake=False):
        socket = (await soon(handshake.next())).value.socket
        with pytest.raises(InvalidActionError, match="before completing the handshake"):
            await socket.set_auth_token({})
        assert socket.auth_state == "unauthenticated"


@pytest.mark.parametrize("claims", [{"iss": "a"}, {"bad": object()}, None, "text"])
async def test_signing_that_fails_closes_with_4002(
    make_server: Any, running: Running, claims: Any
) -> None:
    server = await make(make_server)
    gone = running.collect(server.listener("disconnection"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(InvalidArgumentsError) as raised:
            await socket.set_auth_token(claims, issuer="b")
        assert socket.auth_state == "unauthenticated"
        # Why is nothing for the client.
        assert await client.closed() == (4002, "")
    await until(lambda: len(gone) == 1)
    assert gone[0].reason == f"InvalidArgumentsError: {raised.value}"


async def test_the_algorithm_cannot_be_changed(make_server: Any, running: Running) -> None:
    server = await make(make_server)
    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"n": 1}, algorithm="HS512")  # type: ignore[arg-type]
        token = (await client.event())["data"]["token"]
        assert jwt.get_unverified_header(token)["alg"] == "HS256"
        await until(lambda: len(warnings) == 1)
        assert str(warnings[0].warning) == (
            "Cannot change auth token algorithm at runtime - "
            "It must be specified as a config option on launch"
        )


async def test_deauthenticate(make_server: Any, running: Running) -> None:
    server = await make(make_server)
    gone = running.collect(server.listener("deauthentication"))
    states = running.collect(server.listener("authenticationStateChange"))
    async with connected(server, token=signed({"n": 1})) as client:
        (socket,) = server.clients.values()
        own_states = running.collect(socket.listener("authStateChange"))
        await socket.deauthenticate()
        assert await client.event() == {"event": "#removeAuthToken"}
        await until(lambda: len(gone) == 1)
        assert gone[0].old_auth_token["n"] == 1
        for change in (states[-1], own_states[-1]):
            assert (change.old_auth_state, change.new_auth_state, change.auth_token) == (
                "authenticated",
                "unauthenticated",
                None,
            )
        await client.call("#authenticate", signed({"n": 2}))
        await client.send({"event": "#removeAuthToken"})
        await until(lambda: len(gone) == 2)
        assert socket.signed_auth_token is None


async def test_expired_token_is_taken_away_by_a_timer(make_server: Any, running: Running) -> None:
    server = await make(make_server, ping_interval=40)
    gone = running.collect(server.listener("deauthentication"))
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#authenticate", signed({"exp": time.time() + 0.3}))
        await client.call("#subscribe", {"channel": "c"})
        assert socket.auth_token is not None
        assert not socket.is_auth_token_expired(socket.auth_token)
        assert (await client.event())["event"] == "#removeAuthToken"
        assert socket.auth_state == "unauthenticated"
        await until(lambda: len(gone) == 1)


async def test_expiry_is_seen_by_middleware(make_server: Any) -> None:
    server = AGServer(auth_key=KEY, drain_timeout=100)
    errors: list[Any] = []

    async def see(stream: Any) -> None:
        async for action in stream:
            errors.append(action.auth_token_expired_error)
            action.allow()

    server.set_middleware("inbound", see)
    await make_server(server)
    async with connected(server, token=signed({"exp": time.time() + 60})) as client:
        (socket,) = server.clients.values()
        socket.auth.expires_at = time.time() - 1
        with pytest.raises(AnswerError):
            await client.call("nothing")
        assert errors[0] is None
        assert isinstance(errors[1], AuthTokenExpiredError)


async def test_a_socket_is_authenticated_only_after_middleware_allowed_it(
    make_server: Any, running: Running
) -> None:
    server = AGServer(auth_key=KEY, drain_timeout=100)
    states: list[tuple[str, Any]] = []

    class BadError(Exception):
        is_bad_token = True

    async def block(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.AUTHENTICATE:
                states.append((action.socket.auth_state, action.socket.signed_auth_token))
                action.block(BadError("Banned"))
            else:
                action.allow()

    server.set_middleware("inbound", block)
    await make_server(server)
    bad = running.collect(server.listener("badSocketAuthToken"))
    async with connected(server, handshake=False) as client:
        status = await client.handshake(signed({}))
        assert status["isAuthenticated"] is False
        assert status["authError"]["message"] == "Banned"
        (socket,) = server.clients.values()
        assert (socket.auth_token, socket.signed_auth_token) == (None, None)
        await until(lambda: len(bad) == 1)
    assert states == [("unauthenticated", None)]


@functools.cache
def pem_pair(algorithm: str) -> tuple[bytes, bytes]:
    key = (
        rsa.generate_private_key(65537, 2048)
        if algorithm == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_asymmetric_keys(make_server: Any, algorithm: str) -> None:
    private, public = pem_pair(algorithm)
    server = await make_server(
        auth_private_key=private.decode(), auth_public_key=public, auth_algorithm=algorithm
    )
    assert server.signature_key == private.decode()
    assert server.verification_key == public
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"n": 1})
        token = (await client.event())["data"]["token"]
        assert jwt.decode(token, public, [algorithm])["n"] == 1
        assert (await client.call("#authenticate", token))["isAuthenticated"] is True
        # Signed with the public key as if it were an HMAC secret.
        import base64
        import hashlib
        import hmac

        def part(data: bytes) -> bytes:
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        body = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(b"{}")
        forged = body + b"." + part(hmac.digest(public, body, hashlib.sha256))
        with pytest.raises(AnswerError, match="invalid algorithm"):
            await client.call("#authenticate", forged.decode())


@pytest.mark.parametrize("is_async", [False, True])
async def test_custom_engine_receives_the_socket(make_server: Any, is_async: bool) -> None:
    sockets: list[Any] = []

    class Engine:
        def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            sockets.append(options["socket"])
            if signed_token != "good":
                raise ValueError("Not good")
            return {"verified": True}

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            sockets.append(options["socket"])
            assert options["expires_in"] == 86400
            return "good"

    class AsyncEngine(Engine):
        async def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            await asyncio.sleep(0)
            return super().verify_token(signed_token, key, options)

        async def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            await asyncio.sleep(0)
            return super().sign_token(token, key, options)

    server = await make(make_server, auth_engine=AsyncEngine() if is_async else Engine())
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"a": 1})
        assert (await client.event())["data"]["token"] == "good"
        await client.call("#authenticate", "good")
        assert socket.auth_token == {"verified": True}
        with pytest.raises(AnswerError) as refused:
            await client.call("#authenticate", "other")
        assert refused.value.wire["name"] == "AuthTokenError"
        assert set(sockets) == {socket}


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({"auth_key": "k" * 31}, None, ["31 bytes long; a secret for HS256"]),
        ({"auth_key": b"k"}, None, ["1 bytes long; a secret for HS256"]),
        ({}, "short", ["5 bytes long; a secret for HS256"]),
        ({"auth_key": "k" * 63, "auth_algorithm": "HS512"}, None, ["must have at least 64 bytes"]),
        ({"auth_key": "k" * 32}, "short", []),
        ({}, None, []),
    ],
)
async def test_a_short_key_is_logged_when_the_server_is_made(
    make_server: Any,
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: str | None,
    expected: list[str],
) -> None:
    monkeypatch.delenv("SOCKETCLUSTER_AUTH_KEY", raising=False)
    if environment is not None:
        monkeypatch.setenv("SOCKETCLUSTER_AUTH_KEY", environment)
    server = AGServer(drain_timeout=100, **options)
    logged = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(logged) == len(expected)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        for _ in range(2):
            await socket.set_auth_token({})
            assert (await client.event())["event"] == "#setAuthToken"
            await client.call("#authenticate", socket.signed_auth_token)
    # PyJWT's own warning says nothing, here or as a Python warning.
    assert [r for r in caplog.records if r.levelname == "WARNING"] == logged
    for record, text in zip(logged, expected, strict=True):
        assert text in record.getMessage()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("expiresIn", "did you mean 'expires_in'?"),
        ("expire_in", "did you mean 'expires_in'?"),
        ("jwtid", "did you mean 'jwt_id'?"),
        ("rejectOnFailedDelivery", "did you mean 'reject_on_failed_delivery'?"),
        ("zzz", "'zzz'. Its options are: algorithm, audience"),
    ],
)
async def test_a_wrong_option_of_set_auth_token_is_refused(
    make_server: Any, wrong: str, hint: str
) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(InvalidArgumentsError) as refused:
            await socket.set_auth_token({"n": 1}, **{wrong: 5})  # type: ignore[arg-type]
        assert f"set_auth_token has no option {wrong!r}" in str(refused.value)
        assert hint in str(refused.value)
        assert socket.auth_state == "unauthenticated"
        with pytest.raises(AnswerError, match="no procedure"):
            await client.call("still there")
        assert client.events.empty()


async def test_a_wrong_option_of_deauthenticate_is_refused(make_server: Any) -> None:
    server = await make(make_server)
    async with connected(server, token=signed({"n": 1})):
        (socket,) = server.clients.values()
        with pytest.raises(InvalidArgumentsError, match="did you mean 'reject_on_failed_delivery'"):
            await socket.deauthenticate(**{"rejectOnFailedDelivery": True})  # type: ignore[arg-type]
        assert socket.auth_state == "authenticated"


async def test_an_engine_names_options_of_its_own(make_server: Any) -> None:
    class Engine:
        sign_options = ("device",)

        def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            return {}

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            return f"of {options['device']}"

    server = await make(make_server, auth_engine=Engine())
    async with connected(server) as client:
        (socket,) = server.clients.values()
        own: dict[str, Any] = {"device": "phone"}
        await socket.set_auth_token({}, **own)
        assert (await client.event())["data"]["token"] == "of phone"
        with pytest.raises(InvalidArgumentsError, match="did you mean 'device'"):
            await socket.set_auth_token({}, devise="phone")  # type: ignore[arg-type]


IMPOSSIBLE = [10**400, -1, 2**53 + 1, 1e300, float("inf"), float("nan"), True, "5", [5]]


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", IMPOSSIBLE, ids=lambda value: str(value)[:20])
async def test_a_time_out_of_range_is_refused_on_both_sides(
    make_server: Any, claim: str, value: Any
) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(InvalidArgumentsError, match=claim):
            await socket.set_auth_token({claim: value})
        assert socket.auth_state == "unauthenticated"
        assert (await client.closed())[0] == 4002
        assert client.events.empty()


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize("value", IMPOSSIBLE[:1] + IMPOSSIBLE[2:], ids=lambda v: str(v)[:20])
async def test_a_foreign_token_with_a_time_out_of_range_is_bad(
    make_server: Any, claim: str, value: Any
) -> None:
    server = await make(make_server)
    header, body = {"alg": "HS256"}, json.dumps({claim: value})
    token = jwt.api_jws.encode(body.encode(), KEY, "HS256", headers=header)
    async with connected(server, handshake=False) as client:
        status = await client.handshake(token)
        assert status["isAuthenticated"] is False
        assert status["authError"]["message"] == f"invalid {claim} value"
        (socket,) = server.clients.values()
        assert socket.auth_state == "unauthenticated"
        assert (await client.event())["event"] == "#removeAuthToken"


@pytest.mark.parametrize(
    ("exp", "authenticated"),
    [
        (10**400, True),
        (float("inf"), True),
        ("5", True),
        (float("nan"), False),
        (-(10**400), False),
    ],
)
async def test_any_engine_may_have_any_expiry(
    make_server: Any, exp: Any, authenticated: bool
) -> None:
    """What is no time never ends, and never raises; what is before all time has ended."""

    class Engine:
        def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            return {"exp": exp}

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            return "signed"

    server = await make(make_server, auth_engine=Engine())
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("#authenticate", "token")
        with pytest.raises(AnswerError, match="no procedure"):
            await client.call("sync")
        assert (socket.auth_state == "authenticated") is authenticated


async def test_a_token_too_long_to_be_verified_is_not_signed(make_server: Any) -> None:
    server = await make(make_server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        with pytest.raises(InvalidArgumentsError, match="too long"):
            await socket.set_auth_token({"text": "x" * 32 * 1024})
        assert (await client.closed())[0] == 4002


class OwnError(AuthError):
    """An error of an application's auth engine."""


class NoisyError(AuthTokenError):
    """One that a client is told little of."""

    public_message = "Try again"


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (ValueError("db://secret"), "AuthTokenError", "Invalid token"),
        (KeyError("secret"), "AuthTokenError", "Invalid token"),
        (jwt.ExpiredSignatureError("secret"), "AuthTokenExpiredError", "Invalid token"),
        (jwt.DecodeError("secret"), "AuthTokenInvalidError", "Invalid token"),
        (OwnError("Session ended"), "AuthTokenError", "Session ended"),
        (BrokerError("No session store"), "AuthTokenError", "The message broker failed"),
        (AuthTokenInvalidError("Unknown session"), "AuthTokenInvalidError", "Unknown session"),
        (NoisyError("secret"), "NoisyError", "Try again"),
    ],
)
@pytest.mark.parametrize("in_handshake", [False, True])
async def test_what_a_client_is_told_of_an_engine_s_errors(
    make_server: Any,
    running: Running,
    error: Exception,
    name: str,
    message: str,
    in_handshake: bool,
) -> None:
    """Only the package's own errors and those derived from them; here it is known in full."""

    class Engine:
        def verify_token(self, signed_token: Any, key: Any, options: Any) -> Any:
            raise error

        def sign_token(self, token: Any, key: Any, options: Any) -> Any:
            return "signed"

    server = await make(make_server, auth_engine=Engine())
    warnings = running.collect(server.listener("warning"))
    async with connected(server, handshake=False) as client:
        told = (await client.handshake("token" if in_handshake else None)).get("authError")
        if not in_handshake:
            with pytest.raises(AnswerError) as refused:
                await client.call("#authenticate", "token")
            told = refused.value.wire
        assert (told["name"], told["message"]) == (name, message)
        assert "secret" not in str(client.messages)
        await until(lambda: len(warnings) >= 1)
        assert str(error) in str(warnings[0].warning)
