"""Position: a place in the history of a channel."""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """A place in the history of a channel.

    Attributes:
        epoch: the name of one history of the channel. Another epoch is another history: the former
            one was lost.
        offset: the number of the newest publish before this place; 0 before the first one. Offsets
            of a channel only rise within an epoch. They may leave numbers out.
    """

    epoch: str
    offset: int
