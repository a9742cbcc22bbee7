"""ChannelRule: what the server's options say about the channels of one pattern."""

from __future__ import annotations

from dataclasses import dataclass

from socketcluster.history.options import History
from socketcluster.options import invalid_option
from socketcluster.patterns import Pattern
from socketcluster.presence.options import Presence


@dataclass(frozen=True, slots=True, init=False)
class ChannelRule:
    """A rule for the channels that a pattern matches: `ChannelRule("chat/*")`.

    A rule names its channels: with `channels_default="refuse"` clients may use those that a rule
    names, and no others. Of several rules for one channel that with the most specific pattern
    counts.

    Attributes:
        pattern: the Pattern; see `socketcluster.patterns` for the syntax.
        history: what to keep of the publishes; None keeps nothing.
        presence: whether to tell who is subscribed, and how; None does not.

    Raises:
        InvalidArgumentsError: the text is no pattern.
        InvalidOptionsError: `history` or `presence` is of another type.
    """

    pattern: Pattern
    history: History | None
    presence: Presence | None

    def __init__(
        self,
        pattern: str | Pattern,
        *,
        history: History | None = None,
        presence: Presence | None = None,
    ) -> None:
        if not isinstance(pattern, Pattern):
            pattern = Pattern(pattern)
        if history is not None and not isinstance(history, History):
            raise invalid_option("history", "History(size=…, ttl=…) or None", history)
        if presence is not None and not isinstance(presence, Presence):
            raise invalid_option("presence", "Presence(…) or None", presence)
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "history", history)
        object.__setattr__(self, "presence", presence)
