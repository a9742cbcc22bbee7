"""The public keys of a JSON Web Key Set, each bound to the algorithms that fit it.

Source: RFC 7517, RFC 7518.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK

MAX_KEYS = 100

_CURVES = {
    "ES256": "secp256r1",
    "ES384": "secp384r1",
    "ES512": "secp521r1",
    "ES256K": "secp256k1",
}
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeySetError(Exception):
    """The document is no key set, or none of its keys verifies signatures."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Attributes:
        kid: its name in the set, if it has one.
        pem: the key.
    """

    kid: str | None
    pem: bytes
    _type: str
    _algorithm: str | None
    _curve: str | None

    def fits(self, algorithm: str) -> bool:
        """Return whether the key may verify a signature of an algorithm."""
        if self._algorithm is not None and self._algorithm != algorithm:
            return False
        if _KEY_TYPES.get(algorithm[:2]) != self._type:
            return False
        return self._type != "EC" or _CURVES.get(algorithm) == self._curve


def parse_keys(document: bytes) -> list[PublicKey]:
    """Return the public keys of a set that are for signatures; secrets are left out.

    Raises:
        KeySetError: there are none.
    """
    try:
        entries = msgspec.json.decode(document, type=_Set).keys
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeySetError(f"the answer is no set of keys: {error}") from error
    keys = [key for entry in entries[:MAX_KEYS] if (key := _public_key(entry)) is not None]
    if not keys:
        raise KeySetError("the set has no public key for signatures")
    return keys


def find_key(keys: Sequence[PublicKey], kid: str | None, algorithm: str) -> PublicKey | None:
    """Return the key for a token. A token without `kid` fits a set with one key only."""
    if kid is None:
        return keys[0] if len(keys) == 1 and keys[0].fits(algorithm) else None
    return next((key for key in keys if key.kid == kid and key.fits(algorithm)), None)


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    try:
        jwk = PyJWK(entry)
    except Exception:  # PyJWT raises NotImplementedError for the algorithm "none".
        return None  # A set may have keys that this version does not know.
    if jwk.key_type not in ("RSA", "EC", "OKP") or jwk.public_key_use not in (None, "sig"):
        return None
    key: Any = jwk.key
    if hasattr(key, "public_key"):  # A private key, which its owner should not publish.
        key = key.public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    curve = getattr(getattr(key, "curve", None), "name", None)
    return PublicKey(jwk.key_id, pem, jwk.key_type, entry.get("alg"), curve)
