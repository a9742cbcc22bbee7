"""Fingerprints of decoded values, which show whether one was changed in place."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

# MessagePack, because JSON text is the same for binary data and its base64 text.
_encode = msgspec.msgpack.Encoder().encode


def fingerprint(value: Any) -> bytes | None:
    """Return a hash of a value. Any change of its JSON form changes it, even from 1 to 1.0.

    Return None if the value has no MessagePack form.
    """
    try:
        return hashlib.blake2b(_encode(value)).digest()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
