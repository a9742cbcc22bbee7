"""The table of channel rules."""

from __future__ import annotations

import pytest

from socketcluster import ChannelRule
from socketcluster.errors import UsageError
from socketcluster.history.options import History
from socketcluster.presence.options import Presence
from socketcluster.pubsub import rule_table
from socketcluster.pubsub.rule_table import RuleTable


def test_the_most_specific_rule_counts() -> None:
    rules = [
        ChannelRule("**"),
        ChannelRule("room/*"),
        ChannelRule("room/vip-*"),
        ChannelRule("room/vip-1"),
    ]
    for ordered in (rules, rules[::-1]):
        table = RuleTable(ordered)
        found = [table.find(name) for name in ("room/vip-1", "room/vip-2", "room/2", "a/b/c")]
        assert found == rules[::-1]
    assert RuleTable(rules[1:]).find("news") is None
    assert sorted(rule.pattern.text for rule in table) == [
        "**",
        "room/*",
        "room/vip-*",
        "room/vip-1",
    ]
    assert len(table) == 4


@pytest.mark.parametrize(("one", "other"), [("a/*", "a/{b}"), ("x", "x"), ("a*", "*b")])
def test_ambiguous_patterns_are_an_error(one: str, other: str) -> None:
    table = RuleTable([ChannelRule(one, presence=Presence())])
    with pytest.raises(UsageError) as raised:
        table.add(ChannelRule(other, history=History(size=1, ttl=1)))
    assert other in str(raised.value)
    assert len(table) == 1
    assert not table.has_history


def test_a_rule_that_is_added_counts_for_channels_that_were_looked_for() -> None:
    table = RuleTable([ChannelRule("*")])
    assert table.find("a") is not None
    assert not table.has_presence
    table.add(rule := ChannelRule("a", presence=Presence()))
    assert table.find("a") is rule
    assert table.has_presence


def test_it_remembers_a_bounded_number_of_channels() -> None:
    table = RuleTable([ChannelRule("room/*")])
    for number in range(rule_table.REMEMBERED_CHANNELS + 100):
        table.find(f"room/{number}")
    kept = table._remembered.cache_info().currsize
    assert kept == rule_table.REMEMBERED_CHANNELS
