"""The command `history`, run as a program against real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.commands import Commands
from conftest import MakeServer
from recovering import history, publish, server_with
from socketcluster import AGAction, AGServer, ChannelRule, History
from socketcluster.cli.exit_status import CommandError
from socketcluster.cli.history import position_of
from socketcluster.errors import AuthError
from transports import url


@pytest.fixture
async def commands() -> AsyncIterator[Commands]:
    """A runner of commands."""
    made = Commands()
    yield made
    await made.stop()


async def start(make_server: MakeServer, commands: Commands, server: AGServer) -> AGServer:
    await make_server(server)
    commands.env["SOCKETCLUSTER_URL"] = url(server)
    return server


async def test_publishes_are_printed(make_server: MakeServer, commands: Commands) -> None:
    server = server_with(history(before_subscribing=True))
    await start(make_server, commands, server)
    await publish(server, "a", {"b": None}, 3, "é")
    result = await commands("history", "c/1")
    assert (result.status, result.err) == (0, "")
    assert result.out == '"a"\n{"b":null}\n3\n"é"\n'

    page: dict[str, Any] = json.loads(
        (await commands("history", "c/1", "--json", "--limit", "3")).out
    )
    assert page["publications"] == [
        {"data": "a", "offset": 1},
        {"data": {"b": None}, "offset": 2},
        {"data": 3, "offset": 3},
    ]
    assert page["complete"] is True
    assert page["position"].endswith(":3")
    rest = await commands("history", "c/1", "--since", page["position"])
    assert (rest.status, rest.out, rest.err) == (0, '"é"\n', "")
    older = await commands("history", "c/1", "--since", page["position"], "--reverse", "--limit=2")
    assert older.out == '3\n{"b":null}\n'
    other = await commands("history", "c/1", "--since", "another:3")
    assert other.status == 0
    assert other.err == "socketcluster: Some publishes are no longer stored\n"


async def test_more_than_one_page(make_server: MakeServer, commands: Commands) -> None:
    rule = ChannelRule("c/*", history=History(size=3000, ttl=300, before_subscribing=True))
    server = AGServer(auth_key="k" * 32, drain_timeout=100, channels=[rule])
    await start(make_server, commands, server)
    for number in range(2500):
        server.exchange.transmit_publish("c/1", number)
    await publish(server, "end")
    result = await commands("history", "c/1", "--limit", "2300", "--codec", "json")
    assert result.out.splitlines() == [str(number) for number in range(2300)]
    page = json.loads((await commands("history", "c/1", "--limit", "9000", "--json")).out)
    assert [each["data"] for each in page["publications"]] == [*range(2500), "end"]
    assert page["complete"]


async def test_an_empty_one_says_why(make_server: MakeServer, commands: Commands) -> None:
    server = await start(make_server, commands, server_with())
    await publish(server, "a")
    result = await commands("history", "c/1")
    assert (result.status, result.out) == (0, "")
    assert "shows no publishes of 'c/1'" in result.err
    assert "before_subscribing=True" in result.err
    page = json.loads((await commands("history", "c/1", "--json")).out)
    assert page["publications"] == []


async def test_failures(make_server: MakeServer, commands: Commands) -> None:
    server = server_with()

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.SUBSCRIBE and action.channel == "c/no":
                action.block(AuthError("Not for you"))
            else:
                action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    await start(make_server, commands, server)
    for arguments, status, text in (
        (["c/no"], 1, "Cannot read the history of 'c/no': Not for you"),
        (["news"], 1, "The news channel keeps no history"),
        (
            ["c/1", "--since", "k3fG"],
            2,
            "must be EPOCH:OFFSET, such as k3fG:17, not 'k3fG'",
        ),
        (["c/1", "--limit", "0"], 2, "'--limit'"),
    ):
        result = await commands("history", *arguments)
        assert (result.status, result.out) == (status, ""), arguments
        assert text in result.err
        assert len(result.err.splitlines()) == 1


def test_positions_are_read_as_they_are_printed() -> None:
    assert position_of(None) is None
    assert position_of("a:b:17") == ("a:b", 17)
    for text in ("", "17", ":1", "e:", "e:-1", "e:1.5", "e:²"):
        with pytest.raises(CommandError, match="EPOCH:OFFSET"):
            position_of(text)


async def test_a_server_without_histories(make_server: MakeServer, commands: Commands) -> None:
    await start(make_server, commands, AGServer(drain_timeout=100))
    result = await commands("history", "c/1")
    assert (result.status, result.out) == (1, "")
    assert "its option channels has no rule with history" in result.err
