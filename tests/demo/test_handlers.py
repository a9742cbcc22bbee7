"""The demo's handlers, without its page."""

from __future__ import annotations

import re
from typing import Any

import pytest

import recovering
from socketcluster.demo import create_demo_server
from support import AnswerError, connected

ROOM = {"channel": "room/a"}
TYPING = {"channel": "typing/a"}


async def test_the_server_names_those_who_talk(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as client:
        await client.call("#subscribe", ROOM)
        await client.call("#publish", {**ROOM, "data": "Hi"})
        line = (await client.event())["data"]["data"]
        assert (line["name"], line["text"]) == ("guest", "Hi")
        await client.call("login", {"name": " Ada "})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", TYPING)
        await client.call("#publish", {**TYPING, "data": None})
        assert (await client.event())["data"] == {**TYPING, "data": {"name": "Ada"}}
        await client.call("logout")
        assert (await client.event())["event"] == "#removeAuthToken"


async def test_a_client_whose_cable_is_pulled_receives_what_it_missed(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    place: Any = None
    for missed in ([], ["Hi", "Bye"]):
        async with connected(server) as client:
            told = await recovering.subscribe(client, place, "room/a")
            found = [line["text"] for line, _ in recovering.publishes(client)]
            assert (told["recovered"], found) == (bool(missed), missed)
            place = recovering.place(told)
            await client.transmit("cut")
            assert (await client.closed())[0] == 1006
        for text in ("Hi", "Bye"):
            await server.exchange.invoke_publish("room/a", {"name": "Ada", "text": text})


async def test_the_members_of_a_room_come_and_go(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as viewer:
        await viewer.call("#subscribe", {"channel": "$presence/room/a"})
        assert (await viewer.event())["data"]["data"] == {"state": {}, "count": 0}
        async with connected(server) as client:
            await client.call("login", {"name": "Ada"})
            await client.call("#subscribe", ROOM)
            assert list((await viewer.event())["data"]["data"]["join"]) == ["Ada"]
        assert (await viewer.event())["data"]["data"]["leave"] == ["Ada"]


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
        ("#publish", {**ROOM, "data": "A" * 501}, "length <= 500"),
        ("#publish", {**TYPING, "data": "Ada"}, "Expected `null`, got `str`"),
    ],
)
async def test_other_data_and_channels_are_refused(
    make_server: Any, event: str, data: Any, message: str
) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with connected(server) as client:
        with pytest.raises(AnswerError, match=re.escape(message)):
            await client.call(event, data)
