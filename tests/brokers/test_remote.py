"""What all brokers on a backend share, with a backend that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from socketcluster.brokers import remote
from socketcluster.brokers.adapter import BrokerOptions, Link, LinkListener, Publish
from socketcluster.brokers.address import parse_address
from socketcluster.brokers.redis_cluster import SLOTS, Address, ClusterBroker
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.errors import BrokerError
from support import soon, until


class NeverThere:
    """Takes its time to connect, and swallows a cancellation or not."""

    name = "nowhere"

    def __init__(self, swallows: bool) -> None:
        self.swallows = swallows
        self.connecting = asyncio.Event()

    async def connect(self, session: LinkListener) -> Link:
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
    monkeypatch.setattr(remote, "CANCEL_AGAIN_SECONDS", 0.05)
    connector = NeverThere(swallows)
    broker = RemoteBroker(connector, BrokerOptions(connect_timeout=3600))
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


class Connected:
    """A backend whose first link cannot subscribe to one channel."""

    name = "somewhere"

    def __init__(self) -> None:
        self.links: list[PoisonedLink] = []

    async def connect(self, session: LinkListener) -> Link:
        self.links.append(PoisonedLink(session, len(self.links) == 0))
        return self.links[-1]


class PoisonedLink:
    def __init__(self, session: LinkListener, is_poisoned: bool) -> None:
        self.session = session
        self.subscribed: set[str] = set()
        self._is_poisoned = is_poisoned

    def publish(self, publishes: Sequence[Publish]) -> None:
        for each in publishes:
            if each.channel in self.subscribed:
                self.session.message(each.channel, each.payload)
        self.session.taken(publishes)

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        if self._is_poisoned and "poison" in channels:
            raise UnicodeError("It is poison")
        refused = {c: BrokerError("refused") for c in channels if c == "refused"}
        self.subscribed.update(set(channels) - set(refused))
        return refused

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self.subscribed.difference_update(channels)

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_a_subscription_that_raises_is_not_the_end_of_others() -> None:
    """All that is wanted is subscribed on the next link, but for what the backend refuses."""
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    wanted = [broker.subscribe(channel) for channel in ("a", "poison", "b", "refused")]
    await soon(asyncio.wait([asyncio.ensure_future(each) for each in wanted if each is not None]))
    await until(lambda: len(connector.links) == 2 and broker.ready)
    assert {"a", "poison", "b"} <= connector.links[1].subscribed
    assert "refused" not in connector.links[1].subscribed
    await soon(broker.close())
