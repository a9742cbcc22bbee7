"""Api: a server's procedures, events and channels with their schemas, the source of all documents.

Everything is sorted by name, so that the documents do not depend on the order of imports.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from socketcluster.describe.schemas import Schema, Schemas
from socketcluster.describe.tables import ChannelHandler, DataType, HandlerTables, Receiver
from socketcluster.patterns import Pattern
from socketcluster.presence.rule import PREFIX

PARAMETER = re.compile(r"\{(?P<name>\w+)(?P<path>:path)?\}|\*\*?")
"""A part of a channel pattern that stands for any text."""


def is_rest(parameter: re.Match[str]) -> bool:
    """Whether a match of PARAMETER stands for the rest of a name, slashes included."""
    return parameter[0] == "**" or parameter["path"] is not None


_USERS: Schema = {"type": "object", "additionalProperties": {"type": "array", "items": {}}}
_MEMBERS: Schema = {
    "type": "object",
    "properties": {
        "state": _USERS,
        "join": _USERS,
        "leave": {"type": "array", "items": {"type": "string"}},
        "count": {"type": "integer"},
    },
    "required": ["count"],
}
"""A publish about the members of a channel; see docs/presence.md."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure. Clients may leave its data out if it `is_optional`; None is no data."""

    name: str
    doc: str
    data: Schema | None
    is_optional: bool
    returns: Schema | None


@dataclass(frozen=True, slots=True)
class Event:
    """An event that clients transmit. Clients may leave its data out if it `is_optional`."""

    name: str
    doc: str
    data: Schema | None
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel, or all of one pattern.

    Attributes:
        specificity: compares with those of other patterns; the greater is the more specific.
        message: the schema of its messages, None if it is not known.
        publish: the schema of the publishes of clients, None if it is not known.
        can_publish: whether clients may publish.
    """

    pattern: str
    specificity: Any
    doc: str
    message: Schema | None
    publish: Schema | None
    can_publish: bool


@dataclass(frozen=True, slots=True)
class Api:
    """The description of a server's handlers."""

    procedures: list[Procedure] = field(default_factory=list[Procedure])
    events: list[Event] = field(default_factory=list[Event])
    channels: list[Channel] = field(default_factory=list[Channel])
    schemas: dict[str, Schema] = field(default_factory=dict[str, Schema])

    @classmethod
    def of(cls, tables: HandlerTables, *, can_publish: bool = True) -> Self:
        """Describe handlers; `can_publish` is whether the server takes publishes of clients."""
        procedures = sorted(tables.procedures.items())
        receivers = sorted(tables.receivers.items())
        channels = sorted(tables.channels.items())
        data = [handler.data for _, handler in (*procedures, *receivers)]
        schemas = Schemas(
            _types([*data, *(channel.data for _, channel in channels)]),
            _types(
                [
                    *(handler.returns for _, handler in procedures),
                    *(channel.message for _, channel in channels),
                ]
            ),
        )
        received, sent = iter(schemas.received), iter(schemas.sent)

        def data_of(handler: Receiver) -> tuple[Schema | None, bool]:
            schema = _next(received, handler.data)
            has_default = handler.default is not inspect.Parameter.empty
            return schema, has_default or _accepts_null(schema, schemas.components)

        return cls(
            [
                Procedure(
                    name,
                    inspect.cleandoc(handler.doc),
                    *data_of(handler),
                    _next(sent, handler.returns),
                )
                for name, handler in procedures
            ],
            [
                Event(name, inspect.cleandoc(handler.doc), *data_of(handler))
                for name, handler in receivers
            ],
            [
                Channel(
                    pattern,
                    channel.pattern.specificity,
                    _channel_doc(channel),
                    _next(sent, channel.message),
                    _next(received, channel.data),
                    can_publish and channel.publishable,
                )
                for pattern, channel in channels
            ]
            + [_members(pattern) for pattern, channel in channels if channel.presence is not None],
            schemas.components,
        )


def _channel_doc(channel: ChannelHandler) -> str:
    doc, history = inspect.cleandoc(channel.doc), channel.history
    if history is None:
        return doc
    kept = f"The last {history.size:,} publishes are kept, for {history.ttl:g} seconds."
    return f"{doc}\n\n{kept}".lstrip()


def _members(pattern: str) -> Channel:
    """The channel that shows who is subscribed to the channels of a pattern."""
    shown = Pattern(PREFIX + pattern)
    doc = f"The members of `{pattern}`: first all, then the changes."
    return Channel(shown.text, shown.specificity, doc, _MEMBERS, None, False)


def _accepts_null(schema: Schema | None, schemas: dict[str, Schema]) -> bool:
    """Whether null is valid, which data that a client leaves out becomes."""
    if schema is None:
        return False
    if "$ref" in schema:
        return _accepts_null(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "enum" in schema:
        return None in schema["enum"]
    if "const" in schema:
        return schema["const"] is None
    if "allOf" in schema:
        return all(_accepts_null(part, schemas) for part in schema["allOf"])
    parts = schema.get("anyOf", schema.get("oneOf"))
    if parts is not None:
        return any(_accepts_null(part, schemas) for part in parts)
    kinds = schema.get("type", "null")  # Without a type, anything is valid.
    return "null" in ([kinds] if isinstance(kinds, str) else kinds)


def _types(types: list[DataType | None]) -> list[DataType]:
    return [found for found in types if found is not None]


def _next(schemas: Iterator[Schema], data: DataType | None) -> Schema | None:
    return None if data is None else next(schemas)
