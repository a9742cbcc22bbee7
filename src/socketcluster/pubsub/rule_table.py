"""RuleTable: finds the rule of a channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from socketcluster.errors import InvalidArgumentsError, UsageError
from socketcluster.patterns import PatternTable
from socketcluster.presence.rule import PREFIX
from socketcluster.pubsub.rules import ChannelRule

REMEMBERED_CHANNELS = 10_000
"""How many channels' rules are kept. Clients choose the names, so there must be a bound."""


class RuleTable:
    """The rules of a server. A channel has the rule with the most specific pattern that matches it.

    Attributes:
        has_history, has_presence: whether a rule has it.
    """

    __slots__ = ("_remembered", "_table", "has_history", "has_presence")

    def __init__(self, rules: Iterable[ChannelRule] = ()) -> None:
        """Make the table.

        Raises:
            UsageError: as `add`.
        """
        self._table: PatternTable[ChannelRule] = PatternTable()
        self._remembered = lru_cache(REMEMBERED_CHANNELS)(self._find)
        self.has_history: bool = False
        self.has_presence: bool = False
        for rule in rules:
            self.add(rule)

    def add(self, rule: ChannelRule) -> None:
        """Add a rule. It counts for channels that are looked for from now on.

        Raises:
            UsageError: its pattern and that of another rule match the same channels, and neither
                is more specific. The error quotes both; nothing has changed.
        """
        try:
            self._table.add(rule.pattern, rule)
        except InvalidArgumentsError as error:
            raise UsageError(str(error)) from None
        self.has_history = self.has_history or rule.history is not None
        self.has_presence = self.has_presence or rule.presence is not None
        self._remembered.cache_clear()

    def find(self, channel: str) -> ChannelRule | None:
        """Return the rule of a channel, or None without one."""
        return self._remembered(channel)

    def _find(self, channel: str) -> ChannelRule | None:
        if self.has_presence and channel.startswith(PREFIX):
            return None  # It shows the members of another channel, which has the rule.
        found = self._table.find(channel)
        return None if found is None else found[0]

    def __iter__(self) -> Iterator[ChannelRule]:
        for _, rule in self._table:
            yield rule

    def __len__(self) -> int:
        return len(self._table)
