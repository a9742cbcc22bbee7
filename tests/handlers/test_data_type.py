"""The type of a handler's data: what it takes, what it refuses, and what it says then."""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
import sys
import uuid
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from handlers.kinds import (
    CASES,
    Add,
    Around,
    Attrs,
    Case,
    Color,
    Line,
    Named,
    Plain,
    Point,
    Tree,
    Typed,
)
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    EncodeError,
    InvalidArgumentsError,
    InvalidDataError,
    InvalidMessageError,
    dehydrate_error,
)
from socketcluster.handlers.checkers import MAX_MESSAGE
from socketcluster.handlers.data_type import DataType

LONE = '"\\ud83d"'
HALF = b"\x00\xff"
BINARY = {"base64": True, "data": "AP8="}
"""The JSON form of `HALF`."""


def from_json(data: DataType[Any], text: str) -> Any:
    return data.from_json(text.encode())


def from_raw(data: DataType[Any], text: str) -> Any:
    return data.from_json(msgspec.Raw(text.encode()))


def from_msgpack(data: DataType[Any], text: str) -> Any:
    return data.from_msgpack(msgspec.msgpack.encode(json.loads(text)))


def from_value(data: DataType[Any], text: str) -> Any:
    return data.from_value(json.loads(text))


WAYS = [from_json, from_raw, from_msgpack, from_value]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def decoded(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.json}")
def test_data_becomes_the_type(case: Case, decoded: Any) -> None:
    if decoded is from_msgpack and case.value == 2**70:
        decoded = from_json  # MessagePack has no such integer.
    found = decoded(DataType.of(case.kind), case.json)
    assert found == case.value
    assert type(found) is type(case.value)


@pytest.mark.parametrize(
    ("case", "wrong"),
    [(case, wrong) for case in CASES for wrong in case.wrong],
    ids=lambda part: part if isinstance(part, str) else str(part.kind),
)
def test_data_of_another_type_is_refused_with_its_path(
    case: Case, wrong: str, decoded: Any
) -> None:
    with pytest.raises(InvalidDataError) as caught:
        decoded(DataType.of(case.kind), wrong)
    assert caught.value.path == case.wrong[wrong]
    assert caught.value.message


def test_an_error_reads_like_this_at_the_peer() -> None:
    with pytest.raises(InvalidDataError) as caught:
        DataType.of(list[Add]).from_json(b'[{"a":1,"b":"x"}]')
    assert dehydrate_error(caught.value) == {
        "name": "InvalidArgumentsError",
        "message": "Expected `int`, got `str` - at `$[0].b`",
        "path": "$[0].b",
    }
    with pytest.raises(InvalidDataError) as caught:
        DataType.of(Line).from_json(b'{"points":[{"x":"a"},{}]}')
    assert caught.value.message == (
        "Input should be a valid integer, unable to parse string as an integer"
        " - at `$.points[0].x` (and 1 more)"
    )


@pytest.mark.parametrize("kind", [Add, Point, Any, list[float]])
@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a":1', '{"a":1}}', "'a'", "NaN", '{"x":NaN}', "[Infinity]", b'{"a":"\xff"}'],
)
def test_what_is_not_json_is_an_invalid_message(kind: Any, text: str | bytes) -> None:
    with pytest.raises(InvalidMessageError):
        DataType.of(kind).from_json(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("kind", [Add, Point, Any])
@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x81", b"\x01\x01"])
def test_what_is_not_messagepack_is_an_invalid_message(kind: Any, message: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        DataType.of(kind).from_msgpack(message)


class Loose(msgspec.Struct):
    f: float = 0
    any: Any = None
    text: str = ""
    items: list[Any] = []


class LooseModel(pydantic.BaseModel):
    f: float = 0
    any: Any = None
    text: str = ""
    items: list[Any] = []


@pytest.mark.parametrize("kind", [Loose, LooseModel, list[float], float, Any])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400 + ".0", "1" + "0" * 400 + "e0"])
@pytest.mark.parametrize("padding", [0, 1000])
def test_numbers_that_are_too_large_are_refused(kind: Any, number: str, padding: int) -> None:
    shapes = {list[float]: "[%s]", float: "%s", Any: '{"any":%s}'}
    for text in [shapes[kind]] if kind in shapes else ['{"f":%s}', '{"any":%s}', '{"items":[%s]}']:
        with pytest.raises((InvalidDataError, InvalidMessageError), match=r"range|large"):
            from_json(DataType.of(kind), text % number + " " * padding)


@pytest.mark.parametrize("kind", [Loose, LooseModel])
def test_integers_that_are_too_long_are_refused(kind: Any) -> None:
    with pytest.raises((InvalidDataError, InvalidMessageError)):
        from_json(DataType.of(kind), '{"any":%s}' % ("9" * 5000))
    assert from_json(DataType.of(kind), '{"any":%s}' % ("9" * 30)).any == int("9" * 30)


