"""Messages between servers, over a broker in memory, on a clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from socketcluster import testing
from socketcluster.brokers.base import InternalBroker
from socketcluster.errors import BrokerError, InvalidArgumentsError
from socketcluster.nodes import table
from socketcluster.nodes.messages import NAME, Message, NodeMessages
from socketcluster.nodes.wire import NodeMessage, NodeWire, encode_data
from socketcluster.runtime.reporting import Reporter

logger = logging.getLogger("test.nodes")


class Backend:
    """Delivers to all brokers at once.

    Attributes:
        sent: the payloads.
        lost: whether it takes nothing.
    """

    def __init__(self) -> None:
        self.brokers: list[Broker] = []
        self.sent: list[bytes] = []
        self.lost = False

    def deliver(self, payload: bytes) -> None:
        for broker in self.brokers:
            if broker.ready:
                broker.listener.backend_message_received(NAME, payload)


class Broker:
    """A broker on a `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.ready = False
        self.channels: list[str] = []
        backend.brokers.append(self)

    def attach(self, listener: Any) -> None:
        self.listener = listener

    async def start(self) -> None:
        self.ready = True

    async def close(self) -> None:
        self.ready = False

    async def check(self) -> None:
        pass

    def subscribe(self, channel: str) -> Awaitable[None] | None:
        self.channels.append(channel)
        return None

    def unsubscribe(self, channel: str) -> Awaitable[None] | None:
        return None

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        if self.backend.lost or not self.ready:
            raise BrokerError("away")
        assert channel == NAME
        self.backend.sent.append(payload)
        self.backend.deliver(payload)
        return None


class Cluster:
    """Nodes on one backend, and the clock."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.backend = Backend()
        self.faults: list[BaseException] = []
        self.reporter = Reporter(logger)

    def make(self, key: str = "key", *previous: str, prefix: str = "sc") -> NodeMessages:
        """Make a node that is not started."""
        internal = InternalBroker(Broker(self.backend), prefix)
        wire = NodeWire(prefix, key, previous)
        return NodeMessages(internal, wire, self.reporter, self.faults.append)

    async def start(self, *nodes: NodeMessages) -> None:
        for node in nodes:
            node.start()
        await self.clock.advance(0.1)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with testing.clock() as clock:
        cluster = Cluster(clock)
        yield cluster
        for broker in cluster.backend.brokers:
            await broker.listener.close()
        cluster.reporter.flush()


def ids(node: NodeMessages) -> set[str]:
    return {each.id for each in node.nodes}


async def test_nodes_know_each_other_and_notice_who_is_gone(cluster: Cluster) -> None:
    a, b, c = cluster.make(), cluster.make(), cluster.make()
    for node in (a, b, c):
        await cluster.start(node)
    assert (ids(a), ids(b), ids(c)) == ({b.id, c.id}, {a.id, c.id}, {a.id, b.id})
    (known,) = [each for each in a.nodes if each.id == b.id]
    assert known.host
    assert known.pid > 0
    assert known.since <= known.last_seen
    assert not known.draining
    first = b.id
    b._broker.ready = False  # type: ignore[misc]
    await cluster.clock.advance(14)
    assert first in ids(a)
    await cluster.clock.advance(7)
    assert ids(a) == {c.id}
    assert ids(c) == {a.id}


async def test_one_message_in_five_seconds(cluster: Cluster) -> None:
    nodes = [cluster.make() for _ in range(3)]
    await cluster.start(*nodes)
    before = len(cluster.backend.sent)
    await cluster.clock.advance(100)
    assert len(cluster.backend.sent) - before == 3 * 20
    assert all(len(payload) < 500 for payload in cluster.backend.sent)


async def test_a_closing_node_tells_the_others(cluster: Cluster) -> None:
    a, b = cluster.make(), cluster.make()
    await cluster.start(a, b)
    assert a.has_peer
    b.drain()
    b.drain()
    assert [each.draining for each in a.nodes] == [True]
    assert not a.has_peer
    await cluster.clock.advance(5)
    late = cluster.make()
    await cluster.start(late)
    await cluster.clock.advance(5)
    assert {each.id: each.draining for each in late.nodes} == {a.id: False, b.id: True}
    await b.close()
    before = b.id
    b.start()
    await cluster.clock.advance(0.1)
    assert b.id != before
    assert {each.id: each.draining for each in a.nodes}[b.id] is False
    assert a.has_peer


async def test_siblings_that_close_together_are_no_peers(cluster: Cluster) -> None:
    """Workers of one supervisor: a client must not come back to a port that closes."""
    a, b = cluster.make(), cluster.make()
    await cluster.start(a, b)
    a.siblings_leave = True
    assert not a.has_peer
    b._parent = -1  # Of another supervisor.
    await b.close()
    b.start()
    await cluster.clock.advance(0.1)
    assert a.has_peer


async def test_messages_reach_handlers_in_order_and_by_target(cluster: Cluster) -> None:
    a, b, c = cluster.make(), cluster.make(), cluster.make()
    received: dict[str, list[Message]] = {}
    for node, name in ((a, "a"), (b, "b"), (c, "c")):
        received[name] = []
        node.on("hello", received[name].append)
    await cluster.start(a, b, c)
    a.send("hello", {"n": 1})
    a.send("hello", [2], target=c.id)
    a.send("other", 3)
    assert received["a"] == []
    assert received["b"] == [Message("hello", a.id, {"n": 1})]
    assert received["c"] == [Message("hello", a.id, {"n": 1}), Message("hello", a.id, [2])]


async def test_a_handler_that_raises_stops_no_other(cluster: Cluster) -> None:
    a, b = cluster.make(), cluster.make()
    received: list[Message] = []
    b.on("hello", lambda message: 1 / 0)
    b.on("hello", received.append)
    await cluster.start(a, b)
    a.send("hello")
    assert [message.data for message in received] == [None]
    assert [type(error) for error in cluster.faults] == [ZeroDivisionError]


def sealed(node: str = "n", number: int = 1, time: float = 0.0, key: str = "key") -> bytes:
    alive = encode_data({"host": "h", "pid": 1, "parent": 1, "since": 0})
    message = NodeMessage(type="alive", node=node, number=number, time=time, data=alive)
    return NodeWire("sc", key).seal(message)


async def test_what_is_dropped_is_counted_and_logged(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    a = cluster.make()
    await cluster.start(a)
    now = a._since + 0.1
    for payload in (
        sealed("old", time=now - 30.5),
        sealed("future", time=now + 31),
        sealed("forger", time=now, key="guessed"),
        b"{",
        b"[" * 70_000,
        sealed("n", 5, now),
        sealed("n", 5, now),
        sealed("n", 4, now),
    ):
        cluster.backend.deliver(payload)
    assert ids(a) == {"n"}
    assert a.dropped == {
        "old": 1, "future": 1, "forged": 1, "malformed": 1, "too long": 1, "replayed": 2,
    }  # fmt: skip
    assert a.received == 1
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 6
    assert all(line.startswith("A message between servers was dropped: ") for line in lines)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    for number in range(100):
        cluster.backend.deliver(sealed("forger", number + 1, now, "guessed"))
    assert a.dropped["forged"] == 101
    cluster.reporter.flush()
    assert "… and 100 more of this kind" in caplog.text


async def test_a_recorded_message_never_counts_again(cluster: Cluster) -> None:
    """Not after its node is gone, nor after its number is forgotten, nor after a restart."""
    a, b = cluster.make(), cluster.make()
    await cluster.start(a, b)
    recorded = [*cluster.backend.sent]
    await b.close()
    for _ in range(70):
        await cluster.clock.advance(1)
        for payload in recorded:
            cluster.backend.deliver(payload)
    assert ids(a) == set()
    assert set(a.dropped) == {"replayed", "old"}
    assert [*a._table._senders] == []
    b.start()
    await cluster.clock.advance(0.1)
    assert ids(a) == {b.id}
    for payload in recorded:
        cluster.backend.deliver(payload)
    assert ids(a) == {b.id}


async def test_keys_rotate(cluster: Cluster) -> None:
    """First all accept the new key, then all sign with it, then none accepts the old one."""
    old, both, new = cluster.make("old"), cluster.make("new", "old"), cluster.make("new")
    await cluster.start(old, both, new)
    await cluster.clock.advance(5)
    assert ids(both) == {old.id, new.id}
    assert ids(new) == {both.id}
    assert ids(old) == set()
    accepting = cluster.make("old", "new")
    await cluster.start(accepting)
    await cluster.clock.advance(5)
    assert ids(accepting) == {old.id, both.id, new.id}


async def test_another_prefix_is_another_application(cluster: Cluster) -> None:
    a, b = cluster.make(), cluster.make(prefix="other")
    await cluster.start(a, b)
    assert ids(a) == ids(b) == set()
    assert a.dropped == {"forged": 1}


async def test_an_outage(cluster: Cluster) -> None:
    a, b = cluster.make(), cluster.make()
    await cluster.start(a, b)
    cluster.backend.lost = True
    with pytest.raises(BrokerError, match="away"):
        a.send("hello")
    await cluster.clock.advance(21)
    assert ids(a) == ids(b) == set()
    assert a.failed >= 4
    cluster.backend.lost = False
    for node in (a, b):
        node.backend_lost(BrokerError("away"))
        node.backend_recovered(21_000, BrokerError("away"))
    assert (ids(a), ids(b)) == ({b.id}, {a.id})


async def test_a_broker_that_does_not_start(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    a = cluster.make()

    async def refuse() -> None:
        raise BrokerError("never")

    a._broker.start = refuse  # type: ignore[method-assign]
    await cluster.start(a)
    assert "Messages to other servers are off: BrokerError: never" in caplog.text
    a.broker_failed(BrokerError("odd"))
    assert "Messages between servers: BrokerError: odd" in caplog.text
    await a.close()


async def test_nodes_are_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_NODES", 3)
    a = cluster.make()
    await cluster.start(a)
    for number in range(5):
        cluster.backend.deliver(sealed(f"n{number}", time=a._since))
    assert ids(a) == {"n0", "n1", "n2"}
    assert a.dropped == {"full": 2}
    await cluster.clock.advance(70)
    cluster.backend.deliver(sealed("later", time=a._since + 70))
    assert ids(a) == {"later"}


async def test_data_of_another_version(cluster: Cluster) -> None:
    a = cluster.make()
    await cluster.start(a)
    for number, data in enumerate(
        ("x", {"host": "h" * 300, "pid": 1, "parent": 1, "since": 1}, {}), 1
    ):
        message = NodeMessage(
            type="alive", node="n", number=number, time=a._since, data=encode_data(data)
        )
        cluster.backend.deliver(NodeWire("sc", "key").seal(message))
    assert a.dropped == {"malformed": 3}
    assert ids(a) == set()


async def test_misuse(cluster: Cluster) -> None:
    a = cluster.make()
    a.id = "not started"
    with pytest.raises(BrokerError):
        a.send("hello")
    await cluster.start(a)
    for arguments in (("",), ("t" * 65,), ("t", None, ""), ("t", object())):
        with pytest.raises(InvalidArgumentsError):
            a.send(*arguments)
    with pytest.raises(InvalidArgumentsError, match="it may have 65,536"):
        a.send("t", "x" * 70_000)


async def test_starting_twice_and_closing_at_once(cluster: Cluster) -> None:
    a = cluster.make()
    a.start()
    first = a.id
    a.start()
    assert a.id == first
    await a.close()
    await a.close()
    await asyncio.sleep(0)
    assert cluster.backend.sent == []
