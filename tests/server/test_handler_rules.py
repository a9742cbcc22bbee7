"""Handlers of channels that also are rules: `history` and `presence` of the decorator."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer, ChannelRule, History, Presence, Router
from socketcluster.errors import UsageError
from support import AnswerError, connected

KEPT = History(size=10, ttl=60)


def ours(name: str) -> bool:
    return name != "secret"


async def test_a_handler_with_history_stores_what_it_publishes(make_server: Any) -> None:
    server = AGServer(channels_default="refuse")

    @server.channel("room/{name}", history=KEPT)
    class Room:
        def subscribe(self, name: str) -> bool:
            return ours(name)

        def publish(self, data: str) -> str:
            return data.upper()

    await make_server(server)
    async with connected(server) as client:
        subscribed = await client.call("#subscribe", {"channel": "room/a"})
        assert subscribed["offset"] == 0
        await client.call("#publish", {"channel": "room/a", "data": "hi"})
        assert (await client.event())["data"] == {"channel": "room/a", "data": "HI", "offset": 1}
    page = await server.exchange.history("room/a")
    assert [publication.data for publication in page.publications] == ["HI"]


async def test_a_router_s_prefix_is_that_of_its_rules(make_server: Any) -> None:
    router = Router()
    router.channel("room/{name}", history=KEPT)(ours)
    server = AGServer()
    server.include(router, prefix="a/")
    server.include(router, prefix="b/")
    await make_server(server)
    for channel in ("a/room/1", "b/room/1"):
        await server.exchange.invoke_publish(channel, channel)
        page = await server.exchange.history(channel)
        assert [publication.data for publication in page.publications] == [channel]
    with pytest.raises(UsageError, match="no history"):
        await server.exchange.history("room/1")


def test_a_channel_has_one_rule() -> None:
    server = AGServer(channels=[ChannelRule("room/*", history=KEPT)])
    with pytest.raises(UsageError, match=r"test_handler_rules\.py.*'room/\*' and 'room/"):
        server.channel("room/{name}", history=KEPT)(ours)
    assert not server.handlers.channels
    server.channel("room/{name}")(ours)  # It decides, and the rule keeps.
    assert list(server.handlers.channels) == ["room/{name}"]


async def test_a_rule_that_comes_after_the_start_is_refused(make_server: Any) -> None:
    server = await make_server()
    with pytest.raises(UsageError, match=r"test_handler_rules\.py.* comes too late"):
        server.channel("room/{name}", history=KEPT)(ours)
    server.channel("room/{name}")(ours)


@pytest.mark.parametrize("target", [AGServer, Router])
@pytest.mark.parametrize("option", ["history", "presence"])
def test_a_wrong_rule_is_an_error_at_the_decorator(target: Any, option: str) -> None:
    wrong: dict[str, Any] = {option: {"size": 1}}
    expected = rf"test_handler_rules\.py.* {option} must be {option.title()}\(…\) or None, not \{{"
    with pytest.raises(UsageError, match=expected):
        target().channel("room/{name}", **wrong)(ours)


async def test_a_handler_with_presence_shows_the_members(make_server: Any) -> None:
    server = AGServer(auth_key="k" * 32, channels_default="refuse")
    server.channel("room/{name}", presence=Presence(info=lambda socket: 5))(ours)
    await make_server(server)
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await socket.set_auth_token({"sub": "ann"})
        assert (await client.event())["event"] == "#setAuthToken"
        await client.call("#subscribe", {"channel": "room/a"})
        await client.call("#subscribe", {"channel": "$presence/room/a"})
        shown = (await client.event())["data"]
        assert shown == {
            "channel": "$presence/room/a",
            "data": {"state": {"ann": [5]}, "count": 1},
        }
        with pytest.raises(AnswerError, match="not allowed to subscribe"):
            await client.call("#subscribe", {"channel": "$presence/room/secret"})