@pytest.mark.parametrize("kind", [Loose, LooseModel])
def test_costly_floats_keep_their_values(kind: Any) -> None:
    numbers = [f"1.{number}e-300" for number in range(100)]
    found = from_json(DataType.of(kind), f'{{"f":2.5e300,"items":[{",".join(numbers)}]}}')
    assert found == kind(f=2.5e300, items=[float(number) for number in numbers])


@pytest.mark.parametrize("kind", [Loose, LooseModel, Any])
@pytest.mark.parametrize("levels", [10, 126, 127, 10_000])
def test_data_may_be_as_deep_as_a_message(kind: Any, levels: int) -> None:
    data, nested = DataType.of(kind), "[" * levels + "]" * levels
    packed = b"\x81\xa3any" + b"\x91" * (levels - 1) + b"\x90"
    if levels < 128:
        expected = json.loads(nested)
        for found in (from_json(data, f'{{"any":{nested}}}'), data.from_msgpack(packed)):
            assert (found["any"] if kind is Any else found.any) == expected
    else:
        with pytest.raises(InvalidMessageError):
            from_json(data, f'{{"any":{nested}}}')
        with pytest.raises(InvalidMessageError):
            data.from_msgpack(packed)


def test_a_value_of_the_application_that_is_too_deep_is_refused() -> None:
    tree: Any = {"leaf": 1}
    blob: Any = {"blob": ""}
    items: Any = []
    for _ in range(100_000):
        tree, blob, items = {"leaf": 1, "trees": [tree]}, {"blob": "", "inner": blob}, [items]
    for kind, value in ((Tree, tree), (Blob, blob), (LooseModel, {"items": items})):
        with pytest.raises(InvalidDataError, match="too deep"):
            DataType.of(kind).from_value(value)


@pytest.mark.parametrize("kind", [Loose, LooseModel, Any])
def test_half_characters_are_replaced(kind: Any) -> None:
    data = DataType.of(kind)
    text = from_json(data, '{"text":"a\\ud83d"}')
    assert (text["text"] if kind is Any else text.text) == "a\ufffd"
    packed = data.from_msgpack(b"\x81\xa4text\xa4a\xed\xa0\xbd")
    assert (packed["text"] if kind is Any else packed.text) == "a\ufffd"


def test_an_error_has_a_bounded_length() -> None:
    name = "x" * 100_000
    for kind in (Closed, ClosedModel):
        with pytest.raises(InvalidDataError) as caught:
            from_json(DataType.of(kind), f'{{"{name}":1}}')
        assert len(caught.value.message) <= MAX_MESSAGE
        assert len(caught.value.path) <= MAX_MESSAGE


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0


class ClosedModel(pydantic.BaseModel, extra="forbid"):
    a: int = 0


def test_very_many_errors_of_pydantic_are_counted_only() -> None:
    with pytest.raises(InvalidDataError, match="The data has 2000 errors"):
        from_json(DataType.of(list[Point]), json.dumps([1] * 2000))


