"""What brokers lose is told: in the log with the channel, by events, and to clients that ask."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from server.test_broker_failures import FailingBroker
from socketcluster import AGServer, AGServerSocket, BrokerGapEvent
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BrokerError
from support import AnswerError, Client, Running, connected, until

NOPERM = BrokerError("NOPERM no permissions")


def warnings_of(caplog: Any) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("later", [False, True])
async def test_a_refused_publish_is_logged_with_its_channel(
    make_server: Any, caplog: Any, later: bool
) -> None:
    broker = FailingBroker(NOPERM, later)
    server: AGServer = await make_server(broker_engine=broker)
    broker.failing.add("publish")
    if later:
        server.exchange.transmit_publish("of the server", 1)
    else:
        with pytest.raises(BrokerError):
            server.exchange.transmit_publish("of the server", 1)
    async with connected(server) as client:
        await client.transmit("#publish", {"channel": "of\na client", "data": 1})
        with pytest.raises(AnswerError):
            await client.call("#publish", {"channel": "called", "data": 1})
    server.reporter.flush()
    first = "of the server" if later else "of\\\\na client"
    text = "A publish failed (channel '{}'): BrokerError: NOPERM no permissions"
    more = f"… and {1 + later} more of this kind in the last second: "
    assert warnings_of(caplog) == [text.format(first), more + text.format(first)]


async def test_refusals_of_one_kind_do_not_hide_another(make_server: Any, caplog: Any) -> None:
    broker = FailingBroker(NOPERM, True)
    server: AGServer = await make_server(broker_engine=broker)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "mine"})
        broker.failing |= {"publish", "subscribe", "unsubscribe"}
        for number in range(20):
            with pytest.raises(AnswerError):
                await client.call("#publish", {"channel": f"p{number}", "data": 1})
        with pytest.raises(AnswerError):
            await client.call("#subscribe", {"channel": "s"})
        for _ in range(20):
            broker.listener.backend_message_received("mine", b"{")
        await client.call("#unsubscribe", "mine")
        await until(lambda: len(warnings_of(caplog)) == 4)
    published, subscribed, foreign, unsubscribed = warnings_of(caplog)
    assert published == "A publish failed (channel 'p0'): BrokerError: NOPERM no permissions"
    assert subscribed.startswith("A subscription failed (channel 's'): BrokerError: NOPERM")
    assert foreign.startswith("A message of the backend was not delivered (channel 'mine'): ")
    assert "is foreign: " in foreign
    assert "(channel 'mine'): BrokerError: NOPERM" in unsubscribed
    caplog.clear()
    server.reporter.flush()
    counts = sorted(line.split(" more")[0] for line in warnings_of(caplog))
    assert counts == ["… and 19", "… and 19"]


async def test_a_subscription_of_the_exchange_that_is_refused(
    make_server: Any, caplog: Any
) -> None:
    broker = FailingBroker(NOPERM, True)
    server: AGServer = await make_server(broker_engine=broker)
    broker.failing.add("subscribe")
    server.exchange.subscribe("secret")
    await until(lambda: "subscription to 'secret' failed" in "".join(warnings_of(caplog)))


class Outages(SimpleBroker):
    """A broker that reports the outages that a test tells it."""

    __slots__ = ("listener",)

    def attach(self, listener: Any) -> None:
        super().attach(listener)
        self.listener = listener


@pytest.fixture
async def server(make_server: Any) -> Any:
    return await make_server(broker_engine=Outages())


def gap(server: AGServer, *channels: str) -> None:
    broker: Any = server.exchange.broker
    broker.listener.backend_recovered(120.5, NOPERM, channels, "redis://a:1")


async def subscribe(client: Client, channel: str, data: Any) -> None:
    await client.call("#subscribe", {"channel": channel, "data": data})


async def test_a_client_that_asks_learns_of_gaps(server: AGServer) -> None:
    async with connected(server) as asking, connected(server) as other:
        await subscribe(asking, "a", {"$gap": True})
        await subscribe(asking, "b", {"$gap": True, "more": 1})
        others: dict[str, Any] = {"c": {"$gap": 1}, "d": {"$gap": False}, "e": [1], "f": "x"}
        for channel, data in others.items():
            await subscribe(asking, channel, data)
        await other.call("#subscribe", {"channel": "a"})
        await subscribe(other, "b", {})
        gap(server, "a", "c", "d", "e", "f", "unknown")
        gap(server, "b")
        for channel in ("a", "b"):
            data = {"channel": channel, "duration": 121}
            assert await asking.event() == {"event": "$gap", "data": data}
        server.exchange.transmit_publish("a", "next")
        for client in (asking, other):
            assert (await client.event())["event"] == "#publish"
            assert client.events.empty()


async def test_a_broker_that_names_no_channels_means_all(
    server: AGServer, running: Running
) -> None:
    events = running.collect(server.exchange.listener("brokerGap"))
    broker: Any = server.exchange.broker
    async with connected(server) as client:
        await subscribe(client, "a", {"$gap": True})
        await client.call("#subscribe", {"channel": "b"})
        broker.listener.backend_lost(NOPERM)
        broker.listener.backend_recovered(1, NOPERM)
        assert (await client.event())["data"]["channel"] == "a"
    await until(lambda: events == [BrokerGapEvent(1, NOPERM, frozenset("ab"), None)])


async def test_the_last_subscription_decides_and_leaving_ends_it(server: AGServer) -> None:
    def asked() -> int:
        return len(server.exchange.gaps._asked)

    async with connected(server) as client:
        await subscribe(client, "a", {"$gap": True})
        await subscribe(client, "a", {"$gap": False})
        assert asked() == 0
        await subscribe(client, "a", {"$gap": True})
        await client.call("#subscribe", {"channel": "a"})
        assert asked() == 0
        for channel in ("a", "b", "c"):
            await subscribe(client, channel, {"$gap": True})
        assert asked() == 3
        await client.call("#unsubscribe", "a")
        (socket,) = server.clients.values()
        assert isinstance(socket, AGServerSocket)
        await socket.kick_out("b")
        assert asked() == 1
    await until(lambda: not server.clients)
    assert asked() == 0


async def test_what_is_too_long_or_refused_asks_for_nothing(make_server: Any) -> None:
    broker = FailingBroker(NOPERM, True)
    server: AGServer = await make_server(broker_engine=broker, max_subscription_data=20)
    async with connected(server) as client:
        broker.failing.add("subscribe")
        with pytest.raises(AnswerError):
            await subscribe(client, "refused", {"$gap": True})
        broker.failing.clear()
        with pytest.raises(AnswerError):
            await subscribe(client, "long", {"$gap": True, "more": "x" * 20})
    assert server.exchange.gaps._asked == {}


async def test_a_pending_subscription_has_no_gap(make_server: Any) -> None:
    confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Slow(Outages):
        def subscribe(self, channel: str) -> Any:
            return confirmed

    server: AGServer = await make_server(broker_engine=Slow())
    async with connected(server) as client:
        packet = client.packet("#subscribe", {"channel": "a", "data": {"$gap": True}})
        answer = client.answer(packet)
        await client.send(packet)
        await until(lambda: bool(server.exchange.gaps._asked))
        gap(server, "a")
        confirmed.set_result(None)
        await answer
        gap(server, "a")
        assert (await client.event())["event"] == "$gap"
        assert client.events.empty()
