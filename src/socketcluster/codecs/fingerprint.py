"""Whether a decoded value was changed in place, seen at the speed of C."""

from __future__ import annotations

import hashlib
import marshal
from typing import Any

_VERSION = 2
"""Of marshal's format: the last that writes a value which is met twice in full."""


def fingerprint(value: Any) -> bytes | None:
    """The same for a value as long as nothing in it changes, not even the type of a number; None
    if it has an object in it that is not of a plain type."""
    try:
        return hashlib.blake2b(marshal.dumps(value, _VERSION)).digest()
    except ValueError:
        return None
