"""`client.history`: reads back the publishes of a channel that the client is subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from client.fakes import Peer, fake_server
from recovering import history, publish, server_with
from socketcluster import (
    AGAction,
    AGClientSocket,
    AGServer,
    HistoryPage,
    HistoryPublication,
    testing,
)
from socketcluster.brokers.storing import Position
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import (
    InvalidActionError,
    InvalidArgumentsError,
    InvalidMessageError,
    SocketClusterError,
    TimeoutError,
    UsageError,
)
from support import soon, until


@pytest.fixture(params=["picows json", "picows min-bin", "memory json", "memory min-bin"])
async def pair(
    request: Any, make_server: Any, make_client: Any
) -> AsyncIterator[tuple[AGServer, AGClientSocket]]:
    """A server whose channels "c/…" have history, and a client."""
    transport, codec = request.param.split()
    codec_engine = MinBinCodec() if codec == "min-bin" else None
    server = server_with(history(before_subscribing=True), codec_engine=codec_engine)
    if transport == "picows":
        await make_server(server)
        yield server, make_client(server, codec_engine=codec_engine)
    else:
        async with testing.connect(server) as client:
            yield server, client
        await server.close()


def values(page: HistoryPage) -> list[Any]:
    return [each.data for each in page.publications]


async def test_it_reads_pages_in_both_directions(pair: tuple[AGServer, AGClientSocket]) -> None:
    server, client = pair
    client.subscribe("c/1")
    await publish(server, "a", {"b": [1.5, None]}, "c")
    page = await client.history("c/1")
    assert page == await server.exchange.history("c/1")
    assert page.publications == [
        HistoryPublication("a", 1),
        HistoryPublication({"b": [1.5, None]}, 2),
        HistoryPublication("c", 3),
    ]
    assert (page.complete, page.position.offset) == (True, 3)
    first = await client.history("c/1", limit=2)
    assert values(first) == ["a", {"b": [1.5, None]}]
    assert values(await client.history("c/1", since=first.position)) == ["c"]
    newest = await client.history("c/1", limit=1, reverse=True)
    assert values(newest) == ["c"]
    older = await client.history("c/1", newest.position, reverse=True)
    assert values(older) == [{"b": [1.5, None]}, "a"]
    assert not (await client.history("c/1", since=Position("another", 1))).complete


async def test_it_waits_for_the_subscription(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())
    going = asyncio.Event()

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.SUBSCRIBE:
                await going.wait()
            action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    client = make_client(server)
    client.subscribe("c/1")
    reads = [asyncio.ensure_future(client.history("c/1")) for _ in range(2)]
    await until(lambda: client.state == "open")
    reads[0].cancel()
    going.set()
    assert (await soon(reads[1])).publications == []
    assert reads[0].cancelled()
    await publish(server, "a")
    assert values(await client.history("c/1")) == ["a"]


async def test_what_it_waits_for_may_fail(make_server: Any, make_client: Any) -> None:
    server = await make_server(server_with())

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.channel == "c/no":
                action.block(InvalidActionError("Not for you"))
            elif action.channel != "c/never":
                action.allow()

    server.set_middleware(server.MIDDLEWARE_INBOUND, middleware)
    client = make_client(server, ack_timeout=100)
    refusals = client.listener("subscribeFail").create_consumer()
    client.subscribe("c/no")
    with pytest.raises(InvalidActionError, match="Not for you"):
        await client.history("c/no")
    assert (await soon(refusals.next())).value.channel == "c/no"
    client.subscribe("c/never")
    with pytest.raises(TimeoutError, match="subscription to 'c/never' was not answered"):
        await client.history("c/never")
    reading = asyncio.ensure_future(client.history("c/never"))
    await asyncio.sleep(0)
    client.unsubscribe("c/never")
    with pytest.raises(InvalidActionError, match="left the channel 'c/never'"):
        await soon(reading)


async def test_a_channel_that_is_not_subscribed_to(make_client: Any) -> None:
    client = make_client(1, auto_connect=False)
    with pytest.raises(UsageError, match=r"not subscribed to 'c/1'.*subscribe\('c/1'\) first"):
        await client.history("c/1")


async def test_a_server_without_histories_says_so(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    client.subscribe("c/1")
    with pytest.raises(UsageError, match="keeps no histories: its option channels has no rule"):
        await client.history("c/1")


async def test_a_channel_without_history_is_named(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server(server_with()))
    client.subscribe("d/1")
    with pytest.raises(SocketClusterError, match="The d/1 channel keeps no history"):
        await client.history("d/1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 0}, "whole number from 1 to 1000, not 0"),
        ({"limit": 1001}, "whole number from 1 to 1000, not 1001"),
        ({"limit": True}, "whole number from 1 to 1000, not True"),
        ({"limit": 1.5}, "whole number from 1 to 1000, not 1.5"),
        ({"reverse": 1}, "True or False, not 1"),
        ({"since": ("e", 1)}, r"a Position, .*not \('e', 1\)"),
        ({"since": Position(1, 1)}, "epoch .*text"),  # type: ignore[arg-type]
        ({"since": Position("e", -1)}, "offset"),
        ({"since": Position("e", 1 << 70)}, "offset"),
        ({"since": Position("e", "1")}, "offset"),  # type: ignore[arg-type]
        ({"channel": ""}, "channel's name"),
        ({"channel": None}, "channel's name"),
    ],
)
async def test_wrong_arguments(make_client: Any, fields: dict[str, Any], message: str) -> None:
    client = make_client(1, auto_connect=False)
    client.subscribe("c/1")
    with pytest.raises(InvalidArgumentsError, match=message):
        await client.history(**{"channel": "c/1", **fields})


@pytest.mark.parametrize(
    "change",
    [
        {"publications": None},
        {"publications": [None]},
        {"publications": [{"data": 1}]},
        {"publications": [{"data": 1, "offset": "1"}]},
        {"publications": [{"offset": 1}]},
        {"epoch": None},
        {"offset": 1.5},
        {"complete": 1},
    ],
)
async def test_an_odd_answer(make_client: Any, change: dict[str, Any]) -> None:
    good = {"publications": [{"data": 1, "offset": 4}], "epoch": "e", "offset": 4, "complete": True}
    asked: list[Any] = []

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send({"rid": (await peer.call("#subscribe"))["cid"]})
        for answer in (good, {**good, **change}, "odd"):
            packet = await peer.call("$history")
            asked.append(packet["data"])
            await peer.send({"rid": packet["cid"], "data": answer})

    async with fake_server(handle) as port:
        client = make_client(port, channel_prefix="p/")
        client.subscribe("c")
        since = Position("e", 3)
        page = await client.history("c", since=since, limit=5, reverse=True)
        assert page == HistoryPage([HistoryPublication(1, 4)], Position("e", 4), True)
        for _ in range(2):
            with pytest.raises(InvalidMessageError, match=r"answer to \$history is no page"):
                await client.history("c")
    assert asked[0] == {
        "channel": "p/c",
        "since": {"epoch": "e", "offset": 3},
        "limit": 5,
        "reverse": True,
    }
    assert asked[1] == {"channel": "p/c", "limit": 100, "reverse": False}