class Refusing(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("a must not be negative")
        if self.a > 9:
            raise LookupError("a mistake of the program")


class RefusingModel(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def check(cls, a: int) -> int:
        if a < 0:
            raise ValueError("a must not be negative")
        if a > 9:
            raise LookupError("a mistake of the program")
        return a


@pytest.mark.parametrize("kind", [Refusing, RefusingModel])
def test_checks_of_the_application_refuse_data_and_their_failures_are_its_own(
    kind: Any, decoded: Any
) -> None:
    with pytest.raises(InvalidDataError, match="a must not be negative"):
        decoded(DataType.of(kind), '{"a":-1}')
    with pytest.raises(LookupError, match="a mistake"):
        decoded(DataType.of(kind), '{"a":10}')


# Binary data


class Blob(msgspec.Struct):
    blob: bytes
    other: Any = None
    inner: Blob | None = None


class Form(msgspec.Struct):
    base64: bool
    data: str


class TaggedBlob(msgspec.Struct, tag="blob"):
    blob: bytes


class TaggedForm(msgspec.Struct, tag="form"):
    blob: Form


class ArrayBlob(msgspec.Struct, array_like=True, tag="a"):
    number: int
    blob: bytes


class BlobRow(NamedTuple):
    blob: bytes


class BlobDict(TypedDict):
    blob: bytes


class BlobModel(pydantic.BaseModel):
    blob: bytes
    at: datetime.date | None = None


MODEL = BlobModel(blob=HALF, at=datetime.date(2020, 1, 2))


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (bytes, BINARY, HALF),
        (bytearray, BINARY, bytearray(HALF)),
        (bytes | None, BINARY, HALF),
        (list[bytes], [BINARY, "AA=="], [HALF, b"\0"]),
        (tuple[bytes, ...], [BINARY], (HALF,)),
        (tuple[int, bytes], [1, BINARY], (1, HALF)),
        (dict[str, bytes], {"a": BINARY}, {"a": HALF}),
        (dict[str, list[bytes]], {"a": [BINARY]}, {"a": [HALF]}),
        (Blob, {"blob": BINARY, "other": BINARY}, Blob(HALF, BINARY)),
        (Blob, {"blob": BINARY, "inner": {"blob": BINARY}}, Blob(HALF, None, Blob(HALF))),
        (TaggedBlob | TaggedForm, {"type": "blob", "blob": BINARY}, TaggedBlob(HALF)),
        (
            list[TaggedBlob | TaggedForm],
            [{"type": "form", "blob": BINARY}, {"type": "blob", "blob": BINARY}],
            [TaggedForm(Form(True, "AP8=")), TaggedBlob(HALF)],
        ),
        (TaggedBlob | bytes, BINARY, HALF),
        (ArrayBlob, ["a", 1, BINARY], ArrayBlob(1, HALF)),
        (ArrayBlob | int, ["a", 1, BINARY], ArrayBlob(1, HALF)),
        (list[bytes] | bytes | None, [BINARY], [HALF]),
        (dict[str, Any] | bytes, BINARY, BINARY),
        (BlobRow, [BINARY], BlobRow(HALF)),
        (BlobDict, {"blob": BINARY}, {"blob": HALF}),
        (Form | None, BINARY, Form(True, "AP8=")),
        (Any, BINARY, BINARY),
        (
            BlobModel,
            {"blob": BINARY, "at": "2020-01-02"},
            BlobModel(blob=HALF, at=datetime.date(2020, 1, 2)),
        ),
        (list[BlobModel], [{"blob": BINARY}], [BlobModel(blob=HALF)]),
    ],
    ids=str,
)
def test_binary_data_is_read_where_the_type_has_it(
    kind: Any, data: Any, expected: Any, decoded: Any
) -> None:
    found = decoded(DataType.of(kind), json.dumps(data))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("kind", [Blob, BlobModel])
def test_binary_data_of_messagepack_is_taken_as_it_is(kind: Any) -> None:
    data = DataType.of(kind)
    assert data.from_msgpack(msgspec.msgpack.encode({"blob": HALF})) == kind(blob=HALF)
    assert data.from_value({"blob": HALF}) == kind(blob=HALF)


@pytest.mark.parametrize("kind", [Blob, BlobModel])
@pytest.mark.parametrize(
    "wrong",
    [
        {"base64": True, "data": "?"},
        {"base64": True},
        {"base64": False, "data": "AA=="},
        {"base64": True, "data": 5},
        {"base64": True, "data": "AA==", "more": 1},
        5,
    ],
)
def test_what_is_no_binary_data_is_refused(kind: Any, wrong: Any, decoded: Any) -> None:
    with pytest.raises(InvalidDataError) as caught:
        decoded(DataType.of(kind), json.dumps({"blob": wrong}))
    assert caught.value.path == "$.blob"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Blob, Blob(HALF)),
        (list[bytes], [HALF]),
        (BlobModel, BlobModel(blob=HALF, at=datetime.date(2020, 1, 2))),
        (dict[str, BlobModel], {"a": BlobModel(blob=HALF)}),
    ],
)
@pytest.mark.parametrize("codec", [JSONCodec(), MinBinCodec()], ids=["JSON", "min-bin"])
def test_binary_data_returns_from_where_it_was_sent(kind: Any, value: Any, codec: Any) -> None:
    data = DataType.of(kind)
    assert not data.encodes_directly
    plain = codec.decode(codec.encode({"rid": 1, "data": data.to_plain(value)}))["data"]
    assert plain["blob"] == BINARY if kind is Blob and type(codec) is JSONCodec else True
    assert data.from_value(plain) == value


# Encoding


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.json}")
@pytest.mark.parametrize("codec", [JSONCodec(), MinBinCodec()], ids=["JSON", "min-bin"])
def test_an_encoded_value_is_of_the_type_again(case: Case, codec: Any) -> None:
    if type(codec) is MinBinCodec and case.value == 2**70:
        with pytest.raises(EncodeError):
            codec.encode({"data": case.value})
        return
    data = DataType.of(case.kind)
    message = codec.encode({"rid": 1, "data": data.to_plain(case.value)})
    assert data.from_value(codec.decode(message)["data"]) == case.value
    if data.encodes_directly and type(codec) is JSONCodec:
        assert msgspec.json.encode({"rid": 1, "data": case.value}).decode() == message


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (int, True),
        (Add, True),
        (list[Plain], True),
        (Typed | None, True),
        (datetime.datetime, True),
        (bytes, False),
        (list[bytes | None], False),
        (Blob, False),
        (dict[str, Any], False),
        (list, False),
        (Any, False),
        (Point, False),
    ],
    ids=str,
)
def test_only_values_that_cannot_contain_binary_data_are_encoded_directly(
    kind: Any, expected: bool
) -> None:
    assert DataType.of(kind).encodes_directly is expected


