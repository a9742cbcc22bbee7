"""The presence rule of a channel, and the name of the channel that shows its members."""

from __future__ import annotations

from typing import NamedTuple

from socketcluster.errors import InvalidArgumentsError
from socketcluster.presence.options import Presence

PREFIX = "$presence/"
"""The beginning of the names of channels that show members."""


class Rule(NamedTuple):
    """The presence rule of a channel, and the text of its pattern."""

    presence: Presence
    pattern: str


def no_presence(channel: str) -> InvalidArgumentsError:
    """Make the error of a channel without members."""
    return InvalidArgumentsError(
        f"No rule of the server has presence for the channel {channel!r}: "
        "AGServer(channels=[ChannelRule(…, presence=Presence())])"
    )
