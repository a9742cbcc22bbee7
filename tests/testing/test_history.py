"""Histories and members in tests with the clock: missed publishes, their ttl, and who has left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from socketcluster import AGClientSocket, AGServer, ChannelRule, History, Presence, testing
from socketcluster.testing import Clock

TTL = 60
LEAVE_DELAY = 5


class Room(NamedTuple):
    """A server and two clients: Ann is a member of "room/1", and the other one sees the members."""

    clock: Clock
    server: AGServer
    ann: AGClientSocket
    heard: Any
    lost: Any
    shown: Any


@asynccontextmanager
async def a_room() -> AsyncIterator[Room]:
    rule = ChannelRule(
        "room/*",
        history=History(size=10, ttl=TTL),
        presence=Presence(leave_delay=LEAVE_DELAY),
    )
    async with (
        testing.clock() as clock,
        AGServer(auth_key="k" * 32, channels=[rule]) as server,
        testing.connect(server) as ann,
        testing.connect(server) as viewer,
    ):
        assert ann.id is not None
        await server.clients[ann.id].set_auth_token({"sub": "ann"})
        shown = viewer.subscribe("$presence/room/1").create_consumer()
        room = ann.subscribe("room/1", recover=True)
        heard, lost = room.create_consumer(), room.listener("recoverFail").create_consumer()
        await room.listener("subscribe").once()
        seen: list[Any] = []
        while not any("ann" in str(change) for change in seen):
            await clock.advance(1)
            seen.append((await shown.next()).value)
        yield Room(clock, server, ann, heard, lost, shown)


async def members(server: AGServer) -> list[str]:
    found = (await server.exchange.presence("room/1")).members
    assert found is not None
    return list(found)


async def stored(server: AGServer) -> list[Any]:
    page = await server.exchange.history("room/1")
    return [publication.data for publication in page.publications]


async def test_a_client_whose_line_was_cut_receives_what_it_missed() -> None:
    async with a_room() as room:
        await room.server.exchange.invoke_publish("room/1", "before")
        assert (await room.heard.next()).value == "before"
        testing.cut(room.ann)
        for text in ("first", "second"):
            await room.server.exchange.invoke_publish("room/1", text)
        await room.clock.advance(21)  # It connects by itself.
        assert [(await room.heard.next()).value for _ in range(2)] == ["first", "second"]
        await room.server.exchange.invoke_publish("room/1", "after")
        assert (await room.heard.next()).value == "after"
        assert room.lost.get_backpressure() == 0


async def test_a_line_that_falls_silent_is_noticed_and_loses_nothing() -> None:
    async with a_room() as room:
        with testing.paused(room.ann):
            await room.server.exchange.invoke_publish("room/1", "in the dark")
            await room.clock.advance(25)
            assert room.heard.get_backpressure() == 0
        await room.clock.advance(30)
        assert (await room.heard.next()).value == "in the dark"
        await room.clock.advance(5)
        assert room.heard.get_backpressure() == 0


async def test_a_publish_expires_with_the_clock() -> None:
    async with a_room() as room:
        await room.server.exchange.invoke_publish("room/1", "old")
        await room.clock.advance(TTL / 2)
        await room.server.exchange.invoke_publish("room/1", "new")
        assert await stored(room.server) == ["old", "new"]
        await room.clock.advance(TTL / 2 + 1)
        assert await stored(room.server) == ["new"]
        await room.clock.advance(TTL / 2)
        assert await stored(room.server) == []


async def test_a_client_that_comes_back_too_late_reports_it() -> None:
    async with a_room() as room:
        await room.server.exchange.invoke_publish("room/1", "known")
        await room.heard.next()
        room.ann.disconnect()
        await room.server.exchange.invoke_publish("room/1", "missed")
        await room.clock.advance(TTL + 1)
        room.ann.connect()
        assert (await room.lost.next()).value.channel == "room/1"
        assert room.heard.get_backpressure() == 0


async def test_a_member_leaves_after_the_delay() -> None:
    async with a_room() as room:
        room.ann.disconnect()
        await room.clock.advance(LEAVE_DELAY - 1)
        assert room.shown.get_backpressure() == 0
        assert await members(room.server) == ["ann"]
        await room.clock.advance(2)
        assert (await room.shown.next()).value == {"join": {}, "leave": ["ann"], "count": 0}
        assert await members(room.server) == []


async def test_a_member_who_comes_back_in_time_has_not_left() -> None:
    async with a_room() as room:
        testing.cut(room.ann)
        await room.clock.advance(LEAVE_DELAY - 1)
        room.ann.connect()
        await room.clock.advance(LEAVE_DELAY * 2)
        assert room.shown.get_backpressure() == 0
        assert await members(room.server) == ["ann"]
