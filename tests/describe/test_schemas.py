"""JSON Schemas of Python types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel

from socketcluster.describe.schemas import Schema, Schemas
from socketcluster.handlers.data_type import DataType


def schema_of(annotation: Any) -> Schema:
    return Schemas([DataType.of(annotation)], []).received[0]


class Point(msgspec.Struct):
    """A place."""

    x: float
    y: float = 0


def struct(module: str, name: str = "Message", field: Any = int) -> Any:
    return msgspec.defstruct(name, [("value", field)], module=module)


def model(name: str, **fields: Any) -> Any:
    return type(name, (BaseModel,), {"__module__": "models", "__annotations__": fields})


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, {"type": "integer"}),
        (Any, {}),
        (object, {}),
        (bytes, {"$ref": "#/components/schemas/Binary"}),
        (Point, {"$ref": "#/components/schemas/Point"}),
        (Literal["a", 1], {"enum": [1, "a"]}),
        (
            Annotated[Point, msgspec.Meta(description="Where.")],
            {"description": "Where.", "allOf": [{"$ref": "#/components/schemas/Point"}]},
        ),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": [{"type": "integer"}, {"type": "string"}],
                "additionalItems": False,
            },
        ),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_types(annotation: Any, expected: Schema) -> None:
    assert schema_of(annotation) == expected


def test_a_type_is_described_once_with_its_docstring() -> None:
    point = DataType.of(Point)
    schemas = Schemas([point, DataType.of(list[Point])], [point])
    assert schemas.received[0] == schemas.sent[0] == {"$ref": "#/components/schemas/Point"}
    assert schemas.received[1] == {"type": "array", "items": schemas.sent[0]}
    assert schemas.components == {
        "Point": {
            "title": "Point",
            "description": "A place.",
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0}},
            "required": ["x"],
        }
    }


def test_types_of_one_name_get_their_modules_in_front() -> None:
    types = [DataType.of(struct("chat.models")), DataType.of(struct("admin.models", field=str))]
    schemas = Schemas(types, [])
    assert list(schemas.components) == ["admin_models_Message", "chat_models_Message"]
    assert [schema["$ref"].rpartition("/")[2] for schema in schemas.received] == [
        "chat_models_Message",
        "admin_models_Message",
    ]


def test_names_that_are_used_otherwise_get_a_number() -> None:
    types = [
        struct("m", "Promise"),
        struct("m"),
        model("Message", text=str),
        model("Binary", n=int),
    ]
    schemas = Schemas([DataType.of(annotation) for annotation in types], [])
    assert [schema["$ref"].rpartition("/")[2] for schema in schemas.received] == [
        *("Promise_2", "Message", "Message_2", "Binary_2")
    ]
    assert schemas.components["Message_2"]["properties"] == {"text": {"type": "string"}}


def test_a_model_whose_answer_has_another_form_has_two_entries() -> None:
    class User(BaseModel):
        name: str
        age: int = 0

        model_config = {"json_schema_serialization_defaults_required": True}

    user = DataType.of(User)
    assert list(Schemas([user], []).components) == ["User"]
    schemas = Schemas([user], [user])
    assert schemas.components["User_Input"]["required"] == ["name"]
    assert schemas.components["User_Output"]["required"] == ["name", "age"]
    assert schemas.components["User_Input"]["properties"]["age"] == {
        "type": "integer",
        "default": 0,
    }


def test_words_of_python_names_do_not_confuse_keywords() -> None:
    @dataclass
    class Odd:
        title: str
        description: int
        items: list[bytes]

    odd = Schemas([DataType.of(Odd)], []).components["Odd"]
    assert odd["properties"] == {
        "title": {"type": "string"},
        "description": {"type": "integer"},
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Binary"}},
    }


def test_a_pydantic_type_without_a_json_form_is_anything() -> None:
    class Holder(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        value: Point

    schema = Schemas([], [FakePydantic(Holder)]).components["Holder"]
    assert schema["properties"]["value"] == {}


@dataclass
class FakePydantic:
    """A type that DataType would refuse: descriptions do not fail where handlers work."""

    annotation: Any
    kind: str = "pydantic"
    is_any: bool = False
