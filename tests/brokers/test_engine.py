"""What all brokers on an engine share, with an engine that is made up."""

from __future__ import annotations

import asyncio

import pytest

from socketcluster.brokers import engine
from socketcluster.brokers.address import parse_address
from socketcluster.brokers.engine import EngineBroker
from socketcluster.brokers.link import BrokerOptions, Link, Session
from socketcluster.brokers.redis_cluster import SLOTS, Address, ClusterBroker
from socketcluster.errors import BrokerError
from support import soon


class NeverThere:
    """Takes its time to connect, and swallows a cancellation or not."""

    name = "nowhere"

    def __init__(self, swallows: bool) -> None:
        self.swallows = swallows
        self.connecting = asyncio.Event()

    async def connect(self, session: Session) -> Link:
        self.connecting.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not self.swallows:
                raise
        await asyncio.sleep(3600)
        raise AssertionError


@pytest.mark.parametrize("swallows", [False, True])
async def test_it_can_be_closed_while_it_connects(
    swallows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CANCEL_AGAIN_SECONDS", 0.05)
    connector = NeverThere(swallows)
    broker = EngineBroker(connector, BrokerOptions(connect_timeout=3600))
    starting = asyncio.create_task(broker.start())
    await soon(connector.connecting.wait())
    await soon(broker.close())
    with pytest.raises(BrokerError, match="closed before it was connected"):
        await soon(starting)


async def test_a_cluster_can_be_closed_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def ask(self: ClusterBroker) -> list[Address | None]:
        asked.set()
        await go.wait()
        return [("127.0.0.1", 1)] * SLOTS

    monkeypatch.setattr(ClusterBroker, "_ask", ask)
    broker = ClusterBroker(parse_address("redis+cluster://127.0.0.1:1"))
    starting = asyncio.create_task(broker.start())
    await soon(asked.wait())
    await soon(broker.close())
    go.set()
    with pytest.raises(BrokerError, match="closed before it was connected"):
        await soon(starting)
    assert not broker._servers
    assert broker._watcher is None
