"""The type of a handler's data: what it takes, what it refuses, and what it says then."""

from __future__ import annotations

import msgspec
import pydantic
import pytest

from socketcluster.errors import InvalidArgumentsError, InvalidDataError, InvalidMessageError
from socketcluster.handlers.data_type import DataType


class Add(msgspec.Struct):
    a: int
    b: int


class Model(pydantic.BaseModel):
    a: int
    b: int


@pytest.mark.parametrize("kind", [Add, Model])
def test_data_is_decoded_into_its_type(kind: type) -> None:
    data = DataType.of(kind)
    expected = kind(a=1, b=2)
    assert data.from_value({"a": 1, "b": 2}) == expected
    assert data.from_json(b'{"a":1,"b":2}') == expected
    assert data.from_msgpack(msgspec.msgpack.encode({"a": 1, "b": 2})) == expected


def test_an_error_says_what_is_wrong_and_where() -> None:
    data = DataType.of(list[Add])
    with pytest.raises(InvalidDataError, match="Expected `int`, got `str`") as caught:
        data.from_json(b'[{"a":1,"b":"x"}]')
    assert caught.value.path == "$[0].b"
    with pytest.raises(InvalidMessageError):
        data.from_json(b'[{"a":1,"b":2}')
    models = DataType.of(list[Model])
    with pytest.raises(InvalidDataError, match=r"valid integer.* - at `\$\[0\].a` \(and 1 more\)$"):
        models.from_json(b'[{"a":"x","b":"x"}]')


def test_a_type_that_mixes_the_libraries_is_refused() -> None:
    with pytest.raises(
        InvalidArgumentsError, match="mixes msgspec's `Add` with pydantic's `Model`"
    ):
        DataType.of(tuple[Add, Model])
