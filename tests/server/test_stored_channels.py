"""Channels with history of a server: their rules, the exchange's own use of them, and a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster import AGServer, ChannelRule, History, HistoryPage, Metrics, Position, Router
from socketcluster.brokers.base import BrokerListener
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError, UsageError
from socketcluster.presence.options import Presence
from support import connected, soon, until

RULES = [ChannelRule("chat/*", history=History(size=5, ttl=300))]


def data_of(page: HistoryPage) -> list[Any]:
    return [(publication.data, publication.offset) for publication in page.publications]


@pytest.fixture
async def server(make_server: Any) -> AGServer:
    server: AGServer = await make_server(channels=RULES)
    return server


async def test_the_exchange_reads_a_history(server: AGServer) -> None:
    exchange = server.exchange
    for number in range(7):
        await exchange.invoke_publish("chat/1", {"n": number})
    page = await exchange.history("chat/1")
    assert data_of(page) == [({"n": number}, number + 1) for number in range(2, 7)]
    epoch = page.position.epoch
    assert page.position == Position(epoch, 7)
    assert page.complete
    first = await exchange.history("chat/1", since=Position(epoch, 2), limit=2)
    assert [each.offset for each in first.publications] == [3, 4]
    assert first.position == Position(epoch, 4)
    rest = await exchange.history("chat/1", since=first.position, limit=10)
    assert [each.offset for each in rest.publications] == [5, 6, 7]
    assert rest.position == Position(epoch, 7)
    end = await exchange.history("chat/1", since=rest.position)
    assert (end.publications, end.position, end.complete) == ([], rest.position, True)
    assert not (await exchange.history("chat/1", since=Position(epoch, 1))).complete
    assert not (await exchange.history("chat/1", since=Position("other", 3))).complete
    assert (await exchange.history("chat/1", limit=0)).position == page.position


async def test_the_exchange_reads_a_history_backwards(server: AGServer) -> None:
    exchange = server.exchange
    for number in range(1, 5):
        await exchange.invoke_publish("chat/1", number)
    found: list[Any] = []
    position = None
    while True:
        page = await exchange.history("chat/1", since=position, limit=3, reverse=True)
        if not page.publications:
            break
        found.append(data_of(page))
        position = page.position
    assert found == [[(4, 4), (3, 3), (2, 2)], [(1, 1)]]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"limit": -1}, "0 to 10,000"),
        ({"limit": 10_001}, "0 to 10,000"),
        ({"limit": 10**9}, "0 to 10,000"),
        ({"limit": True}, "0 to 10,000"),
        ({"limit": None}, "0 to 10,000"),
        ({"since": 3}, "Position"),
        ({"since": ("e", 3)}, "Position"),
        ({"since": Position(1, 3)}, "Position"),  # type: ignore[arg-type]
        ({"since": Position("e", -1)}, "Position"),
        ({"since": Position("e", 1 << 63)}, "Position"),
        ({"reverse": 1}, "reverse"),
        ({"channel": ""}, "name"),
    ],
)
async def test_a_wrong_argument_of_history(
    server: AGServer, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgumentsError, match=text):
        await server.exchange.history(**{"channel": "chat/1", **fields})


async def test_a_channel_without_history(server: AGServer) -> None:
    with pytest.raises(UsageError, match=r"'news' has no history.*ChannelRule"):
        await server.exchange.history("news")
    with pytest.raises(UsageError, match="'news' has no history"):
        await server.exchange.invoke_publish("news", 1, id="a")
    with pytest.raises(UsageError, match="'news' has no history"):
        server.exchange.transmit_publish("news", 1, id="a")


@pytest.mark.parametrize("id", ["", "x" * 65, 1, b"a"])
async def test_a_wrong_id(server: AGServer, id: Any) -> None:
    with pytest.raises(InvalidArgumentsError, match="1 to 64 characters"):
        await server.exchange.invoke_publish("chat/1", 1, id)


async def test_loops_of_the_exchange_receive_stored_publishes_as_others(server: AGServer) -> None:
    exchange = server.exchange
    values = exchange.subscribe("chat/1").create_consumer()
    await exchange.invoke_publish("chat/1", {"n": 1}, id="first")
    await exchange.invoke_publish("chat/1", {"n": 1}, id="first")
    exchange.transmit_publish("chat/1", {"n": 2})
    assert [await soon(values.__anext__()) for _ in range(2)] == [{"n": 1}, {"n": 2}]
    exchange.unsubscribe("chat/1")
    await until(lambda: exchange.channels_count == 0)
    assert values.get_backpressure() == 0


def test_an_exchange_is_subscribed_before_its_loop_runs() -> None:
    server = AGServer(channels=RULES, health_probes=False)
    values = server.exchange.subscribe("chat/1").create_consumer()

    async def run() -> Any:
        await server.exchange.start()
        await server.exchange.invoke_publish("chat/1", 5)
        found = await soon(values.__anext__())
        await server.exchange.close()
        return found

    assert asyncio.run(run()) == 5


async def test_a_declared_channel_has_history(make_server: Any) -> None:
    router = Router()

    @router.channel("{room}/log", history=History(size=10, ttl=60))
    def allow(room: str) -> bool:
        return True

    server = AGServer()
    server.include(router, prefix="rooms/")

    @server.channel("lobby", presence=Presence())
    def enter() -> bool:
        return True

    @server.channel("plain")
    def plain() -> bool:
        return True

    assert [rule.pattern.text for rule in server.exchange.rules] == ["lobby", "rooms/{room}/log"]
    await make_server(server)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "rooms/a/log"})
        await server.exchange.invoke_publish("rooms/a/log", 1)
        packet = await client.event()
    assert packet["data"] == {"channel": "rooms/a/log", "data": 1, "offset": 1}


def test_a_declared_channel_conflicts_with_a_rule() -> None:
    server = AGServer(channels=RULES)

    def allow() -> bool:
        return True

    with pytest.raises(UsageError, match=r"(?s)allow.*'chat/\*' and 'chat/\{room\}'"):
        server.channel("chat/{room}", history=History(size=1, ttl=1))(allow)
    assert not server.handlers.channels
    server.channel("chat/{room}")(allow)


async def test_a_rule_comes_too_late(server: AGServer) -> None:
    def allow() -> bool:
        return True

    with pytest.raises(UsageError, match="before the server starts"):
        server.channel("late", history=History(size=1, ttl=1))(allow)
    assert not server.handlers.channels
    server.channel("late")(allow)


class PlainBroker:
    """A broker of an application, which stores nothing."""

    ready = True

    def attach(self, listener: BrokerListener) -> None:
        pass

    async def start(self) -> None:
        raise AssertionError

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        pass

    def subscribe(self, channel: str) -> None:
        pass

    def unsubscribe(self, channel: str) -> None:
        pass

    def publish(self, channel: str, payload: bytes) -> None:
        pass


async def test_a_broker_that_stores_nothing_refuses_history() -> None:
    server = AGServer(channels=RULES, broker_engine=PlainBroker())
    with pytest.raises(InvalidOptionsError, match=r"'chat/\*'.*PlainBroker") as caught:
        await server.exchange.start()
    assert caught.value.option == "channels"


async def test_histories_are_counted(make_server: Any) -> None:
    server = await make_server(channels=RULES, metrics=Metrics(token="m" * 32))
    await server.exchange.invoke_publish("chat/1", 1)
    await server.exchange.invoke_publish("news", 1)
    await server.exchange.history("chat/1")
    found = server.metrics.collector.collect()
    samples = {sample.name: sample.value for family in found for sample in family.samples}
    assert samples["socketcluster_stored_publishes_total"] == 1
    assert samples["socketcluster_history_reads_total"] == 1
    assert samples["socketcluster_history_gaps_filled_total"] == 0
    assert samples["socketcluster_history_gaps_unfilled_total"] == 0