class Aliased(pydantic.BaseModel):
    long_name: int = pydantic.Field(serialization_alias="longName")
    url: pydantic.AnyUrl
    blob: bytes = b""

    @pydantic.field_serializer("long_name")
    def double(self, value: int) -> int:
        return value * 2


def test_models_are_serialized_by_pydantic() -> None:
    model = Aliased(long_name=1, url=pydantic.AnyUrl("http://a/"), blob=HALF)
    expected = {"longName": 2, "url": "http://a/", "blob": HALF}
    assert DataType.of(Aliased).to_plain(model) == expected
    assert DataType.of(list[Aliased]).to_plain([model]) == [expected]
    assert DataType.of(Point).to_plain(Point(x=1, longName=2)) == {"x": 1, "longName": 2}


def test_a_value_that_is_not_of_its_model_cannot_be_encoded() -> None:
    with pytest.raises(EncodeError, match=r"cannot be encoded as `Point`: .*Expected `Point`"):
        DataType.of(Point).to_plain({"y": 1})


# The type itself


def test_the_same_type_is_made_once() -> None:
    assert DataType.of(list[Add]) is DataType.of(list[Add])
    assert DataType.of(Literal[1]) is not DataType.of(Literal[True])
    unhashable = Annotated[int, []]
    assert DataType.of(unhashable).from_json(b"1") == 1
    assert DataType.of(unhashable).annotation is unhashable
    assert repr(DataType.of(Add | None)) == "<DataType `handlers.kinds.Add | None`>"


@pytest.mark.parametrize("kind", [Any, object])
def test_nothing_is_checked_of_anything(kind: Any, decoded: Any) -> None:
    data = DataType.of(kind)
    assert data.is_any
    assert decoded(data, '{"a":[1]}') == {"a": [1]}
    assert not DataType.of(Add).is_any


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Add, "msgspec"),
        (Attrs, "msgspec"),
        (list[Color], "msgspec"),
        (Named, "msgspec"),
        (Annotated[int, msgspec.Meta(ge=0)], "msgspec"),
        (Point, "pydantic"),
        (Around, "pydantic"),
        (dict[str, list[Point] | None], "pydantic"),
        (Annotated[int, pydantic.Field(ge=0)], "pydantic"),
        (pydantic.AnyUrl, "pydantic"),
        (uuid.UUID, "msgspec"),
    ],
    ids=str,
)
def test_a_type_is_checked_by_the_library_of_its_parts(kind: Any, expected: str) -> None:
    assert DataType.of(kind).kind == expected


class Unknown:
    pass


class Mixed(msgspec.Struct):
    point: Point


@dataclasses.dataclass
class MixedDataclass:
    add: Add
    point: Point


class MixedModel(pydantic.BaseModel, arbitrary_types_allowed=True):
    add: Add


class Unresolved(msgspec.Struct):
    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unknown, r"`Unknown` cannot be checked.* use a struct, a dataclass"),
        (list[Unknown], r"`list\[.*Unknown\]` cannot be checked, because of `Unknown`"),
        (msgspec.Raw, "because of `Raw`"),
        (int | list[int] | set[int], "more than one array-like"),
        ("int", "'int'"),
        (tuple[Add, Point], "mixes msgspec's `Add` with pydantic's `Point`"),
        (Mixed, "mixes msgspec's `Mixed` with pydantic's `Point`"),
        (MixedDataclass, "mixes msgspec's `Add` with pydantic's `Point`"),
        (MixedModel, "mixes msgspec's `Add` with pydantic's `MixedModel`"),
        (Unresolved, r"in `Unresolved` cannot be resolved: name 'Nowhere' is not defined"),
        (list[Unresolved], "Nowhere"),
        (dict[Point, Unknown], "`dict.* cannot be checked"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_checked_is_refused_with_the_reason(kind: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        DataType.of(kind)


def test_pydantic_is_imported_only_for_its_own_types() -> None:
    program = """
import sys
from dataclasses import dataclass
from typing import Annotated
from socketcluster.errors import InvalidArgumentsError
from socketcluster.handlers.data_type import DataType

@dataclass
class Plain:
    a: list[int]

class Ge:
    __module__ = "annotated_types"

assert DataType.of(list[Plain] | None).from_json(b'[{"a":[1]}]') == [Plain([1])]
assert "pydantic" not in sys.modules
sys.modules["pydantic"] = None
try:
    DataType.of(Annotated[int, Ge()])
except InvalidArgumentsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "is not installed: install it with `pip install pydantic`" in done.stdout
