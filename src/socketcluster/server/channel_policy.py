"""ChannelPolicy: which channels clients may use, if the server refuses all others."""

from __future__ import annotations

from functools import lru_cache

from socketcluster.patterns import Pattern

REMEMBERED_CHANNELS = 10_000
"""How many channels' answers are kept. Clients choose the names, so there must be a bound."""


class ChannelPolicy:
    """The channels that clients may use, by patterns that may be added at any time.

    The patterns need not exclude each other, because it is enough that one matches.
    """

    __slots__ = ("_channels", "_patterns", "_remembered")

    def __init__(self) -> None:
        self._channels: set[str] = set()
        self._patterns: dict[Pattern, None] = {}
        self._remembered = lru_cache(REMEMBERED_CHANNELS)(self._any_matches)

    def add(self, pattern: Pattern) -> None:
        """Name the channels that a pattern matches."""
        if pattern.is_literal:
            self._channels.add(pattern.text)
        else:
            self._patterns[pattern] = None
        self._remembered.cache_clear()

    def names(self, channel: str) -> bool:
        """Return whether a pattern names a channel."""
        return channel in self._channels or self._remembered(channel)

    def _any_matches(self, channel: str) -> bool:
        return any(pattern.match(channel) is not None for pattern in self._patterns)
