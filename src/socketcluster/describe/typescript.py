"""Prints JSON Schemas as TypeScript types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from socketcluster.describe.schemas import Schema

_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_PRIMITIVES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
# Limits that a type cannot express: an editor shows them with the property.
_TAGS = (
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "default",
)


def declaration(name: str, schema: Schema) -> str:
    """An exported interface or type of a schema with a name."""
    if schema.get("type") == "object" and "properties" in schema:
        return f"{comment(schema, tags=False)}export interface {name} {_object(schema, '')}\n"
    return f"{comment(schema)}export type {name} = {type_of(schema)};\n"


def type_of(schema: Any, indent: str = "") -> str:
    """The type of a schema, in one line unless it is an object with properties."""
    if isinstance(schema, bool) or not schema:
        return "never" if schema is False else "unknown"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "allOf" in schema:
        return " & ".join(_grouped(type_of(part, indent)) for part in schema["allOf"])
    alternatives = _alternatives(schema, indent)
    if alternatives is not None:
        return _union(alternatives)
    kind = str(schema.get("type"))
    if kind == "array":
        return _array(schema, indent)
    if kind == "object":
        return _object(schema, indent)
    return _PRIMITIVES.get(kind, "unknown")


def _alternatives(schema: Schema, indent: str) -> list[str] | None:
    """The types of which a schema allows any; None if it is not of that kind."""
    if "const" in schema:
        return [_literal(schema["const"])]
    if "enum" in schema:
        return [_literal(value) for value in schema["enum"]]
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [type_of({**schema, "type": kind}, indent) for kind in kinds]
    parts = schema.get("anyOf", schema.get("oneOf"))
    return None if parts is None else [type_of(part, indent) for part in parts]


def comment(schema: Schema, indent: str = "", *, tags: bool = True) -> str:
    """The doc comment of a schema, or "" without a description and limits."""
    lines = str(schema.get("description", "")).splitlines()
    if tags:
        lines += [
            f"@{key} {value if isinstance(value, str) and key != 'default' else _literal(value)}"
            for key in _TAGS
            if (value := schema.get(key)) is not None and not _is_tuple_size(schema, key)
        ]
    return doc_comment(lines, indent)


def doc_comment(lines: list[str], indent: str = "") -> str:
    """Lines as a doc comment, or "" if there are none."""
    safe = [line.replace("*/", "*\\/").rstrip() for line in lines]
    if not safe:
        return ""
    if len(safe) == 1:
        return f"{indent}/** {safe[0]} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in safe)
    return f"{indent}/**\n{body}{indent} */\n"


def key_of(name: str) -> str:
    """A name as the key of an object: in quotes if it needs them."""
    return name if _IDENTIFIER.fullmatch(name) else _literal(name)


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_tuple_size(schema: Schema, key: str) -> bool:
    return key in ("minItems", "maxItems") and isinstance(schema.get("items"), list)


def _union(types: Iterable[str]) -> str:
    parts = list(dict.fromkeys(types))
    if "unknown" in parts:
        return "unknown"
    # Null last, as it is written by hand.
    return " | ".join(sorted(parts, key=lambda part: part == "null")) or "never"


def _grouped(text: str) -> str:
    return f"({text})" if " | " in text or " & " in text else text


def _array(schema: Schema, indent: str) -> str:
    items = schema.get("items", True)
    if not isinstance(items, list):
        return f"{_grouped(type_of(items, indent))}[]"
    required = schema.get("minItems", 0)
    parts = [
        f"{_grouped(type_of(item, indent))}{'' if index < required else '?'}"
        for index, item in enumerate(items)
    ]
    rest = schema.get("additionalItems", True)
    if rest is not False:
        parts.append(f"...{_grouped(type_of(rest, indent))}[]")
    return f"[{', '.join(parts)}]"


def _object(schema: Schema, indent: str) -> str:
    properties: dict[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", not properties)
    if not properties:
        return f"{{ [key: string]: {type_of(others, indent)} }}"
    inner = f"{indent}  "
    required = schema.get("required", [])
    lines = [
        f"{comment(entry, inner) if isinstance(entry, dict) else ''}{inner}{key_of(name)}"
        f"{'' if name in required else '?'}: {type_of(entry, inner)};\n"
        for name, entry in properties.items()
    ]
    if others is not False and "additionalProperties" in schema:
        # A property's type must fit into that of the index.
        lines.append(f"{inner}[key: string]: unknown;\n")
    return f"{{\n{''.join(lines)}{indent}}}"
