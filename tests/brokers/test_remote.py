"""The broker that all adapters share, with connectors made up for the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from brokers.fakes import Reports
from socketcluster.brokers import remote
from socketcluster.brokers.adapter import BrokerOptions, Link, LinkListener, Publish
from socketcluster.brokers.address import parse_address
from socketcluster.brokers.redis_cluster import NO_OWNERS, Address, ClusterBroker
from socketcluster.brokers.redis_keys import SLOTS
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Position, Retention
from socketcluster.errors import BrokerError, UsageError
from socketcluster.protocol.state import StateMachine
from support import soon, until


class NeverThere:
    """A connector that never connects, and may swallow a cancellation."""

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
    monkeypatch.setattr(remote, "CANCEL_RETRY_SECONDS", 0.05)
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

    monkeypatch.setattr(ClusterBroker, "_fetch_owners", ask)
    broker = ClusterBroker(parse_address("redis+cluster://127.0.0.1:1"))
    starting = asyncio.create_task(broker.start())
    await soon(asked.wait())
    await soon(broker.close())
    go.set()
    with pytest.raises(BrokerError, match="closed before it was connected"):
        await soon(starting)
    assert not broker._servers
    assert broker._refresher is None


class Connected:
    """A connector whose first link cannot subscribe to the channel "poison"."""

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
        self.batches: list[list[tuple[str, bytes]]] = []
        self.is_closed = False
        self._is_poisoned = is_poisoned

    def publish(self, publishes: Sequence[Publish]) -> None:
        self.batches.append([(each.channel, each.payload) for each in publishes])
        for each in publishes:
            if each.channel in self.subscribed:
                self.session.message_received(each.channel, each.payload)
        self.session.publishes_confirmed(publishes)

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
        self.is_closed = True


async def test_a_subscription_that_raises_is_not_the_end_of_others() -> None:
    """The next link subscribes to all channels, except those that the backend refuses."""
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    wanted = [broker.subscribe(channel) for channel in ("a", "poison", "b", "refused")]
    await soon(asyncio.wait([asyncio.ensure_future(each) for each in wanted if each is not None]))
    await until(lambda: len(connector.links) == 2 and broker.ready)
    assert {"a", "poison", "b"} <= connector.links[1].subscribed
    assert "refused" not in connector.links[1].subscribed
    await soon(broker.close())


async def test_the_states_of_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MIN_BACK_OFF_SECONDS", 0.001)
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    states: list[str] = []

    def to(machine: StateMachine[str], new: str) -> None:
        if machine is broker._state:
            states.append(new)
        change(machine, new)

    change = StateMachine.to
    monkeypatch.setattr(StateMachine, "to", to)
    await soon(broker.start())
    connector.links[0].session.link_lost(BrokerError("gone"))
    await until(lambda: len(connector.links) == 2 and broker.ready)
    await soon(broker.close())
    await soon(broker.close())
    await soon(broker.start())
    await soon(broker.close())
    assert states == ["connecting", "up", "lost", "up", "closed", "connecting", "up", "closed"]


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_a_second_start_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_owners(self: ClusterBroker) -> list[Address | None]:
        return [*NO_OWNERS]

    monkeypatch.setattr(ClusterBroker, "_fetch_owners", no_owners)
    broker: RemoteBroker | ClusterBroker
    if kind == "cluster":
        broker = ClusterBroker(parse_address("redis+cluster://127.0.0.1:1"))
    else:
        broker = RemoteBroker(Connected(), BrokerOptions())
    await soon(broker.start())
    with pytest.raises(UsageError, match="is started already"):
        await broker.start()
    await soon(broker.close())
    await soon(broker.start())
    await soon(broker.close())


async def test_a_cluster_that_cannot_be_reached_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start that is required and fails leaves the broker closed."""
    broker = ClusterBroker(parse_address("redis+cluster://127.0.0.1:1?required=true"))
    for _ in range(2):
        with pytest.raises(BrokerError, match=r"Cannot reach redis\+cluster://127.0.0.1:1"):
            await soon(broker.start())


