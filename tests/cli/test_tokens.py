"""The token commands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cli.commands import Commands, Result, run_here

KEY = "k" * 32


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    """A runner of commands, with the key in the environment."""
    made = Commands(SOCKETCLUSTER_AUTH_KEY=KEY)
    yield made
    await made.stop()


def token(*arguments: str, stdin: str = "", key: str | None = KEY) -> Result:
    """Run a token command in this process, with a key in the environment."""
    env = {} if key is None else {"SOCKETCLUSTER_AUTH_KEY": key}
    return run_here("token", *arguments, stdin=stdin, env=env)


def assert_failed(result: Result, message: str, status: int = 1) -> None:
    assert result == Result(status, "", f"socketcluster: {message}\n")


async def test_sign_and_verify(commands: Commands) -> None:
    options = ["--expires-in", "2h", "--not-before", "0", "--issuer", "me", "--audience", "you"]
    signed = await commands("token", "sign", '{"name":"é"}', "--subject", "s", *options)
    assert (signed.status, signed.err) == (0, "")
    claims = jwt.decode(signed.out.strip(), KEY, ["HS256"], audience="you", issuer="me")
    assert (claims["name"], claims["sub"]) == ("é", "s")
    assert claims["exp"] - claims["iat"] == 7200
    verified = await commands("token", "verify", signed.out.strip(), "--issuer", "me")
    assert (verified.status, json.loads(verified.out)) == (0, claims)
    decoded = await commands("token", "decode", stdin=signed.out)
    header = {"alg": "HS256", "typ": "JWT"}
    assert json.loads(decoded.out) == {"header": header, "claims": claims}
    refused = await commands("token", "verify", "--issuer", "you", stdin=signed.out + "\n")
    assert_failed(refused, "jwt issuer invalid. expected: you")


async def test_lines_in_and_out(commands: Commands) -> None:
    signed = await commands("token", "sign", stdin='{"n":1}\n{"n":2}\n')
    assert len(signed.out.splitlines()) == 2
    verified = await commands("token", "verify", "-", stdin=signed.out)
    assert [json.loads(line)["n"] for line in verified.out.splitlines()] == [1, 2]


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_pem(tmp_path: Path, algorithm: str) -> None:
    private = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    public = private.public_key()
    (tmp_path / "private").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "public").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    by = ["--algorithm", algorithm]
    signed = token("sign", "{}", "--key-file", str(tmp_path / "private"), *by)
    assert signed.status == 0
    key = ["--key-file", str(tmp_path / "public")]
    assert token("verify", *key, *by, stdin=signed.out).status == 0
    both = ["--algorithm", "HS256", *by]
    assert token("verify", *key, *both, stdin=signed.out).status == 0
    assert_failed(token("verify", *key, stdin=signed.out), "invalid algorithm")
    result = token("sign", "{}", *key)
    assert_failed(result, "A PEM key cannot be the secret of an HMAC algorithm")


def test_a_secret_in_a_file_or_an_option(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("f" * 32 + "\n")
    signed = token("sign", "{}", "--key-file", str(tmp_path / "key"))
    verified = token("verify", "--key", "f" * 32, stdin=signed.out)
    assert verified.status == 0
    assert_failed(token("verify", stdin=signed.out), "invalid signature")


def test_tokens_that_are_not_valid() -> None:
    late = jwt.encode({"exp": 1_000_000_000}, KEY)
    assert_failed(token("verify", late), "jwt expired: 2001-09-09T01:46:40+00:00")
    early = jwt.encode({"nbf": 4_000_000_000}, KEY)
    assert_failed(token("verify", early), "jwt not active: 2096-10-02T07:06:40+00:00")
    assert_failed(token("verify", "abc"), "jwt malformed")
    unsigned = jwt.encode({}, "", algorithm="none")
    assert_failed(token("verify", unsigned), "jwt signature is required")
    assert_failed(token("decode", "abc"), "Not a JSON Web Token: Not enough segments")
    assert token("decode", late).status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sign", "[]"], 'CLAIMS must be a JSON object, like \'{"name": "ann"}\''),
        (["sign", "{}", "--expires-in", "soon"], "--expires-in must be seconds, or like 15m, "),
        (["sign", "{}", "--algorithm", "none"], "The algorithm must be one of ES256, "),
        (["sign", "{}", "--key", "a", "--key-file", "b"], "Give --key or --key-file, not both"),
        (["verify", "a", "--algorithm", "x"], "The algorithm must be one of ES256, "),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = token(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"socketcluster: {message}")
    assert result.err.count("\n") == 1


def test_no_key() -> None:
    message = "A key is needed: SOCKETCLUSTER_AUTH_KEY, --key-file or --key"
    assert_failed(token("sign", "{}", key=None), message, 2)


def test_claims_that_contradict_an_option() -> None:
    result = token("sign", '{"exp":1}', "--expires-in", "5")
    message = 'Bad "options.expires_in" option. The payload already has an "exp" property.'
    assert_failed(result, message)
