"""ChannelRule: what the server's options say about the channels of one pattern."""

from __future__ import annotations

from dataclasses import dataclass

from socketcluster.patterns import Pattern


@dataclass(frozen=True, slots=True, init=False)
class ChannelRule:
    """A rule for the channels that a pattern matches: `ChannelRule("chat/*")`.

    A rule names its channels: with `channels_default="refuse"` clients may use those that a rule
    names, and no others. Of several rules for one channel that with the most specific pattern
    counts.

    Attributes:
        pattern: the Pattern; see `socketcluster.patterns` for the syntax.

    Raises:
        InvalidArgumentsError: the text is no pattern.
    """

    pattern: Pattern

    def __init__(self, pattern: str | Pattern) -> None:
        if not isinstance(pattern, Pattern):
            pattern = Pattern(pattern)
        object.__setattr__(self, "pattern", pattern)
