"""Recovery: how much of a channel a client has received, and what it asks the server for.

Source: docs/history.md, "On the wire".
"""

from __future__ import annotations

from typing import Any

from socketcluster.errors import InvalidArgumentsError
from socketcluster.position import Position

RECOVER = "$recover"
GAP = "$gap"


def check_recoverable(data: Any) -> None:
    """Check the data of a subscription that recovers.

    Raises:
        InvalidArgumentsError: it is no dict, or has a key that the client sets.
    """
    if data is not None and not isinstance(data, dict):
        raise InvalidArgumentsError(
            "With recover=True the data must be a dict or None, because the client sends its "
            f"position in it, not {data!r}. Put the value into a dict: data={{'value': …}}"
        )
    if data and (RECOVER in data or GAP in data):
        raise InvalidArgumentsError(
            f"With recover=True the client sets {RECOVER} and {GAP} in the data: leave them out"
        )


class ChannelRecovery:
    """Knows the newest publish that a client has received of one channel.

    Attributes:
        position: its place in the channel's history; None while it is not known.
        asked: the position of the last '#subscribe'.
    """

    __slots__ = ("_is_begun", "_is_joining", "_since", "asked", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.asked: Position | None = None
        self._since = ""
        self._is_begun = False
        self._is_joining = False

    def sent_data(self, data: dict[str, Any] | None) -> dict[str, Any]:
        """Begin to subscribe; return the application's data with what the server needs."""
        self._is_joining = True
        self.asked = position = self.position
        place = None
        if position is not None:
            place = {"epoch": position.epoch, "offset": position.offset, "since": self._since}
        return {**(data or {}), GAP: True, RECOVER: place}

    def received(self, offset: Any) -> bool:
        """Note a publish; return False if the client has it."""
        position = self.position
        if position is None or type(offset) is not int:
            return True  # A publish that is not stored has no offset.
        # Before the answer all publishes are replayed, perhaps of an epoch that is not told yet.
        if offset <= position.offset and not self._is_joining:
            return False
        self.position = Position(position.epoch, offset)
        return True

    def take_place(self, place: Any) -> None:
        """Take the place of the publishes that were sent so far, from the server."""
        if not isinstance(place, dict):
            return
        epoch, offset, since = (place.get(name) for name in ("epoch", "offset", "since"))
        if isinstance(epoch, str) and type(offset) is int and isinstance(since, str):
            self.position, self._since = Position(epoch, offset), since

    def answered(self, answer: Any) -> bool:
        """Take the answer to a '#subscribe'; return whether publishes may be missing."""
        self._is_joining = False
        fields = answer if isinstance(answer, dict) else {}
        if fields.get("epoch") is None:  # The channel has no history, or it cannot be read now.
            self.position = None
        self.take_place(fields)
        was_begun, self._is_begun = self._is_begun, True
        return was_begun and fields.get("recovered") is not True
