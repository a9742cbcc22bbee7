"""The signed `since`: where a client's subscription to a channel first began.

A client receives it with the answer to `#subscribe`, and returns it to recover. It is base64url,
without padding, of: one byte, 1 if it was made for a user and 0 if for a socket without one; the
offset in eight bytes, the highest first; and 16 bytes of an HMAC-SHA256 of the user, the channel,
the epoch and the offset.

Source: RFC 2104 (HMAC), section 5 (truncation).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence

from socketcluster.brokers.storing import Position
from socketcluster.codecs.text import utf8

LABEL = b"socketcluster since 1"
"""Keeps the key of `since` apart from the other uses of the key that it is made of."""

MAX_SINCE = 34
"""Characters of a `since`: all have this length."""

MAX_OFFSET = 2**63 - 1
_BODY = struct.Struct(">BQ")
_MAC = 16


class SinceSigner:
    """Signs and verifies where subscriptions began.

    Args:
        secret: the secret that the servers share; None takes a random one, so that no other process
            accepts what this one signs.
        previous: secrets that are accepted, too, while the secret changes.
    """

    __slots__ = ("_keys",)

    def __init__(
        self, secret: str | bytes | None = None, previous: Sequence[str | bytes] = ()
    ) -> None:
        if secret is None:
            secret = secrets.token_bytes(32)
        self._keys = [_derived_key(each) for each in (secret, *previous)]

    def sign(self, user: str | None, channel: str, start: Position) -> str:
        """Return the `since` of a subscription; `user` is None for a socket without one."""
        body = _BODY.pack(user is not None, start.offset)
        mac = _mac(self._keys[0], body, user, channel, start.epoch)
        return base64.urlsafe_b64encode(body + mac).rstrip(b"=").decode()

    def verify(
        self, since: str, user: str | None, channel: str, epoch: str
    ) -> tuple[Position, str | None] | None:
        """Return where the subscription began, and the user that the `since` was made for.

        One that was made without a user counts for every user. None if it is forged, or belongs to
        another user, channel or epoch.
        """
        if len(since) != MAX_SINCE:
            return None
        try:
            opened = base64.b64decode(f"{since}==", b"-_", validate=True)
        except (binascii.Error, ValueError):  # A text that is not ASCII is a ValueError.
            return None
        body, mac = opened[: _BODY.size], opened[_BODY.size :]
        has_user, offset = _BODY.unpack(body)
        if has_user and user is None:
            return None
        owner = user if has_user else None
        if not any(
            hmac.compare_digest(_mac(key, body, owner, channel, epoch), mac) for key in self._keys
        ):
            return None
        return Position(epoch, offset), owner


def _derived_key(secret: str | bytes) -> bytes:
    secret = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(secret, LABEL, hashlib.sha256)


def _mac(key: bytes, body: bytes, user: str | None, channel: str, epoch: str) -> bytes:
    texts = [utf8(text) for text in (user or "", channel, epoch)]
    # The lengths keep the texts apart: no other three texts give the same bytes.
    lengths = struct.pack(">III", *map(len, texts))
    return hmac.digest(key, body + lengths + b"".join(texts), hashlib.sha256)[:_MAC]
