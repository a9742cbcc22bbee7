"""`$history`: a client reads back what was published since it subscribed, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from recovering import (
    StoppableBroker,
    history,
    place,
    publish,
    server_with,
    subscribe,
    token,
)
from socketcluster import AGServer
from support import AnswerError, Client, connected, soon, until

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)


async def read(client: Client, **fields: Any) -> dict[str, Any]:
    page: dict[str, Any] = await client.call("$history", {"channel": "c/1", **fields})
    return page


def values(page: dict[str, Any]) -> list[Any]:
    return [each["data"] for each in page["publications"]]


@EVERYWHERE
async def test_a_client_reads_what_came_since_it_subscribed(make_server: Any) -> None:
    server = await make_server(server_with())
    await publish(server, "before")
    async with connected(server) as client:
        first = await subscribe(client)
        await publish(server, "a", {"b": [1.5, None]}, "c")
        assert await read(client) == {
            "publications": [
                {"data": "a", "offset": 2},
                {"data": {"b": [1.5, None]}, "offset": 3},
                {"data": "c", "offset": 4},
            ],
            "epoch": first["epoch"],
            "offset": 4,
            "complete": True,
        }
        assert values(await read(client, since=place(first, 0))) == ["a", {"b": [1.5, None]}, "c"]
        assert values(await read(client, reverse=True)) == ["c", {"b": [1.5, None]}, "a"]


async def test_a_history_is_read_in_pieces(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, *range(10))
        for reverse in (False, True):
            found: list[Any] = []
            since: dict[str, Any] = {}
            for _ in range(4):
                page = await read(client, limit=4, reverse=reverse, **since)
                found += values(page)
                since = {"since": {"epoch": page["epoch"], "offset": page["offset"]}}
            assert found == (list(range(9, -1, -1)) if reverse else list(range(10)))


async def test_a_large_page_is_cut(make_server: Any) -> None:
    server = await make_server(server_with(max_outbound_buffer=100_000))
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, *("x" * 20_000 for _ in range(4)))
        page = await read(client)
        assert len(page["publications"]) == 2
        rest = await read(client, since={"epoch": page["epoch"], "offset": page["offset"]})
        assert len(rest["publications"]) == 2
        assert rest["offset"] == 4
    server = await make_server(server_with(max_outbound_buffer=100_000))
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, "x" * 90_000)
        assert values(await read(client)) == ["x" * 90_000], "one comes however large it is"


async def test_a_rule_may_show_what_is_from_before(make_server: Any) -> None:
    server = await make_server(server_with(history(before_subscribing=True)))
    await publish(server, "a", "b")
    async with connected(server) as client:
        await subscribe(client)
        assert values(await read(client)) == ["a", "b"]


async def test_what_is_no_longer_kept_is_told(make_server: Any) -> None:
    server = await make_server(server_with(history(size=2)))
    async with connected(server) as client:
        first = await subscribe(client)
        await publish(server, 1, 2, 3)
        page = await read(client)
        assert (values(page), page["complete"]) == ([2, 3], False)
        page = await read(client, since={"epoch": first["epoch"], "offset": 1})
        assert (values(page), page["complete"]) == ([2, 3], True)


async def test_a_position_of_another_history_is_told(make_server: Any) -> None:
    server = await make_server(server_with())
    await publish(server, "before")
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, "a")
        for reverse in (False, True):
            page = await read(client, since={"epoch": "other", "offset": 0}, reverse=reverse)
            assert page["complete"] is False
            assert "before" not in values(page)


async def test_a_position_from_the_future_reads_nothing(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
        await publish(server, "a")
        page = await read(client, since={"epoch": first["epoch"], "offset": 2**63 - 1})
        assert (values(page), page["complete"]) == ([], False)
        await publish(server, "b")
        page = await read(client, since={"epoch": page["epoch"], "offset": page["offset"]})
        assert values(page) == ["b"], "a further read goes on with what comes next"


async def test_a_recovery_keeps_the_start(make_server: Any) -> None:
    server = await make_server(server_with())
    await publish(server, "before")
    async with connected(server, token=token("alice")) as client:
        first = await subscribe(client)
    await publish(server, "a", "b")
    async with connected(server, token=token("alice")) as client:
        await subscribe(client, place(first))
        assert values(await read(client)) == ["a", "b"]
        # Without it the history begins anew.
        await client.call("#unsubscribe", "c/1")
        await subscribe(client)
        assert values(await read(client)) == []


async def test_a_lost_history_begins_anew(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        first = await subscribe(client)
        await publish(server, "lost")
        broker.lose()
        await publish(server, "kept")
        await until(lambda: client.events.qsize() == 2)
        page = await read(client)
        assert values(page) == ["kept"]
        assert page["epoch"] != first["epoch"]


# Bad input


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "name of a channel"),
        ("c/1", "name of a channel"),
        ({"channel": 5}, "name of a channel"),
        ({"channel": "c/2"}, "subscribe first"),
        ({"channel": "x" * 100_000}, "longer than 255 characters"),
        ({"channel": "plain"}, "keeps no history"),
        ({"channel": "c/1", "limit": 10**9}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": 10**30}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": 0}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": -1}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": 1.5}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": True}, "from 1 to 1000"),
        ({"channel": "c/1", "limit": "5"}, "from 1 to 1000"),
        ({"channel": "c/1", "reverse": 1}, "true or false"),
        ({"channel": "c/1", "since": 5}, "an epoch and an offset"),
        ({"channel": "c/1", "since": {"epoch": "e"}}, "an epoch and an offset"),
        ({"channel": "c/1", "since": {"epoch": "e", "offset": -1}}, "an epoch and an offset"),
        ({"channel": "c/1", "since": {"epoch": "e" * 10_000, "offset": 1}}, "an epoch and an"),
    ],
)
async def test_a_wrong_call_is_answered(make_server: Any, data: Any, text: str) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        await client.call("#subscribe", {"channel": "plain"})
        await publish(server, "a")
        with pytest.raises(AnswerError, match=text):
            await client.call("$history", data)
        assert values(await read(client)) == ["a"]


async def test_a_long_call_is_answered(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, "a")
        assert values(await read(client, more="x" * 10_000)) == ["a"]


async def test_a_call_without_a_number_has_no_answer(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        await subscribe(client)
        client.messages.clear()
        await client.transmit("$history", {"channel": "c/1"})
        assert values(await read(client)) == []
        assert len(client.messages) == 1


async def test_a_foreign_entry_is_left_out(make_server: Any) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        first = await subscribe(client)
        await client.call("#unsubscribe", "c/1")
        await publish(server, "a")
        broker.publish_stored("c/1", b"\xff no JSON", history().retention)
        await publish(server, "b")
        answer = await subscribe(client, place(first))
        assert answer["recovered"] is True
        assert answer["offset"] == 3
        assert [packet["data"]["data"] for packet in _publishes(client)] == ["a", "b"]
        page = await read(client)
        assert values(page) == ["a", "b"]
        assert page["offset"] == 3


def _publishes(client: Client) -> list[Any]:
    found = [client.events.get_nowait() for _ in range(client.events.qsize())]
    return [packet for packet in found if packet["event"] == "#publish"]


async def test_a_backend_that_is_away_is_told_without_its_name(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = StoppableBroker()
    server = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        await subscribe(client)
        broker.away = True
        with caplog.at_level(logging.WARNING), pytest.raises(AnswerError) as raised:
            await read(client)
        assert raised.value.wire["message"] == "The history of the c/1 channel cannot be read now"
        assert "secret.example" in caplog.text
        broker.away = False
        assert values(await read(client)) == []


async def test_a_socket_that_is_kicked_out_meanwhile_reads_nothing(make_server: Any) -> None:
    broker = StoppableBroker()
    server: AGServer = await make_server(server_with(broker_engine=broker))
    async with connected(server) as client:
        await subscribe(client)
        await publish(server, "secret")
        broker.gate.clear()
        before = broker.reads
        reading = asyncio.create_task(read(client))
        await until(lambda: broker.reads > before)
        (socket,) = server.clients.values()
        await socket.kick_out("c/1")
        broker.gate.set()
        with pytest.raises(AnswerError, match="subscribe first"):
            await soon(reading)


@pytest.mark.parametrize("user", [None, "bob"])
@pytest.mark.parametrize("reverse", [False, True])
async def test_a_socket_that_loses_its_user_meanwhile_reads_nothing(
    make_server: Any, user: str | None, reverse: bool
) -> None:
    broker = StoppableBroker()
    server: AGServer = await make_server(server_with(broker_engine=broker))
    async with connected(server, token=token("alice")) as client:
        await subscribe(client)
        await publish(server, "secret")
        broker.gate.clear()
        before = broker.reads
        reading = asyncio.create_task(read(client, reverse=reverse))
        await until(lambda: broker.reads > before)
        (socket,) = server.clients.values()
        if user is None:
            await socket.deauthenticate()
        else:
            await socket.set_auth_token({"sub": user})
        broker.gate.set()
        assert values(await soon(reading)) == []
        await publish(server, "after")
        assert values(await read(client)) == ["after"]
