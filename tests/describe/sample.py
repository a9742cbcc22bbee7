"""Handlers to describe: a chat with every kind of type."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar

import msgspec
from pydantic import BaseModel, Field, computed_field

from socketcluster import History, Presence
from socketcluster.handlers.data_type import DataType
from socketcluster.patterns import Pattern

T = TypeVar("T")


@dataclass
class FakeHandler:
    data: DataType[Any] | None = None
    returns: DataType[Any] | None = None
    doc: str = ""
    default: Any = inspect.Parameter.empty


@dataclass
class FakeChannel:
    pattern: Pattern
    data: DataType[Any] | None = None
    message: DataType[Any] | None = None
    publishable: bool = True
    doc: str = ""
    presence: object = None
    history: History | None = None


@dataclass
class FakeTables:
    procedures: Mapping[str, FakeHandler] = field(default_factory=dict)
    receivers: Mapping[str, FakeHandler] = field(default_factory=dict)
    channels: Mapping[str, FakeChannel] = field(default_factory=dict)


def handler(data: Any = ..., returns: Any = ..., doc: str = "") -> FakeHandler:
    """A handler; `...` stands for no data."""
    types = [
        None if annotation is ... else DataType.of(annotation) for annotation in (data, returns)
    ]
    return FakeHandler(types[0], types[1], doc)


def channels(*made: FakeChannel) -> dict[str, FakeChannel]:
    return {found.pattern.text: found for found in made}


def channel(
    pattern: str,
    publish: Any = ...,
    doc: str = "",
    message: Any = ...,
    presence: Presence | None = None,
    history: History | None = None,
) -> FakeChannel:
    """A channel to which clients publish a type; `...` stands for no publishes.

    Its messages are the publishes, or of the type `message`.
    """
    data = None if publish is ... else DataType.of(publish)
    messages = data if message is ... else DataType.of(message)
    return FakeChannel(Pattern(pattern), data, messages, publish is not ..., doc, presence, history)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Add(msgspec.Struct):
    """Two numbers.

    They may be */ negative.
    """

    a: int
    b: Annotated[int, msgspec.Meta(description="The second.", ge=0)] = 1


class Text(msgspec.Struct, tag="text"):
    text: Annotated[str, msgspec.Meta(max_length=500)]


class Picture(msgspec.Struct, tag="picture"):
    content: bytes
    size: tuple[int, int]
    color: Color | None = None


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


class Filter(TypedDict, total=False):
    since: int
    kind: Literal["text", "picture"]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    counts: dict[str, int]


class Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    name: str
    value: float = 0.0


class User(BaseModel):
    """A user of the chat."""

    first_name: str = Field(min_length=1)
    tags: list[str] = []

    @computed_field
    def title(self) -> str:
        return self.first_name.title()


TABLES = FakeTables(
    procedures={
        "add": handler(Add, int, "Add two numbers.\n\n    Both are integers.\n    "),
        "ping": handler(),
        "history": handler(Filter | None, Page[Text | Picture], "The last messages."),
        "admin/tree": handler(Tree, Tree),
        "admin/rows": handler(returns=list[Row]),
        "user": handler(User, User | None),
        "echo": handler(Any, Any),
        "upload": handler(bytes, dict[str, list[int | None]]),
    },
    receivers={
        "position": handler(tuple[float, float], doc="Where the pointer is."),
        "add": handler(int),
        "wake-up": handler(),
    },
    channels=channels(
        channel("room/{room}", Text | Picture, "A room.", presence=Presence()),
        channel("room/lobby", str),
        channel("news"),
        channel("files/{path:path}", Color),
        channel("user/*/typing", bool),
        channel("log/**", Row, history=History(size=1000, ttl=60)),
        channel("seats/{row}", int, message=Row),
    ),
)
