"""The wire form of messages between servers: JSON with a signature.

A message is the JSON array `["<signature>", <body>]`. The signature is the HMAC-SHA256 of the
prefix and the body, in hexadecimal. The body is an object: `type`, `node` (the sender), `number`
(rises with each message of the sender), `time` (seconds since 1970), `target` (a node, or null for
all) and `data`.

Source: RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import EncodeError, InvalidArgumentsError

MAX_MESSAGE_BYTES = 64 * 1024
"""Bytes of the longest message."""

MAX_NAME = 64
"""Characters of the longest type or node id."""

LABEL = b"socketcluster cluster key 1"
"""Keeps the key of messages apart from the other uses of the key that it is made of."""

_JSON = JSONCodec()
_NULL = msgspec.Raw(b"null")
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]


class NodeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a message.

    Attributes:
        type: what it is about, such as "alive".
        node: the id of the sender.
        number: higher than in all earlier messages of the sender.
        time: seconds since 1970 when it was sent, by the sender's clock.
        target: the id of the node that it is for; None for all.
        data: encoded JSON.
    """

    type: _Name
    node: _Name
    number: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    time: float
    target: _Name | None = None
    data: msgspec.Raw = _NULL


class MessageRejectedError(Exception):
    """A message that is dropped.

    Attributes:
        kind: the reason in a word, for counting.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def derived_key(secret: str | bytes) -> bytes:
    """Make the key of messages out of a secret that the servers share."""
    secret = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(secret, LABEL, hashlib.sha256)


class NodeWire:
    """Signs and verifies messages.

    Args:
        prefix: that of the application on the backend. A message does not count under another.
        secret: the secret that signs.
        previous: secrets that are accepted, too, while the secret changes.
    """

    __slots__ = ("_decode", "_decode_body", "_keys", "_prefix")

    def __init__(
        self, prefix: str, secret: str | bytes, previous: Sequence[str | bytes] = ()
    ) -> None:
        name = prefix.encode("utf-8", "surrogateescape")
        self._prefix = len(name).to_bytes(4, "big") + name
        self._keys = [derived_key(each) for each in (secret, *previous)]
        self._decode = msgspec.json.Decoder(tuple[str, msgspec.Raw]).decode
        self._decode_body = msgspec.json.Decoder(NodeMessage).decode

    def seal(self, message: NodeMessage) -> bytes:
        """Return a message in its wire form.

        Raises:
            InvalidArgumentsError: it is too long.
        """
        body = msgspec.json.encode(message)
        sealed = msgspec.json.encode((self._signature(self._keys[0], body), msgspec.Raw(body)))
        if len(sealed) > MAX_MESSAGE_BYTES:
            raise InvalidArgumentsError(
                f"The message {message.type!r} to other servers has {len(sealed):,} bytes; it may "
                f"have {MAX_MESSAGE_BYTES:,}"
            )
        return sealed

    def open(self, payload: bytes) -> NodeMessage:
        """Verify a message.

        Raises:
            MessageRejectedError: it is malformed, too long or forged.
        """
        if len(payload) > MAX_MESSAGE_BYTES:
            raise MessageRejectedError("too long", f"it has more than {MAX_MESSAGE_BYTES:,} bytes")
        try:
            signature, body = self._decode(payload)
        except Exception as error:  # Anyone may have made it.
            raise MessageRejectedError("malformed", "it is not of the right form") from error
        received, signed = signature.encode(errors="replace"), bytes(body)
        if not any(
            hmac.compare_digest(self._signature(key, signed).encode(), received)
            for key in self._keys
        ):
            raise MessageRejectedError(
                "forged",
                "its signature is wrong. All servers on one prefix need the same cluster_key, or "
                "the same auth_key without one",
            )
        try:
            return self._decode_body(signed)
        except Exception as error:  # Of another version.
            raise MessageRejectedError("malformed", f"its body is wrong: {error}") from error

    def _signature(self, key: bytes, body: bytes) -> str:
        return hmac.digest(key, self._prefix + body, hashlib.sha256).hex()


def encode_data(data: Any) -> msgspec.Raw:
    """Encode the data of a message.

    Raises:
        InvalidArgumentsError: it has no JSON form.
    """
    try:
        return msgspec.Raw(_JSON.encode_bytes(data))
    except EncodeError as error:
        raise InvalidArgumentsError(f"The data for other servers: {error}") from error
