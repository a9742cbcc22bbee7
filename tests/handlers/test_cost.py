"""No data costs much more than an ordinary message of its size, whatever its type is."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pydantic
import pytest

from handlers.kinds import Add, Tree
from server.test_cost import (
    MOST_REPEATS,
    TIMES,
    TIMES_NESTED,
    Usual,
    array,
    filled,
    long_float,
    nested,
    numbered,
)
from socketcluster.errors import PeerError
from socketcluster.handlers.data_type import DataType


class Blob(msgspec.Struct):
    blob: bytes = b""


class Defaults(msgspec.Struct):
    a: int = 0


class Model(pydantic.BaseModel):
    a: float = 0


class Strict(pydantic.BaseModel):
    a: float


BINARY = '{"base64":true,"data":""}'


def ending(text: str, last: str) -> str:
    """An array with one more item, of another kind."""
    return f"{text[:-1]},{last}]"


CASES: dict[str, tuple[Any, str]] = {
    "ones": (list[int], filled("1")),
    "ones and a text": (list[int], ending(filled("1"), '"x"')),
    "a set of ones": (set[int], filled("1")),
    "long integers": (list[int], filled("9" * 4299)),
    "integers as floats": (list[float], filled("1")),
    "floats": (list[float], filled("1.5")),
    "floats of 17 digits": (list[float], filled("1.7976931348623157e308")),
    "floats that differ": (list[float], f"[{numbered(lambda n: f'1.{n + 10**15}e300')}]"),
    "floats whose exponents differ": (list[float], f"[{numbered(lambda n: long_float(n, -1))}]"),
    "exponents": (list[float], filled("1e300")),
    "exponents and an infinite number": (list[float], ending(filled("1e300"), "1e999")),
    "exponents and a text": (list[float], ending(filled("1e300"), '"x"')),
    "exponents somewhere": (dict[str, Any], f'{{"a":{filled("1e300")}}}'),
    "exponents in a field that is not declared": (Add, f'{{"a":1,"b":2,"c":{filled("1e300")}}}'),
    "decimals": (list[decimal.Decimal], filled("1.7976931348623157e308")),
    "structs": (list[Add], filled('{"a":1,"b":2}')),
    "structs that lack all": (list[Add], filled("{}")),
    "the last struct lacks all": (list[Add], ending(filled('{"a":1,"b":2}'), "{}")),
    "empty structs": (list[Defaults], filled("{}")),
    "the last empty struct is wrong": (list[Defaults], ending(filled("{}"), "1")),
    "many keys": (dict[str, int], "{" + numbered(lambda n: f'"{n:x}":1') + "}"),
    "many keys that are numbers": (dict[int, int], "{" + numbered(lambda n: f'"{n}":1') + "}"),
    "times": (list[datetime.datetime], filled('"2020-01-02T03:04:05Z"')),
    "half characters": (list[str], filled(r'"\ud83d"')),
    "texts": (list[str], filled('""')),
    "binary data as texts": (list[bytes], filled('""')),
    "binary data": (list[bytes], filled(BINARY)),
    "binary data that is not": (list[bytes], filled('{"":""}')),
    "binary data in structs": (list[Blob], filled(f'{{"blob":{BINARY}}}')),
}
NESTED: dict[str, tuple[Any, str]] = {
    "deep lists": (list[Any], filled(nested(100))),
    "trees": (list[Tree], filled('{"leaf":1,"trees":[{"leaf":1}]}')),
    "empty lists": (list[list[int]], filled("[]")),
}
WALKED: dict[str, tuple[Any, str]] = {
    "one is binary": (list[bytes], ending(filled('""'), BINARY)),
    "one of the empty structs is binary": (
        list[Blob],
        ending(filled("{}"), f'{{"blob":{BINARY}}}'),
    ),
    "one of many structs is binary": (
        list[Blob],
        ending(filled('{"a":0}'), f'{{"blob":{BINARY}}}'),
    ),
    "one of many dicts is binary": (
        list[dict[str, bytes]],
        ending(filled('{"":""}'), f'{{"blob":{BINARY}}}'),
    ),
}
TIMES_WALKED = 12.0
"""These are decoded twice, and Python walks the places that may be binary data by their type."""

MODELS: dict[str, tuple[Any, str]] = {
    "models": (list[Model], filled('{"a":1}')),
    "models with exponents": (list[Model], filled('{"a":1e300}')),
    "empty models": (list[Model], filled("{}")),
    "models that lack all": (list[Strict], filled("{}")),
    "the last model lacks all": (list[Strict], ending(filled('{"a":1}'), "{}")),
    "floats": (list[Model] | list[float], filled("1.5")),
    "exponents": (list[Model] | list[float], filled("1e300")),
}

MESSAGEPACK: dict[str, tuple[Any, bytes]] = {
    "one of the empty structs is binary": (
        list[Blob],
        array(b"\x80")[:-1] + b"\x81\xa4blob\x82\xa6base64\xc3\xa4data\xa0",
    ),
    "the last struct is none": (list[Blob], array(b"\x80")[:-1] + b"\x01"),
    "empty dicts": (list[Any], array(b"\x80")),
    "ones": (list[int], array(b"\x01")),
    "floats": (list[float], array(b"\xcb" + b"\x01" * 8)),
    "empty structs": (list[Defaults], array(b"\x80")),
    "structs that lack all": (list[Add], array(b"\x80")),
    "binary data": (list[bytes], array(b"\xc4\x00")),
    "empty structs that may be binary": (list[Blob], array(b"\x80")),
}
TIMES_MESSAGEPACK = 14.0
"""A struct takes one byte here, and its levels are counted in its JSON text."""


@pytest.fixture(scope="module")
def usual() -> Usual:
    return Usual()


def cost(decode: Callable[[], Any]) -> float:
    """CPU seconds of a call that may refuse its data."""
    began = time.process_time()
    with contextlib.suppress(PeerError, pydantic.ValidationError):
        decode()
    return time.process_time() - began


def assert_costs(decode: Callable[[], Any], usual: Usual, times: float) -> None:
    costs: list[float] = []
    while len(costs) < MOST_REPEATS:
        costs.append(cost(decode))
        if min(costs) < usual.repeat() * times:
            return
    raise AssertionError(f"It costs {min(costs) / usual.seconds:.2f} times an ordinary message")


@pytest.mark.parametrize("name", [*CASES, *NESTED, *WALKED])
def test_no_json_costs_much_more_than_an_ordinary_message(name: str, usual: Usual) -> None:
    kind, text = (CASES | NESTED | WALKED)[name]
    times = TIMES if name in CASES else TIMES_NESTED if name in NESTED else TIMES_WALKED
    assert_costs(lambda: DataType.of(kind).from_json(text.encode()), usual, times)


@pytest.mark.parametrize("name", MESSAGEPACK)
def test_no_messagepack_costs_much_more_than_an_ordinary_message(name: str, usual: Usual) -> None:
    kind, message = MESSAGEPACK[name]
    assert_costs(lambda: DataType.of(kind).from_msgpack(message), usual, TIMES_MESSAGEPACK)


@pytest.mark.parametrize("name", MODELS)
def test_models_cost_little_more_than_pydantic_itself_takes(name: str) -> None:
    kind, text = MODELS[name]
    data, adapter = DataType.of(kind), pydantic.TypeAdapter[Any](kind)
    ours: list[float] = []
    theirs: list[float] = []
    while len(ours) < MOST_REPEATS:
        theirs.append(cost(lambda: adapter.validate_json(text)))
        ours.append(cost(lambda: data.from_json(text.encode())))
        if min(ours) < min(theirs) * 2:
            return
    raise AssertionError(f"It costs {min(ours) / min(theirs):.2f} times what pydantic takes")
