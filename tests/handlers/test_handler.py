"""Handler objects, as descriptions read them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from socketcluster import Router


class Said(Struct):
    text: str


class Message(Struct):
    text: str
    name: str


class Channel:
    def plain(self, data: Said) -> None: ...
    def bare(self, data: Said): ...  # type: ignore[no-untyped-def]
    def decides(self, data: Said) -> bool:
        return bool(data)

    def replaces(self, data: Said) -> Message:
        return Message(data.text, "Ada")

    def may_replace(self, data: Said) -> Said | None:
        return data

    def may_replace_or_refuse(self, data: Said) -> Said | bool:
        return data

    def may_give_another(self, data: Said) -> Message | None:
        return self.replaces(data)

    def counts(self, data: bool) -> bool:
        return not data

    def names(self) -> str:
        return "Ada"

    def anything(self, data: Said) -> Any:
        return data


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("plain", Said),
        ("bare", Said),
        ("decides", Said),
        ("replaces", Message),
        ("may_replace", Said),
        ("may_replace_or_refuse", Said),
        ("may_give_another", None),
        ("counts", bool),
        ("names", str),
        ("anything", Said),
    ],
)
def test_the_messages_of_a_channel_are_what_publish_returns(method: str, expected: Any) -> None:
    router = Router()
    router.channel("room")(type("Room", (), {"publish": Channel.__dict__[method]}))
    message = router.handlers.channels["room"].message
    assert (message and message.annotation) == expected


def test_without_a_function_the_messages_are_the_publishes() -> None:
    router = Router()
    router.channel("a", publish=Said)(type("A", (), {}))
    router.channel("b", publish=False)(lambda: None)
    assert [
        found.message and found.message.annotation for found in router.handlers.channels.values()
    ] == [Said, None]
