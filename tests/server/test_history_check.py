"""A rule with history on a backend that cannot store is told once, after the start."""

from __future__ import annotations

import asyncio
import logging

import pytest

from broker_servers import running_backend
from recovering import StoppableBroker, server_with
from socketcluster import AGServer, ChannelRule, History
from socketcluster.brokers.base import BackendBroker
from socketcluster.brokers.storing import Page
from socketcluster.errors import BrokerError
from socketcluster.server import history_check
from support import AnswerError, connected, until

RULES = [
    ChannelRule("news/{name}"),
    ChannelRule("a/*", history=History(size=5, ttl=300)),
    ChannelRule("b/**", history=History(size=9, ttl=300)),
]


class CheckedBroker(StoppableBroker, BackendBroker):
    """A backend that refuses to store.

    Attributes:
        asked: the channels whose histories were read.
        refuses: whether it does.
    """

    def __init__(self, *, refuses: bool = True) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.refuses = refuses

    async def history(self, channel: str, *arguments: object, **fields: object) -> Page:
        self.asked.append(channel)
        if self.refuses:
            raise BrokerError("It is off:\nturn it on")
        return await super().history(channel, *arguments, **fields)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_backend_that_cannot_store_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = CheckedBroker()
    server = AGServer(broker_engine=broker, channels=RULES)
    await server.listen(0)
    await until(lambda: bool(errors(caplog)))
    assert broker.asked == ["a/*"]
    assert errors(caplog) == [
        "The rule for 'a/*' has history, which the broker CheckedBroker cannot store: "
        "It is off:\\nturn it on. Until it can, clients cannot subscribe or publish to these "
        "channels"
    ]
    await server.close()


async def test_a_backend_that_is_away_is_asked_when_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_check, "RETRY_SECONDS", 0.001)
    broker = CheckedBroker(refuses=False)
    broker.away = True
    server = AGServer(broker_engine=broker, channels=RULES)
    await server.listen(0)
    assert broker.asked == []
    broker.refuses = True
    broker.away = False
    await until(lambda: bool(errors(caplog)))
    assert broker.asked == ["a/*"]
    await server.close()


async def test_a_backend_that_goes_away_meanwhile_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_check, "RETRY_SECONDS", 0.001)
    broker = CheckedBroker(refuses=False)
    broker.gate.clear()
    server = AGServer(broker_engine=broker, channels=RULES)
    await server.listen(0)
    await until(lambda: broker.asked == ["a/*"])
    broker.away = True
    broker.gate.set()
    await asyncio.sleep(0)
    broker.away = False
    await until(lambda: len(broker.asked) >= 2 and broker.asked[-1] == "b/**")
    await server.close()
    assert errors(caplog) == []


async def test_a_server_without_history_asks_nothing() -> None:
    broker = CheckedBroker()
    server = AGServer(broker_engine=broker, channels=RULES[:1])
    await server.listen(0)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "news/1"})
    await server.close()
    assert broker.asked == []


async def test_nats_without_jetstream(caplog: pytest.LogCaptureFixture) -> None:
    with running_backend("nats") as servers:
        server = server_with(broker_engine=servers.url)
        await server.listen(0)
        await until(lambda: bool(errors(caplog)))
        (told,) = errors(caplog)
        assert "The rule for 'c/*' has history" in told
        assert "start the NATS servers with it (`nats-server -js`" in told
        async with connected(server) as client:
            with pytest.raises(AnswerError):
                await client.call("#subscribe", {"channel": "c/1"})
            await client.call("#subscribe", {"channel": "plain"})
        await server.close()
