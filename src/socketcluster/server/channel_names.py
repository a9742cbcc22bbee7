"""ChannelNames: which channels clients may name, and what the names with a meaning stand for."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.errors import InvalidRequestError
from socketcluster.presence.rule import PREFIX


class ChannelNames:
    """The meaning that names of channels have to clients.

    `$presence/room/1` shows the members of the channel `room/1`, once `show_presence` was called.

    Args:
        may_use: whether a rule or handler names a channel; None if clients may use all.
    """

    __slots__ = ("_has_presence", "_may_use")

    def __init__(self, may_use: Callable[[str], bool] | None) -> None:
        self._may_use = may_use
        self._has_presence: Callable[[str], bool] | None = None

    def show_presence(self, has_presence: Callable[[str], bool]) -> None:
        """Let `$presence/…` show the members of channels that have presence."""
        self._has_presence = has_presence

    def asked(self, channel: str) -> str:
        """Return the channel that middleware and handlers are asked about."""
        if self._has_presence is not None and channel.startswith(PREFIX):
            return channel[len(PREFIX) :]
        return channel

    def twin(self, channel: str) -> str | None:
        """Return the channel that a socket leaves with this one when it is kicked out."""
        if self._has_presence is None:
            return None
        asked = self.asked(channel)
        return PREFIX + channel if asked == channel else asked

    def subscribe_refusal(self, channel: str) -> InvalidRequestError | None:
        """Return the error of a subscription; None if the name allows it."""
        asked = self.asked(channel)
        if self._may_use is not None and not self._may_use(asked):
            return _unnamed_error("subscribe to", channel)
        if asked != channel and self._has_presence is not None and not self._has_presence(asked):
            return InvalidRequestError(
                f"Clients cannot subscribe to the {channel} channel: the channel {asked!r} has no "
                "rule with presence"
            )
        return None

    def publish_refusal(self, channel: str) -> InvalidRequestError | None:
        """Return the error of a publish; None if the name allows it."""
        if self._has_presence is not None and channel.startswith(PREFIX):
            return InvalidRequestError(
                f"Clients cannot publish to the {channel} channel: only the server does"
            )
        if self._may_use is not None and not self._may_use(channel):
            return _unnamed_error("publish to", channel)
        return None


def _unnamed_error(action: str, channel: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Clients cannot {action} the {channel} channel: no rule or handler of the server names it"
    )