async def test_a_connection_made_after_the_close_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library that swallows every cancellation does not bring a closed broker back."""
    monkeypatch.setattr(remote, "CANCEL_RETRY_SECONDS", 0.01)
    connecting, go = asyncio.Event(), asyncio.Event()

    class Stubborn(Connected):
        async def connect(self, listener: LinkListener) -> Link:
            connecting.set()
            while not go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go.wait()
            return await super().connect(listener)

    connector = Stubborn()
    broker = RemoteBroker(connector, BrokerOptions())
    starting = asyncio.create_task(broker.start())
    await soon(connecting.wait())
    runner = broker._runner
    assert runner is not None
    await soon(broker.close())
    go.set()
    with pytest.raises(BrokerError, match="closed before it was connected"):
        await soon(starting)
    await soon(asyncio.wait([runner]))
    assert connector.links[0].is_closed
    assert not broker.ready


async def test_what_is_sent_in_one_loop_turn_goes_out_in_one_batch() -> None:
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    link = connector.links[0]
    link.batches.clear()
    changes = [broker.subscribe("a"), broker.subscribe("b")]
    publishes = [broker.publish(channel, b"1") for channel in "aab"]
    assert link.batches == []
    await asyncio.sleep(0)
    publishes.append(broker.publish("c", b"2"))
    await soon(asyncio.gather(*publishes, *[each for each in changes if each is not None]))
    assert link.batches == [
        [("a", b"1"), ("a", b"1"), ("b", b"1")],
        [("c", b"2")],
    ]
    await soon(broker.close())


async def test_publishes_of_a_turn_in_which_the_link_is_lost_raise() -> None:
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    publish = broker.publish("a", b"1")
    subscription = broker.subscribe("a")
    assert subscription is not None
    connector.links[0].session.link_lost(BrokerError("gone"))
    with pytest.raises(BrokerError, match="gone"):
        await soon(publish)
    await soon(subscription)
    await until(lambda: len(connector.links) == 2 and broker.ready)
    assert "a" in connector.links[1].subscribed
    await soon(broker.close())


async def test_no_more_publishes_wait_than_allowed() -> None:
    broker = RemoteBroker(Connected(), BrokerOptions(max_unconfirmed=2))
    await soon(broker.start())
    publishes = [broker.publish("a", b"1") for _ in range(2)]
    with pytest.raises(BrokerError, match="2 publishes wait for somewhere already"):
        broker.publish("a", b"1")
    await soon(asyncio.gather(*publishes))
    await soon(broker.publish("a", b"1"))
    await soon(broker.close())


@pytest.mark.parametrize("turns", range(6))
async def test_nothing_is_left_waiting_in_whichever_turn_after_the_loss(turns: int) -> None:
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    connector.links[0].session.link_lost(BrokerError("gone"))
    for _ in range(turns):
        await asyncio.sleep(0)
    with pytest.raises(BrokerError, match="gone"):
        await soon(broker.publish("a", b"1"))
    if (subscription := broker.subscribe("a")) is not None:
        await soon(subscription)
    await until(lambda: len(connector.links) == 2 and broker.ready)
    assert "a" in connector.links[1].subscribed
    await soon(broker.close())


@pytest.mark.parametrize("turn", range(6))
async def test_what_is_sent_in_the_turn_in_which_the_broker_notices_the_loss(turn: int) -> None:
    """It was accepted, but the link is gone when it is to be sent."""
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    await soon(broker.start())
    loop = asyncio.get_running_loop()
    sent: list[asyncio.Future[object]] = []

    def send(turns: int) -> None:
        if turns:
            loop.call_soon(send, turns - 1)
        elif broker.ready:
            operations = [broker.publish("a", b"1"), broker.subscribe("b"), broker.unsubscribe("c")]
            sent.extend(asyncio.ensure_future(each) for each in operations if each is not None)

    send(turn)
    connector.links[0].session.link_lost(BrokerError("gone"))
    await until(lambda: len(connector.links) == 2 and broker.ready)
    results = await soon(asyncio.gather(*sent, return_exceptions=True))
    assert [type(each) for each in results] in ([], [BrokerError, type(None), type(None)])
    await soon(broker.close())


async def test_a_check_in_an_outage_says_why() -> None:
    broker = RemoteBroker(Connected(), BrokerOptions())
    with pytest.raises(BrokerError, match="somewhere is away: not connected yet"):
        await broker.check()


async def test_a_fault_of_an_adapter_is_logged_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "MIN_BACK_OFF_SECONDS", 0.001)

    class Faulty(Connected):
        async def connect(self, listener: LinkListener) -> Link:
            monkeypatch.undo()
            monkeypatch.setattr(Faulty, "connect", Connected.connect)
            raise RuntimeError("A mistake")

    broker = RemoteBroker(Faulty(), BrokerOptions())
    await soon(broker.start())
    assert "RuntimeError: A mistake" in str(broker.outage)
    await until(lambda: broker.ready)
    assert "somewhere: unexpected fault" in caplog.text
    await soon(broker.close())


async def test_a_message_of_a_channel_that_was_left_is_not_delivered() -> None:
    connector = Connected()
    broker = RemoteBroker(connector, BrokerOptions())
    reports = Reports()
    broker.attach(reports)
    await soon(broker.start())
    await soon(broker.subscribe("a"))
    session = connector.links[0].session
    session.message_received("a", b"1")
    broker.unsubscribe("a")
    session.message_received("a", b"2")
    session.link_failed(BrokerError("odd"))
    assert reports.received == [("a", b"1")]
    assert reports.failures == ["odd"]
    await soon(broker.close())


class StoringLinks(Connected):
    """Its links answer each request in a wrong form."""

    async def connect(self, session: LinkListener) -> Link:
        link: Any = PoisonedLink(session, False)
        link.history = link.renew_epoch = link.keep = link.take = self._answer
        return cast("Link", link)

    async def _answer(self, *_: Any) -> Any:
        raise KeyError("created")


async def test_a_request_to_the_store_raises_no_error_but_that_of_a_broker() -> None:
    broker = RemoteBroker(StoringLinks(), BrokerOptions())
    broker.attach(Reports())
    await soon(broker.start())
    place = Position("e", 1)
    asked = [
        broker.history("c", Retention(1, 1)),
        broker.renew_epoch("c", Retention(1, 1), place),
        broker.keep({"k": b""}, 1),
        broker.take("k"),
    ]
    for request in asked:
        with pytest.raises(BrokerError, match="KeyError: 'created'"):
            await soon(request)
    await broker.close()
