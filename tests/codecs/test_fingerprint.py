"""A value that changes in place has another fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from socketcluster.codecs.fingerprint import fingerprint

TEXT = '{"a":["eA==",1,1.5,true,null,{"b":[]}],"c":"\\u00e9","d":0.0}'


def test_equal_values_have_the_same_fingerprint() -> None:
    value = json.loads(TEXT)
    assert fingerprint(value) == fingerprint(value) == fingerprint(json.loads(TEXT)) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["a"].__setitem__(0, b"eA=="),
        lambda value: value["a"].__setitem__(0, bytearray(b"eA==")),
        lambda value: value["a"].__setitem__(1, True),
        lambda value: value["a"].__setitem__(1, 1.0),
        lambda value: value["a"].__setitem__(3, 1),
        lambda value: value["a"].__setitem__(1, Decimal(1)),
        lambda value: value["a"].__setitem__(4, object()),
        lambda value: value["a"].reverse(),
        lambda value: value["a"][5]["b"].append(0),
        lambda value: value.__setitem__("d", -0.0),
        lambda value: value.__setitem__("e", None),
        lambda value: value.__setitem__("a", value.pop("a")),
        lambda value: value.pop("c"),
        lambda value: value.__setitem__("a", tuple(value["a"])),
        lambda value: value["a"].__setitem__(1, 2**64),
        lambda value: value["a"].__setitem__(1, msgspec.Raw(b"\x01")),
    ],
)
def test_a_change_is_seen(change: Callable[[Any], Any]) -> None:
    value = json.loads(TEXT)
    before = fingerprint(value)
    change(value)
    assert fingerprint(value) != before


@pytest.mark.parametrize("integer", [2**63, 2**64, -(2**63) - 1, 10**50])
def test_a_value_with_a_long_integer_has_a_fingerprint(integer: int) -> None:
    value = {"a": [integer, 1]}
    assert fingerprint(value) == fingerprint({"a": [integer, 1]}) is not None
    assert fingerprint(value) != fingerprint({"a": [integer + 1, 1]})


@dataclass
class Point:
    x: int


@pytest.mark.parametrize("odd", [Point(1), Decimal(1), datetime(2024, 1, 1, tzinfo=UTC), object()])
def test_a_value_with_an_object_of_another_type_has_none(odd: Any) -> None:
    assert fingerprint([odd]) is None


def test_a_value_that_contains_itself_has_none() -> None:
    value: list[Any] = []
    value.append(value)
    assert fingerprint(value) is None
