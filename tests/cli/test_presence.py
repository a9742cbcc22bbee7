"""The commands `presence` and `channels`, run as programs against real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from cli.commands import Commands, Result, ended, line_of
from conftest import MakeServer
from socketcluster import AGExchange, AGServer, AGServerSocket, ChannelRule, ChannelsPage, Presence
from socketcluster.errors import AuthError
from support import connected
from transports import url

KEY = "k" * 32


class Query(msgspec.Struct):
    """The data of '$channels'."""

    pattern: str = "**"
    limit: int = 100
    cursor: str | None = None


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    """A runner of commands."""
    made = Commands()
    yield made
    await made.stop()


async def start(make_server: MakeServer, commands: Commands, **options: Any) -> AGServer:
    server = AGServer(auth_key=KEY, drain_timeout=100, **options)
    await make_server(server)
    commands.env["SOCKETCLUSTER_URL"] = url(server)
    return server


def token(server: AGServer, **claims: Any) -> str:
    signed: Any = server.auth.sign_token(claims, server.signature_key, {})
    assert isinstance(signed, str)
    return signed


def allow_operators(server: AGServer) -> None:
    @server.procedure("$channels")
    async def channels(data: Query, socket: AGServerSocket, exchange: AGExchange) -> ChannelsPage:
        if (socket.auth_token or {}).get("role") != "operator":
            raise AuthError("Only operators may see the channels")
        return await exchange.channels(data.pattern, data.limit, data.cursor)


async def test_members_and_their_changes(make_server: MakeServer, commands: Commands) -> None:
    rule = ChannelRule("room/*", presence=Presence(leave_delay=0))
    server = await start(make_server, commands, channels=[rule])
    process = await commands.start("presence", "room/1", "--count", "3")
    assert json.loads(await line_of(process)) == {"state": {}, "count": 0}
    async with connected(server, token=token(server, sub="ann")) as client:
        await client.call("#subscribe", {"channel": "room/1"})
        assert json.loads(await line_of(process)) == {"join": {"ann": []}, "leave": [], "count": 1}
    result = await ended(process)
    assert result == Result(0, '{"join":{},"leave":["ann"],"count":0}\n', "")


async def test_several_channels(make_server: MakeServer, commands: Commands) -> None:
    rule = ChannelRule("room/*", presence=Presence())
    await start(make_server, commands, channels=[rule])
    result = await commands("presence", "room/1", "room/2", "--count", "2")
    lines = sorted(result.out.splitlines())
    assert [json.loads(line) for line in lines] == [
        {"channel": f"$presence/room/{number}", "data": {"state": {}, "count": 0}}
        for number in (1, 2)
    ]


async def test_a_channel_without_presence(make_server: MakeServer, commands: Commands) -> None:
    rule = ChannelRule("room/*", presence=Presence())
    await start(make_server, commands, channels=[rule])
    result = await commands("presence", "news")
    assert result.status == 1
    assert "the channel 'news' has no rule with presence" in result.err


async def test_channels_of_a_server_that_allows_it(
    make_server: MakeServer, commands: Commands
) -> None:
    server = await start(make_server, commands)
    allow_operators(server)
    operator = token(server, role="operator")
    names = [f"room/{number:04}" for number in range(1100)]
    async with connected(server) as client:
        for name in names[:900]:
            await client.call("#subscribe", {"channel": name})
        async with connected(server) as other:
            for name in names[900:]:
                await other.call("#subscribe", {"channel": name})
            result = await commands("channels", "--token", operator)
            assert [json.loads(line) for line in result.out.splitlines()] == names
            result = await commands("channels", "room/000*", "--token", operator)
            assert [json.loads(line) for line in result.out.splitlines()] == names[:10]
            result = await commands("channels", "{", "--token", operator)
            assert result.status == 1
            assert "is no channel pattern" in result.err


async def test_channels_are_refused_to_others(make_server: MakeServer, commands: Commands) -> None:
    server = await start(make_server, commands)
    allow_operators(server)
    result = await commands("channels")
    assert result == Result(1, "", "socketcluster: Only operators may see the channels\n")


async def test_no_server_lists_channels_by_itself(
    make_server: MakeServer, commands: Commands
) -> None:
    """Not even if its middleware allows everything."""
    server = await start(make_server, commands)

    async def allow(stream: Any) -> None:
        async for action in stream:
            action.allow()

    server.set_middleware("inbound", allow)
    result = await commands("channels", "--timeout", "20")
    assert (result.status, result.out) == (1, "")
    assert "$channels" in result.err


async def test_a_page_of_another_form(make_server: MakeServer, commands: Commands) -> None:
    server = await start(make_server, commands)
    answers: list[Any] = [[], {"channels": ["a"], "complete": False}]

    @server.procedure("$channels")
    def channels() -> Any:
        return answers.pop(0)

    result = await commands("channels")
    assert "must answer with a ChannelsPage" in result.err
    result = await commands("channels")
    assert (result.status, result.out) == (1, '"a"\n')
    assert "A server did not answer" in result.err
