"""JSON Schemas of Python types, draft 7, as AsyncAPI and OpenRPC take them.

A type with a name has one entry in `components/schemas`, to which the others refer. Its name there
is its class name, `Page_int` for `Page[int]`. Types of one name get their modules in front:
`chat_models_Message`. A number is added where that is not enough, `Message_2`. A pydantic type that
is encoded otherwise than it is decoded has two entries, `User_Input` and `User_Output`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from socketcluster.describe.tables import DataType

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/"
BINARY = "Binary"
"""The entry of bytes."""

_BINARY_SCHEMA: Schema = {
    "description": "Bytes, in Base64.",
    "type": "object",
    "properties": {"base64": {"const": True}, "data": {"type": "string"}},
    "required": ["base64", "data"],
}
# Names that mean something else in TypeScript.
_RESERVED = frozenset(
    f"{BINARY} Api ApiChannel Arguments Channel ChannelName ChannelOf Channels ClientSocket Events"
    " Procedures PublishName Array AsyncIterable AsyncIterableIterator Promise Record any bigint"
    " boolean never null number object string symbol undefined unknown void".split()
)
_MAPPINGS = ("properties", "patternProperties", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf")
_SINGLE = ("additionalProperties", "additionalItems", "contains", "propertyNames", "not", "items")


class Schemas:
    """The schemas of the types that a server receives and sends.

    Attributes:
        received, sent: one schema for each annotation, in the order given.
        components: the entries of `components/schemas`, by name.
    """

    def __init__(self, received: Sequence[DataType], sent: Sequence[DataType]) -> None:
        wanted = [*(("validation", t) for t in received), *(("serialization", t) for t in sent)]
        plain, components = _msgspec_schemas([t for _, t in wanted if t.kind == "msgspec"])
        models, definitions = _pydantic_schemas(
            [(mode, t.annotation) for mode, t in wanted if t.kind == "pydantic"]
        )
        entries = {f"msgspec:{name}": components[name] for name in sorted(components)}
        entries |= {f"pydantic:{name}": definitions[name] for name in sorted(definitions)}
        names = _Names()
        convert = _Converter({key: names.add(_name(key, entry)) for key, entry in entries.items()})
        queues = {"msgspec": iter(plain), "pydantic": iter(models)}
        schemas = [convert(next(queues[t.kind])) for _, t in wanted]
        self.received: list[Schema] = schemas[: len(received)]
        self.sent: list[Schema] = schemas[len(received) :]
        made = {
            convert.names[key]: convert(schema, is_entry=True) for key, schema in entries.items()
        }
        if convert.has_binary:
            made[BINARY] = _BINARY_SCHEMA
        self.components: dict[str, Schema] = dict(sorted(made.items()))


def _name(key: str, schema: Schema) -> str:
    """The name of an entry. Those of generics are made from the title, without modules."""
    title = str(schema.get("title", ""))
    if title.endswith("]"):
        return re.sub(r"(?:\w+\.)+(?=\w)", "", title)
    return key.partition(":")[2]


class _Names:
    """Gives each type a name that is free, and one in TypeScript."""

    def __init__(self) -> None:
        self._used: set[str] = set(_RESERVED)

    def add(self, name: str) -> str:
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "Type"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        found, number = plain, 1
        while found in self._used:
            number += 1
            found = f"{plain}_{number}"
        self._used.add(found)
        return found


class _Converter:
    """Converts schemas of msgspec and pydantic to the documents' form."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.has_binary = False

    def __call__(self, schema: Any, name: str = "", *, is_entry: bool = False) -> Any:
        """Convert a schema; `name` is that of the property that it describes."""
        if not isinstance(schema, dict):
            return schema  # True or False.
        found = cast("Schema", schema)
        if "$ref" in found:
            return _with_notes({"$ref": f"{REFERENCE}{self.names[found['$ref']]}"}, found)
        if found.get("contentEncoding") == "base64" or found.get("format") == "binary":
            self.has_binary = True
            return _with_notes({"$ref": f"{REFERENCE}{BINARY}"}, found)
        made: Schema = {}
        for key, value in _draft_7(found).items():
            if key == "title" and not is_entry and _is_name(value, name):
                continue
            if key == "description":
                made[key] = inspect.cleandoc(value)
            elif key in _MAPPINGS:
                made[key] = {inner: self(entry, inner) for inner, entry in value.items()}
            elif key in _LISTS or (key == "items" and isinstance(value, list)):
                made[key] = [self(entry) for entry in value]
            elif key in _SINGLE:
                made[key] = self(value)
            else:
                made[key] = value
        return made


def _with_notes(reference: Schema, schema: Schema) -> Schema:
    """A reference with the remarks beside it, which draft 7 would not allow there."""
    notes: Schema = {key: schema[key] for key in ("description", "deprecated") if key in schema}
    return {**notes, "allOf": [reference]} if notes else reference


def _draft_7(schema: Schema) -> Schema:
    """A schema without the keywords that draft 7 does not have."""
    made = {key: value for key, value in schema.items() if key != "discriminator"}
    items = made.pop("prefixItems", None)
    if items is not None:
        rest = made.pop("items", made.get("maxItems") != len(items))
        made |= {"items": items, "additionalItems": rest}
    return made


def _is_name(title: Any, name: str) -> bool:
    """Whether a title says only the property's name once more, as those of pydantic do."""
    return str(title).replace(" ", "").lower() == name.replace("_", "").lower()


def _msgspec_schemas(types: Sequence[DataType]) -> tuple[Sequence[Schema], dict[str, Schema]]:
    """The schemas of types, and the definitions that they refer to."""
    return msgspec.json.schema_components(
        [Any if found.is_any else found.annotation for found in types],
        schema_hook=lambda _: {},
        ref_template="msgspec:{name}",
    )


def _pydantic_schemas(wanted: Sequence[tuple[Any, Any]]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schemas of types, each with its mode, and the definitions that they refer to."""
    if not wanted:
        return [], {}
    from pydantic import TypeAdapter  # noqa: PLC0415  Optional.
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415

    class Generator(GenerateJsonSchema):
        """Describes a type without a JSON form by its absence of limits, instead of an error."""

        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
            return {}

    adapters = [(i, mode, TypeAdapter(annotation)) for i, (mode, annotation) in enumerate(wanted)]
    found, rest = TypeAdapter.json_schemas(
        cast("Any", adapters), ref_template="pydantic:{model}", schema_generator=Generator
    )
    return [found[(i, mode)] for i, mode, _ in adapters], rest.get("$defs", {})
