"""Patterns of channel names: what they match, which one wins, and which are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketcluster.errors import InvalidArgumentsError
from socketcluster.patterns import Pattern, PatternTable

CHANNELS = st.text("ab-/", min_size=1, max_size=8)
TEXT = st.text("ab-", min_size=1, max_size=2)
SEGMENTS = st.one_of(
    TEXT,
    st.just("*"),
    st.builds("{}*".format, TEXT),
    st.builds("*{}".format, TEXT),
    st.builds("*{}*".format, TEXT),
    st.builds("{}*{}".format, TEXT, TEXT),
    st.builds("*{}*{}".format, TEXT, TEXT),
)
RESTS = st.one_of(st.just("**"), st.builds("{}**".format, TEXT), st.builds("*{}**".format, TEXT))
PATTERNS = st.one_of(
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.builds(lambda segments, rest: [*segments, rest], st.lists(SEGMENTS, max_size=2), RESTS),
).map("/".join)


@pytest.mark.parametrize(
    ("text", "channel", "expected"),
    [
        ("news", "news", {}),
        ("news", "news/1", None),
        ("a.c", "abc", None),
        ("/a//b", "/a//b", {}),
        ("room/{room}", "room/1", {"room": "1"}),
        ("room/{room}", "room/ä b\n.*", {"room": "ä b\n.*"}),
        ("room/{room}", "room/", None),
        ("room/{room}", "room/1/2", None),
        ("room/{room}", "room/1/", None),
        ("room/*", "room/1", {}),
        ("{a}/{b}/{c}", "1/2/3", {"a": "1", "b": "2", "c": "3"}),
        ("user-{id}", "user-7", {"id": "7"}),
        ("user-{id}", "user-", None),
        ("user-{id}", "user-7/x", None),
        ("{name}.log", "a.log.log", {"name": "a.log"}),
        ("{name}.log/x", "a.log.log/x", {"name": "a.log"}),
        ("{name}.log", "a.logs", None),
        ("{first}:{second}", "a:b:c", {"first": "a", "second": "b:c"}),
        ("{first}:{second}", "::a", {"first": ":", "second": "a"}),
        ("{first}:{second}", "a:", None),
        ("a{x}b{y}c", "a1b2b3c", {"x": "1", "y": "2b3"}),
        ("files/{path:path}", "files/a/b.txt", {"path": "a/b.txt"}),
        ("files/{path:path}", "files//", {"path": "/"}),
        ("files/{path:path}", "files/", None),
        ("files/**", "files/a/b", {}),
        ("files-{rest:path}", "files-a/b", {"rest": "a/b"}),
        ("{user}-{rest:path}", "me-a-b/c", {"user": "me", "rest": "a-b/c"}),
        ("{user}-{rest:path}", "m/e-a", None),
        ("**", "\n/", {}),
    ],
)
def test_what_a_pattern_matches(text: str, channel: str, expected: dict[str, str] | None) -> None:
    assert Pattern(text).match(channel) == expected


def test_a_pattern_tells_what_it_is() -> None:
    pattern = Pattern("room/{room}/*/u-{user}/{rest:path}")
    assert pattern.text == "room/{room}/*/u-{user}/{rest:path}"
    assert pattern.parameters == ("room", "user", "rest")
    assert not pattern.is_literal
    assert Pattern("room/1").is_literal
    assert repr(Pattern("a/*")) == "Pattern('a/*')"
    assert Pattern("a/*") == Pattern("a/*") != Pattern("a/{b}")
    assert len({Pattern("a/*"), Pattern("a/*")}) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a text that is not empty"),
        (None, "a text that is not empty, not None"),
        ("a/{b", "brace at position 2 has no counterpart"),
        ("a}", "brace at position 1 has no counterpart"),
        ("{{a}}", "brace at position 0 has no counterpart"),
        ("{}", "'' is no Python name"),
        ("{1}", "'1' is no Python name"),
        ("{a-b}", "'a-b' is no Python name"),
        ("{a/b}", "'a/b' is no Python name"),
        ("{class}", "'class' is no Python name"),
        ("{a:int}", "'{a:int}' can be '{a}' or '{a:path}'"),
        ("{a:}", "can be '{a}'"),
        ("{a}/{a}", "two parameters 'a'"),
        ("{a}/{a:path}", "two parameters 'a'"),
        ("{a}{b}", "need text between them"),
        ("a/**{b}", "need text between them"),
        ("***", "'***' is neither"),
        ("**/a", "must be its end"),
        ("**a", "must be its end"),
        ("{a:path}/", "must be its end"),
    ],
)
def test_a_text_that_is_no_pattern(text: Any, problem: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=re.escape(problem)) as refused:
        Pattern(text)
    assert repr(text) in str(refused.value)


def test_the_most_specific_pattern_wins() -> None:
    texts = ["**", "a**", "*/**", "*/*", "a/**", "a/*", "a/x*", "a/*xy", "a/x*y-", "a/xy"]
    patterns = list(map(Pattern, texts))
    assert sorted(reversed(patterns), key=lambda pattern: pattern.specificity) == patterns
    table: PatternTable[str] = PatternTable()
    for pattern in patterns[3:] + patterns[:3]:
        table.add(pattern, pattern.text)
    found = {
        channel: value and value[0]
        for channel in ("", "b", "a", "ab", "b/c", "b/c/d", "a/b", "a/b/c", "a/xa", "a/bxy", "a/xy")
        for value in [table.find(channel)]
    }
    assert found == {
        "": None,
        "b": "**",
        "a": "**",
        "ab": "a**",
        "b/c": "*/*",
        "b/c/d": "*/**",
        "a/b": "a/*",
        "a/b/c": "a/**",
        "a/xa": "a/x*",
        "a/bxy": "a/*xy",
        "a/xy": "a/xy",
    }


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "*", False),
        ("{x}", "*", True),
        ("{x:path}", "**", True),
        ("a/{x}", "b/{x}", False),
        ("a/{x}", "a/{y}", True),
        ("a/{x}/b", "a/{x}/c", False),
        ("a/*", "*/b", False),
        ("*", "*/*", False),
        ("user-*", "*-user", True),
        ("user-*", "team-*", False),
        ("user-*", "users*", False),
        ("*-user", "*-team", False),
        ("a*bc", "ab*c", True),
        ("*-*", "*-", True),
        ("a**", "*a**", True),
        ("a**", "b**", False),
        ("x/*/a**", "x/*/b**", False),
    ],
)
def test_patterns_of_one_rank_for_one_channel_conflict(
    one: str, other: str, conflict: bool
) -> None:
    first, second = Pattern(one), Pattern(other)
    assert first.conflicts_with(second) is second.conflicts_with(first) is conflict
    table: PatternTable[int] = PatternTable()
    table.add(first, 1)
    if not conflict:
        table.add(second, 2)
        assert len(table) == 2
        return
    with pytest.raises(InvalidArgumentsError) as refused:
        table.add(second, 2)
    assert repr(one) in str(refused.value)
    assert repr(other) in str(refused.value)
    assert table.conflict(second) == (first, 1)
    assert list(table) == [(first, 1)]


def test_a_table_gives_parameters_and_its_entries() -> None:
    table: PatternTable[int] = PatternTable()
    rest, room, lobby = Pattern("**"), Pattern("room/{room}"), Pattern("room/lobby")
    for number, pattern in enumerate([rest, lobby, room]):
        table.add(pattern, number)
    assert list(table) == [(lobby, 1), (room, 2), (rest, 0)]
    assert table.find("room/lobby") == (1, {})
    assert table.find("room/2") == (2, {"room": "2"})
    assert table.find("room/2/3") == (0, {})


PLAIN = st.text(st.characters(exclude_characters="/{}*"), min_size=1, max_size=5)
VALUE = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=5)
HOSTILE = ["a" * 255, "-" * 255, "/" * 255, "a-" * 127, "a/" * 127, "a" * 254 + "-", "-a" * 127]


@pytest.mark.parametrize("channel", HOSTILE, ids=lambda channel: channel[:2] + channel[-2:])
@pytest.mark.parametrize("text", ["a", "-", "a-", "a" * 40, "aa-" * 40])
def test_a_hostile_name_does_not_take_long(channel: str, text: str) -> None:
    """A match that tries every way to share out the characters would not end."""
    many = text.join(["*"] * 60)
    for number in range(5):
        assert Pattern(f"{many}/{number}").match(channel) is None
        assert Pattern(f"{many}!{number}").match(channel) is None
        assert Pattern(f"*{text}*{text}*/*{text}*{number}!**").match(channel) is None
    assert Pattern("/".join(["*"] * 120) + "/!").match(channel) is None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(""), PLAIN),
            st.tuples(st.just("one"), VALUE),
        ),
        min_size=1,
        max_size=6,
    ),
    st.text(max_size=10),
)
def test_a_pattern_matches_what_is_formatted_from_it(
    segments: list[tuple[str, str]], rest: str
) -> None:
    written = [f"{{p{n}}}" if kind else text for n, (kind, text) in enumerate(segments)]
    values = {f"p{n}": text for n, (kind, text) in enumerate(segments) if kind}
    channel = "/".join(text for _, text in segments)
    if rest:
        written.append("x{rest:path}")
        values["rest"] = rest
        channel += f"/x{rest}"
    pattern = Pattern("/".join(written))
    assert pattern.match(channel) == values
    assert pattern.parameters == tuple(values)


@given(PATTERNS, CHANNELS)
def test_a_pattern_matches_as_the_description_says(text: str, channel: str) -> None:
    """A match that goes back, and so finds a way if there is one."""
    expression = re.escape(text).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    expected = re.fullmatch(expression, channel) is not None
    assert (Pattern(text).match(channel) is not None) is expected


@st.composite
def patterns_of_one_channel(draw: st.DrawFn) -> list[Pattern]:
    segments = draw(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
    texts: list[str] = []
    for _ in range(2):
        parts: list[str] = []
        for segment in segments:
            start = draw(st.integers(0, len(segment) - 1))
            end = draw(st.integers(start + 1, len(segment)))
            if draw(st.booleans()):
                parts.append(f"{segment[:start]}**")
                break
            forms = [segment, f"{segment[:start]}*{segment[end:]}"]
            parts.append(forms[draw(st.integers(0, 1))])
        texts.append("/".join(parts))
    patterns = list(map(Pattern, texts))
    assert all(pattern.match("/".join(segments)) is not None for pattern in patterns)
    return patterns


@given(patterns_of_one_channel())
def test_specificity_orders_the_patterns_of_one_channel(patterns: list[Pattern]) -> None:
    one, other = patterns
    is_equal = one.specificity == other.specificity
    assert one.conflicts_with(other) is other.conflicts_with(one) is is_equal


@given(st.lists(PATTERNS, max_size=6), CHANNELS)
def test_a_table_finds_the_most_specific(texts: list[str], channel: str) -> None:
    table: PatternTable[Pattern] = PatternTable()
    for pattern in map(Pattern, texts):
        if table.conflict(pattern) is None:
            table.add(pattern, pattern)
    matching = [pattern for pattern, _ in table if pattern.match(channel) is not None]
    expected = max(matching, key=lambda pattern: pattern.specificity, default=None)
    found = table.find(channel)
    assert (found and found[0]) is expected
