"""The token commands, run as programs."""

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

from cli.commands import Commands, Result

KEY = "k" * 32


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    """A runner of commands, with the key in the environment."""
    made = Commands(SOCKETCLUSTER_AUTH_KEY=KEY)
    yield made
    await made.stop()


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
async def test_pem(commands: Commands, tmp_path: Path, algorithm: str) -> None:
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
    signed = await commands("token", "sign", "{}", "--key-file", str(tmp_path / "private"), *by)
    assert signed.status == 0
    key = ["--key-file", str(tmp_path / "public")]
    assert (await commands("token", "verify", *key, *by, stdin=signed.out)).status == 0
    both = ["--algorithm", "HS256", *by]
    assert (await commands("token", "verify", *key, *both, stdin=signed.out)).status == 0
    assert_failed(await commands("token", "verify", *key, stdin=signed.out), "invalid algorithm")
    result = await commands("token", "sign", "{}", *key)
    assert_failed(result, "A PEM key cannot be the secret of an HMAC algorithm")


async def test_a_secret_in_a_file_or_an_option(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("f" * 32 + "\n")
    signed = await commands("token", "sign", "{}", "--key-file", str(tmp_path / "key"))
    verified = await commands("token", "verify", "--key", "f" * 32, stdin=signed.out)
    assert verified.status == 0
    assert_failed(await commands("token", "verify", stdin=signed.out), "invalid signature")


async def test_tokens_that_are_not_valid(commands: Commands) -> None:
    late = jwt.encode({"exp": 1_000_000_000}, KEY)
    assert_failed(await commands("token", "verify", late), "jwt expired: 2001-09-09T01:46:40+00:00")
    early = jwt.encode({"nbf": 4_000_000_000}, KEY)
    assert_failed(
        await commands("token", "verify", early), "jwt not active: 2096-10-02T07:06:40+00:00"
    )
    assert_failed(await commands("token", "verify", "abc"), "jwt malformed")
    unsigned = jwt.encode({}, "", algorithm="none")
    assert_failed(await commands("token", "verify", unsigned), "jwt signature is required")
    assert_failed(
        await commands("token", "decode", "abc"), "Not a JSON Web Token: Not enough segments"
    )
    assert (await commands("token", "decode", late)).status == 0


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
async def test_wrong_usage(commands: Commands, arguments: list[str], message: str) -> None:
    result = await commands("token", *arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"socketcluster: {message}")
    assert result.err.count("\n") == 1


async def test_no_key() -> None:
    commands = Commands()
    message = "A key is needed: SOCKETCLUSTER_AUTH_KEY, --key-file or --key"
    assert_failed(await commands("token", "sign", "{}"), message, 2)


async def test_claims_that_contradict_an_option(commands: Commands) -> None:
    result = await commands("token", "sign", '{"exp":1}', "--expires-in", "5")
    message = 'Bad "options.expires_in" option. The payload already has an "exp" property.'
    assert_failed(result, message)
