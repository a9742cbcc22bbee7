"""The listing of channels: pages of one server and of several."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster import AGServer, ChannelsPage, testing
from socketcluster.errors import InvalidArgumentsError
from socketcluster.pubsub import listing
from support import connected

KEY = "k" * 32


class Socket:
    """A subscriber."""

    def publish(self, run: Any, at_end_of_turn: bool) -> None:
        raise AssertionError

    def failed(self, error: Exception) -> None:
        raise AssertionError


def fill(server: AGServer, *channels: str) -> None:
    for channel in channels:
        server.exchange.subscribe_socket(Socket(), channel)


async def pages(server: AGServer, pattern: str = "**", limit: int = 100) -> list[list[str]]:
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await server.exchange.channels(pattern, limit, cursor)
        assert page.complete
        found.append(page.channels)
        if page.cursor is None:
            return found
        assert page.cursor == page.channels[-1]
        cursor = page.cursor


async def test_the_channels_of_one_server() -> None:
    async with testing.clock(auto=True), AGServer(drain_timeout=100) as server:
        await server.start()
        assert await server.exchange.channels() == ChannelsPage([], None, True)
        fill(server, "room/2", "news", "room/1", "room/1/x")
        server.exchange.subscribe("own")  # Of the server itself: no client is there.
        assert await pages(server) == [["news", "room/1", "room/1/x", "room/2"]]
        assert await pages(server, "room/*") == [["room/1", "room/2"]]
        assert await pages(server, limit=2) == [["news", "room/1"], ["room/1/x", "room/2"]]
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "mine"})
            assert await pages(server, "m*") == [["mine"]]
        assert await pages(server, "m*") == [[]]


@pytest.mark.parametrize(
    "arguments",
    [("",), ("{",), ("**", 0), ("**", 1001), ("**", True), ("**", 1, 5), (5,)],
    ids=str,
)
async def test_wrong_arguments(arguments: tuple[Any, ...]) -> None:
    async with testing.clock(auto=True), AGServer(drain_timeout=100) as server:
        with pytest.raises(InvalidArgumentsError):
            await server.exchange.channels(*arguments)


async def test_the_channels_of_all_servers() -> None:
    async with testing.clock(auto=True):
        backend = testing.MemoryBackend()

        def make() -> AGServer:
            return AGServer(auth_key=KEY, broker_engine=backend.broker(), drain_timeout=100)

        async with make() as one, make() as two, make() as three:
            for server in (one, two, three):
                await server.start()
            await asyncio.sleep(6)
            assert len(one.nodes) == 2
            many = [f"room/{number:04}" for number in range(3000)]
            fill(one, *many[::3])
            fill(two, *many[1::3], "long/" + "x" * 200)
            fill(three, *many[2::3], many[0])
            for server in (one, two, three):
                found = await pages(server, "room/*", 1000)
                assert [len(page) for page in found] == [1000] * 3
                assert [name for page in found for name in page] == many
            # Names that do not fit into one answer come on later pages.
            fill(two, *("y" * 200 + str(number) for number in range(1000, 2000)))
            found = await pages(one, "y*", 1000)
            assert len(found) > 3
            assert len([name for page in found for name in page]) == 1000

            two.node_messages._handlers.clear()  # type: ignore[union-attr]
            page = await one.exchange.channels("room/*", 3)
            assert (page.channels, page.complete) == (
                ["room/0000", "room/0002", "room/0003"],
                False,
            )
            backend.lose()
            assert not (await one.exchange.channels("room/*", 3)).complete
            backend.recover()


def test_parts_of_one_page() -> None:
    parts = [listing.Part(["a", "d"], True), listing.Part(["b", "e"], False)]
    assert listing._merged(parts, 10, True) == ChannelsPage(["a", "b", "d"], "d", True)
    assert listing._merged(parts, 2, True) == ChannelsPage(["a", "b"], "b", True)
    parts = [listing.Part(["a"], False), listing.Part([], False)]
    assert listing._merged(parts, 1, False) == ChannelsPage(["a"], None, False)
