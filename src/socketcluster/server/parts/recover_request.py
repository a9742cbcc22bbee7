"""The `$recover` of a subscription's data, with which a client asks for missed publishes.

It is null, or `{"epoch", "offset", "since"}` of a position that the client has received. A client
that sends one receives `$positions` from then on.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

from socketcluster.brokers.storing import Position
from socketcluster.history.since import MAX_OFFSET

RECOVER = "$recover"

MAX_TEXT = 480
"""Characters of an epoch, or of a `since`: with both, a `$recover` has less than 1 KiB."""

_MAX_FIELDS = 8


class Asked(NamedTuple):
    """A `$recover` with a position.

    Attributes:
        position: the newest publish that it has.
        since: the signed text that says where its subscription began; not verified yet.
    """

    position: Position
    since: str


def asks_for_positions(data: Any) -> bool:
    """Return whether a subscription's data has a `$recover`."""
    return isinstance(data, dict) and RECOVER in data


def read_recover(value: Any) -> Asked | None:
    """Read a `$recover`; None for null, and for anything that is not of the right form."""
    if not isinstance(value, dict) or len(value) > _MAX_FIELDS:
        return None
    epoch, offset, since = value.get("epoch"), value.get("offset"), value.get("since", "")
    if not _is_text(epoch) or not _is_text(since) or type(offset) is not int:
        return None
    return Asked(Position(epoch, offset), since) if 0 <= offset <= MAX_OFFSET else None


def read_position(value: Any) -> Position | None:
    """Read `{"epoch", "offset"}`; None for anything that is not of the right form."""
    asked = read_recover(value)
    return None if asked is None else asked.position


def without_recover(data: Any) -> Any:
    """Return a subscription's data without its `$recover`, which is used once."""
    if not asks_for_positions(data):
        return data
    rest = dict(data)
    del rest[RECOVER]
    return rest


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= MAX_TEXT
