"""Types of every kind, and values that are and are not of them, as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pydantic.dataclasses

T = TypeVar("T")


class Add(msgspec.Struct):
    a: int
    b: int


class Exact(msgspec.Struct, forbid_unknown_fields=True):
    a: int
    b: int = 2


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


class Tree(msgspec.Struct):
    leaf: int
    trees: list[Tree] = []


class Box(msgspec.Struct, Generic[T]):
    inside: T


@dataclasses.dataclass
class Plain:
    a: int
    b: str = "b"


class Typed(TypedDict):
    a: int
    b: NotRequired[str]


class Named(NamedTuple):
    a: int
    b: str = "b"


@attrs.define
class Attrs:
    a: int


class Color(enum.Enum):
    RED = "red"


class Point(pydantic.BaseModel):
    x: int
    long_name: int = pydantic.Field(default=0, alias="longName", ge=0)


class Line(pydantic.BaseModel):
    points: list[Point]
    color: Color | None = None


class Stern(pydantic.BaseModel, extra="forbid", strict=True):
    at: datetime.date


@pydantic.dataclasses.dataclass
class Checked:
    a: Annotated[int, pydantic.Field(ge=0)]


@dataclasses.dataclass
class Around:
    point: Point


class Case(NamedTuple):
    kind: Any
    json: str
    value: Any
    wrong: dict[str, str]
    """JSON texts that are not of the type, and the path of the error."""


CASES = [
    Case(
        Add,
        '{"a":1,"b":2}',
        Add(1, 2),
        {'{"a":1}': "$", '{"a":1,"b":"x"}': "$.b", "null": "$", "5": "$", '{"a":1,"b":1.5}': "$.b"},
    ),
    Case(Add, '{"a":1,"b":2,"more":1}', Add(1, 2), {'{"a":null,"b":2}': "$.a", "[1,2]": "$"}),
    Case(Exact, '{"a":1}', Exact(1), {'{"a":1,"more":1}': "$", "{}": "$"}),
    Case(Renamed, '{"firstName":"x"}', Renamed("x"), {'{"first_name":"x"}': "$"}),
    Case(Cat | Dog, '{"type":"Dog","tricks":[]}', Dog([]), {'{"type":"Cow"}': "$.type"}),
    Case(Row, '[1,"x"]', Row(1, "x"), {"[1]": "$", '["x","x"]': "$[0]"}),
    Case(
        Tree,
        '{"leaf":1,"trees":[{"leaf":2}]}',
        Tree(1, [Tree(2)]),
        {'{"leaf":1,"trees":[1]}': "$.trees[0]"},
    ),
    Case(Box[int], '{"inside":1}', Box(1), {'{"inside":"x"}': "$.inside"}),
    Case(Plain, '{"a":1}', Plain(1), {"{}": "$", '{"a":1,"b":1}': "$.b"}),
    Case(Typed, '{"a":1}', {"a": 1}, {'{"b":"x"}': "$", '{"a":1,"b":1}': "$.b"}),
    Case(Named, '[1,"x"]', Named(1, "x"), {"[]": "$"}),
    Case(Attrs, '{"a":1}', Attrs(1), {'{"a":"x"}': "$.a"}),
    Case(Color, '"red"', Color.RED, {'"blue"': "$", "null": "$"}),
    Case(Literal["a", 1], "1", 1, {"2": "$", '"b"': "$"}),
    Case(int | None, "null", None, {'"1"': "$", "true": "$"}),
    Case(int | str, '"x"', "x", {"[]": "$", "1.5": "$"}),
    Case(Annotated[int, msgspec.Meta(ge=0)], "0", 0, {"-1": "$"}),
    Case(list[Add], '[{"a":1,"b":2}]', [Add(1, 2)], {'[{"a":1,"b":2},1]': "$[1]"}),
    Case(dict[str, int], '{"a":1}', {"a": 1}, {'{"a":"x"}': "$[...]"}),
    Case(dict[int, int], '{"1":1}', {1: 1}, {'{"x":1}': "$"}),
    Case(tuple[int, str], '[1,"x"]', (1, "x"), {"[1]": "$", "[1,2]": "$[1]"}),
    Case(set[int], "[1,1]", {1}, {"1": "$"}),
    Case(float, "1", 1.0, {'"1"': "$", "null": "$"}),
    Case(int, str(2**70), 2**70, {"1.0": "$"}),
    Case(bool, "true", True, {"1": "$"}),
    Case(
        datetime.datetime,
        '"2020-01-02T03:04:05Z"',
        datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        {'"yesterday"': "$", "1": "$"},
    ),
    Case(uuid.UUID, f'"{uuid.UUID(int=1)}"', uuid.UUID(int=1), {'"x"': "$"}),
    Case(decimal.Decimal, '"1.10"', decimal.Decimal("1.10"), {'"x"': "$"}),
    Case(bytes, '"AA=="', b"\0", {'"A"': "$", "1": "$"}),
    Case(None, "null", None, {"1": "$"}),
    Case(dict[str, Any], '{"a":[{}]}', {"a": [{}]}, {"[]": "$"}),
    Case(
        Point,
        '{"x":1,"longName":2}',
        Point(x=1, longName=2),
        {"{}": "$.x", '{"x":1,"longName":-1}': "$.longName", "null": "$"},
    ),
    Case(Point, '{"x":"1"}', Point(x=1), {'{"x":"y"}': "$.x"}),
    Case(
        Line,
        '{"points":[{"x":1}],"color":"red"}',
        Line(points=[Point(x=1)], color=Color.RED),
        {'{"points":[{"x":1},{}]}': "$.points[1].x", '{"points":1}': "$.points"},
    ),
    Case(list[Point], '[{"x":1}]', [Point(x=1)], {'[{"x":1},{}]': "$[1].x", "null": "$"}),
    Case(Point | None, "null", None, {"1": "$"}),
    Case(dict[str, Point], '{"a":{"x":1}}', {"a": Point(x=1)}, {'{"a":{}}': "$.a.x"}),
    Case(
        Stern,
        '{"at":"2020-01-02"}',
        Stern(at=datetime.date(2020, 1, 2)),
        {'{"at":1}': "$.at", '{"at":"2020-01-02","b":1}': "$.b"},
    ),
    Case(Checked, '{"a":1}', Checked(1), {'{"a":-1}': "$.a"}),
    Case(Around, '{"point":{"x":1}}', Around(Point(x=1)), {'{"point":{}}': "$.point.x"}),
    Case(Annotated[int, pydantic.Field(ge=0)], "0", 0, {"-1": "$", "null": "$"}),
]
