"""Sets and dicts of numbers with one hash: they would take a minute to make."""

from __future__ import annotations

import decimal
import uuid
from typing import Any

import msgspec
import pydantic
import pytest

from socketcluster.errors import InvalidDataError
from socketcluster.handlers.data_type import DataType

ONE_HASH = [n * (2**61 - 1) for n in range(20_000)]
TEXTS = [str(n) for n in ONE_HASH]
UUIDS = [str(uuid.UUID(int=n)) for n in ONE_HASH]


class Ids(msgspec.Struct):
    ids: set[int]


class Model(pydantic.BaseModel):
    ids: set[int]


HOSTILE: list[tuple[Any, Any]] = [
    (set[int], ONE_HASH),
    (frozenset[int], ONE_HASH),
    (set[int], [*ONE_HASH, "x"]),
    (dict[int, str], dict.fromkeys(TEXTS, "")),
    (set[uuid.UUID], UUIDS),
    (dict[uuid.UUID, int], dict.fromkeys(UUIDS, 1)),
    (set[decimal.Decimal], TEXTS),
    (set[int | str], ONE_HASH),
    (set[tuple[int, int]], [[n, 1] for n in range(20_000)]),
    (Ids, {"ids": ONE_HASH}),
    (list[Ids], [{"ids": ONE_HASH}]),
    (dict[str, Ids], {"a": {"ids": ONE_HASH}}),
    (dict[int, Ids], {"1": {"ids": ONE_HASH}}),
    (Model, {"ids": ONE_HASH}),
]


@pytest.mark.parametrize(("annotation", "value"), HOSTILE)
@pytest.mark.parametrize("way", ["from_json", "from_msgpack", "from_value"])
def test_values_with_one_hash_are_refused_at_once(annotation: Any, value: Any, way: str) -> None:
    kind = DataType.of(annotation)
    if way == "from_msgpack":
        value = msgspec.msgpack.encode(_texts(value))
    elif way == "from_json":
        value = msgspec.json.encode(value)
    with pytest.raises(InvalidDataError) as refused:
        getattr(kind, way)(value)
    if way == "from_json":
        assert any(text in str(refused.value) for text in ("1,000", "keys of a dict", "65,536"))


def _texts(value: Any) -> Any:
    """A value without integers beyond those of MessagePack."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return str(value) if type(value) is int else value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (set[int], list(range(30_000))),
        (dict[int, dict[int, int]], {str(n): {"1": n} for n in range(30_000)}),
        (set[uuid.UUID], [str(uuid.UUID(int=n)) for n in range(30_000)]),
        (dict[uuid.UUID, int], {str(uuid.UUID(int=n)): n for n in range(30_000)}),
        (set[int | str], list(range(1000))),
        (dict[Any, int], dict.fromkeys(TEXTS, 1)),
        (dict[str, int], dict.fromkeys(TEXTS, 1)),
    ],
)
def test_usual_data_passes(annotation: Any, value: Any) -> None:
    kind = DataType.of(annotation)
    expected = msgspec.convert(value, annotation, str_keys=True)
    assert kind.from_json(msgspec.json.encode(value)) == expected
    assert kind.from_value(value) == expected
    assert kind.from_msgpack(msgspec.msgpack.encode(value)) == expected


def test_data_of_pydantic_with_numbers_in_a_set_is_short() -> None:
    kind = DataType.of(Model)
    value = {"ids": list(range(5000))}
    assert kind.from_json(msgspec.json.encode(value)) == Model(ids=set(range(5000)))
    with pytest.raises(InvalidDataError, match="more than the 65,536 bytes"):
        kind.from_json(msgspec.json.encode({"ids": list(range(20_000))}))
