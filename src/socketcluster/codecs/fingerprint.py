"""Fingerprints of decoded values, which show whether one was changed in place."""

from __future__ import annotations

import marshal
from typing import Any

_VERSION = 2
"""The last version of marshal's format without references: it writes a repeated value in full."""


def fingerprint(value: Any) -> int | None:
    """Return a hash of a value. Any change of the value changes it, even from 1 to 1.0.

    Return None if the value contains an object that is not of a plain type. The hash is for this
    process only.
    """
    try:
        # marshal takes integers of any length. A digest would take twice as long as this hash.
        return hash(marshal.dumps(value, _VERSION))
    except ValueError:
        return None
