"""The demo's handlers, without its page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from socketcluster.demo import create_demo_server
from support import AnswerError, connected

ROOM = {"channel": "room/a"}


async def test_the_server_names_those_who_talk(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as client:
        await client.call("#subscribe", ROOM)
        await client.call("#publish", {**ROOM, "data": {"type": "line", "text": "Hi"}})
        line = {"type": "message", "name": "guest", "text": "Hi"}
        assert (await client.event())["data"] == {**ROOM, "data": line}
        await client.call("login", {"name": " Ada "})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#publish", {**ROOM, "data": {"type": "typing"}})
        typing = {"type": "typist", "name": "Ada"}
        assert (await client.event())["data"] == {**ROOM, "data": typing}
        await client.call("logout")
        assert (await client.event())["event"] == "#removeAuthToken"


async def test_the_procedures_answer(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as client:
        assert await client.call("add", [1, 2.5, -3]) == 0.5
        counts = await client.call("backpressure")
        assert (counts["clients"], set(counts.values())) == (1, {0, 1})


@pytest.mark.parametrize(
    ("event", "data", "message"),
    [
        ("add", [1, 1e16], "Expected `float` <= 1"),
        ("add", "12", "Expected `array`, got `str`"),
        ("login", {"name": "  "}, "matching regex"),
        ("login", {"name": "A" * 41}, "of length <= 40 - at `$.name`"),
        ("#subscribe", {"channel": "news"}, "cannot subscribe to the news channel"),
        ("#publish", {**ROOM, "data": {"type": "line", "text": "A" * 501}}, "length <= 500"),
        ("#publish", {**ROOM, "data": {"type": "message", "text": "A"}}, "Invalid value 'message'"),
    ],
)
async def test_other_data_and_channels_are_refused(
    make_server: Any, event: str, data: Any, message: str
) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as client:
        with pytest.raises(AnswerError, match=re.escape(message)):
            await client.call(event, data)
