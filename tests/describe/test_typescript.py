"""JSON Schemas as TypeScript types."""

from __future__ import annotations

from typing import Any

import pytest

from describe.sample import Color, FakeHandler, FakeTables, channel, channels, handler
from socketcluster.describe.api import Api
from socketcluster.describe.declarations import declarations
from socketcluster.describe.typescript import declaration, type_of
from socketcluster.handlers.data_type import DataType


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        ({"type": "integer"}, "number"),
        ({"type": "odd"}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"enum": [None, 1, "é", True]}, '1 | "é" | true | null'),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/A"}]}, "A | null"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "number"),
        ({"anyOf": [{}, {"type": "null"}]}, "unknown"),
        ({"anyOf": []}, "never"),
        ({"allOf": [{"$ref": "#/A"}, {"enum": [1, 2]}]}, "A & (1 | 2)"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"enum": [1, 2]}}, "(1 | 2)[]"),
        ({"type": "array", "items": [{"type": "string"}], "minItems": 1}, "[string, ...unknown[]]"),
        (
            {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
            "[string?]",
        ),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            "{ [key: string]: string }",
        ),
        (
            {"type": "object", "properties": {}, "additionalProperties": False},
            "{ [key: string]: never }",
        ),
        (
            {
                "type": "object",
                "properties": {"a-b": {"type": "string"}, "c": {"type": "null"}},
                "required": ["c"],
                "additionalProperties": {"type": "integer"},
            },
            '{\n  "a-b"?: string;\n  c: null;\n  [key: string]: unknown;\n}',
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}},
            "{\n  a?: {\n    b?: unknown;\n  };\n}",
        ),
    ],
)
def test_types(schema: Any, expected: str) -> None:
    assert type_of(schema) == expected


def test_comments() -> None:
    schema = {
        "description": "A number.\n\nNot */ large.",
        "type": "integer",
        "maximum": 9,
        "default": "x",
    }
    assert declaration("Small", schema) == (
        "/**\n * A number.\n *\n * Not *\\/ large.\n * @maximum 9\n"
        ' * @default "x"\n */\nexport type Small = number;\n'
    )
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "date-time"}}}
    assert declaration("Day", schema) == (
        "export interface Day {\n  /** @format date-time */\n  a?: string;\n}\n"
    )


def test_maps_of_names() -> None:
    tables = FakeTables(
        {"add": handler(int, int, "Add."), "a b": handler(), "any": handler(Any)},
        {
            "move": handler(int | None),
            "wake": handler(),
            "zoom": FakeHandler(DataType.of(int), default=1),
        },
        channels(channel("room/{id}", Color, "A room."), channel("news")),
    )
    text = declarations(Api.of(tables))
    assert (
        """export interface Procedures {
  "a b": { data: undefined; returns: void };
  /** Add. */
  add: { data: number; returns: number };
  any: { data: unknown; returns: void };
}
"""
        in text
    )
    assert (
        """export interface Events {
  move: number | null | undefined;
  wake: undefined;
  zoom: number | undefined;
}
"""
        in text
    )
    assert (
        """export interface Channels {
  news: { message: unknown; publish: never };
  /** A room. */
  "room/{id}": { message: Color; publish: Color };
}
"""
        in text
    )
    assert 'export type ChannelName = "news" | `room/${string}`;\n' in text
    assert "export type PublishName = `room/${string}`;\n" in text


def test_the_most_specific_pattern_is_asked_first() -> None:
    patterns = ["{any:path}", "a/{b}", "a/b", "a/**", "x-{id}/$`{y}", "b/c-{d:path}"]
    text = declarations(Api.of(FakeTables(channels=channels(*(channel(p, int) for p in patterns)))))
    found = [line.strip(" :?") for line in text.splitlines() if "Path<Name> extends" in line]
    assert [line.partition("extends ")[2] for line in found] == [
        '["a", "b"]',
        '["a", string]',
        '["b", `c-${string}`, ...string[]]',
        '["a", string, ...string[]]',
        "[`x-${string}`, `$\\`${string}`]",
        "[string, ...string[]]",
    ]
