"""What is found in the bytes of a JSON text, beside a slow reference."""

from __future__ import annotations

import json
import random

import pytest

from socketcluster.codecs import scan
from socketcluster.codecs.json import MAX_DEPTH, JSONCodec
from socketcluster.codecs.text import whole_text
from socketcluster.errors import InvalidMessageError

LEAVES = [
    "1",
    "1e5",
    "null",
    '""',
    '"x"',
    '"[["',
    r'"\"["',
    r'"\\"',
    r'"]\\\"{"',
    r'"[\"],[\\"',
    r'"\u005b\\[[\u0022"',
]
KEYS = ['"a"', '"]"', r'"\""', '"{"', r'"\\"']


def depth(text: str) -> int:
    """Levels, character by character."""
    level = deepest = 0
    in_string = False
    characters = iter(text)
    for character in characters:
        if in_string:
            if character == "\\":
                next(characters)
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def some_json(chance: random.Random, levels: int) -> str:
    """A random text of at most so many levels, with long and short branches."""
    if levels <= 0 or chance.random() < 0.2:
        return chance.choice(LEAVES)
    if chance.random() < 0.2:
        run = chance.randrange(levels + 1)
        return "[" * run + some_json(chance, levels - run) + "]" * run
    count = chance.choice([0, 1, 1, 1, 2, 3])
    items = [some_json(chance, levels - chance.randrange(1, 3)) for _ in range(count)]
    space = chance.choice(["", "", " ", "\n"])
    if chance.random() < 0.5:
        return "[" + ("," + space).join(items) + space + "]"
    return "{" + ",".join(f"{chance.choice(KEYS)}:{space}{item}" for item in items) + "}"


@pytest.mark.parametrize("seed", range(20))
def test_depth_is_what_a_slow_count_says(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(150):
        text = some_json(chance, chance.choice([3, 8, 12, 40]))
        json.loads(text)
        found = depth(text)
        for limit in {0, 1, 2, found - 1, found, found + 1, found // 2}:
            if limit >= 0:
                assert scan.deeper_than(text.encode(), limit) == (found > limit), (text, limit)


@pytest.mark.parametrize("levels", [*range(1, 40), 63, 64, 65, MAX_DEPTH - 1])
def test_depth_is_found_at_any_place_of_a_long_text(levels: int) -> None:
    for flat in ("", "[]", "[],[]", "[],[],[]", "[[[]]],[]"):
        item = "[" * levels + flat + "]" * levels
        text = f"[{','.join([item] * 50)}]"
        found = depth(text)
        assert not scan.deeper_than(text.encode(), found)
        assert scan.deeper_than(text.encode(), found - 1)


@pytest.mark.parametrize("filler", ["[]", "{}", "[[]]", "[[],[]]", '{"a":[[[[]]]]}', '"[[\\"[["'])
@pytest.mark.parametrize("where", ["before", "after", "both"])
def test_one_deep_place_is_found_among_many_flat_ones(filler: str, where: str) -> None:
    flat = ",".join([filler] * 2000)
    for levels, deep in ((MAX_DEPTH, False), (MAX_DEPTH + 1, True)):
        nested = "[" * (levels - 1) + "]" * (levels - 1)
        parts = {"before": [nested, flat], "after": [flat, nested], "both": [flat, nested, flat]}
        text = f"[{','.join(parts[where])}]"
        assert scan.deeper_than(text.encode(), MAX_DEPTH) is deep
        if deep:
            with pytest.raises(InvalidMessageError, match="levels"):
                JSONCodec().decode(text)
        else:
            JSONCodec().decode(text)


def paired(text: str) -> str:
    """U+FFFD for each lone surrogate, character by character."""
    whole = ""
    rest = list(text)
    while rest:
        first = ord(rest.pop(0))
        if 0xD800 <= first < 0xDC00 and rest and 0xDC00 <= ord(rest[0]) < 0xE000:
            whole += chr(0x10000 + ((first - 0xD800) << 10) + ord(rest.pop(0)) - 0xDC00)
        else:
            whole += "\ufffd" if 0xD800 <= first < 0xE000 else chr(first)
    return whole


@pytest.mark.parametrize("seed", range(10))
def test_halves_of_characters_are_replaced_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    alphabet = ["\ud83d", "\ud800", "\ude00", "\udfff", "a", "\\", '"', "u", "d83d", "é", "\n"]
    for _ in range(1000):
        text = "".join(chance.choice(alphabet) for _ in range(chance.randrange(12)))
        encoded = json.dumps({text: [text]})
        if chance.random() < 0.3:
            encoded = encoded.replace("\\ud83d", "\\uD83D").replace("\\ude00", "\\uDE00")
        (text,) = json.loads(encoded)
        whole = paired(text)
        assert whole_text(text) == whole
        assert json.loads(scan.without_lone_surrogates(encoded.encode())) == {whole: [whole]}
        assert JSONCodec().decode(encoded) == {whole: [whole]}
        assert json.loads(JSONCodec().encode({text: [text]})) == {whole: [whole]}


def test_a_text_without_half_characters_is_left_alone() -> None:
    text = json.dumps(["😀", "\\ud83d", "a\\"]).encode()
    assert scan.without_lone_surrogates(text) is text


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "1" + "0" * 400 + ".0", "1" * 200 + "e200"])
@pytest.mark.parametrize("count", [1, 5000])
def test_a_number_that_is_too_large_is_refused_among_any(number: str, count: int) -> None:
    codec = JSONCodec()
    text = ("[" + "1e300," * count + number + "]").encode()
    with pytest.raises(InvalidMessageError):
        codec.decode(text)
    assert not codec.is_valid(text)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_what_python_says(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [
        chance.choice([1, -1]) * chance.random() * 10.0 ** chance.randrange(-320, 308)
        for _ in range(3000)
    ]
    text = json.dumps([*numbers, 5, 2**70, "1e999"])
    assert JSONCodec().decode(text) == json.loads(text)


def different(count: int, exponent: int) -> list[str]:
    return [f"{number}e{exponent}" for number in range(1, count)]


@pytest.mark.parametrize("exponent", [-300, 200, 300])
@pytest.mark.parametrize("other", ["1e-999", f"{2**70}", '{"a":[1.5]}', '"1e999"'])
def test_numbers_that_differ_are_what_python_says(exponent: int, other: str) -> None:
    text = f"[{','.join([*different(2000, exponent), other])}]"
    assert scan.has_different_exponents(text.encode())
    assert scan.may_overflow(text.encode()) is (exponent > 0 or '"' in other[:1])
    assert JSONCodec().decode(text) == json.loads(text)


@pytest.mark.parametrize("other", ["1e999", "-1e999", '{"a":1e999,"a":1}', f"{'9' * 310}.0,5"])
def test_a_number_that_is_too_large_is_refused_among_numbers_that_differ(other: str) -> None:
    text = f"[{','.join([*different(2000, 300), other])}]"
    with pytest.raises(InvalidMessageError, match="out of range"):
        JSONCodec().decode(text)


def test_equal_numbers_do_not_count_as_different() -> None:
    text = f"[{','.join(['1e300', '5e-324'] * 2000)}]".encode()
    assert scan.has_many_exponents(text)
    assert not scan.has_different_exponents(text)
