"""Backends that die, hang, drop messages and return: every loss is reported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from broker_servers import BackendServers, LossyProxy, redis_cli, running_backend
from socketcluster.brokers.redis_keys import slot_of
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError
from support import soon, until

STOPPED_SECONDS = 20.0 if os.environ.get("SOAK") else 2.0
PARAMETERS = "prefix=t&heartbeat_interval=0.1&heartbeat_timeout=0.5"
SINGLE = ("zeromq", "redis", "nats")


class Process:
    """A process: its broker, the publishes it received, and the broker's reports."""

    def __init__(self, url: str) -> None:
        self.broker = create_broker(url)
        self.broker.attach(self)
        self.received: dict[str, list[int]] = {}
        self.lost: list[str] = []
        self.gap_channels: set[str] = set()
        self.gap_servers: set[str] = set()
        self.gaps: list[tuple[float, float]] = []
        """(begin, end) of each, by the loop's clock."""
        self.failures: list[BaseException] = []

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.setdefault(channel, []).append(int(payload))

    backend_message_received = message_received

    def broker_failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def backend_lost(self, error: BrokerError, channels: Any = None, server: Any = None) -> None:
        self.lost.append(str(error))

    def backend_recovered(
        self, duration: float, error: BrokerError, channels: Any = None, server: Any = None
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.gaps.append((now - duration / 1000, now))
        self.gap_channels.update(channels)
        self.gap_servers.add(server)

    async def subscribe(self, channel: str) -> None:
        done = self.broker.subscribe(channel)
        if done is not None:
            await soon(done)


class Publisher:
    """Publishes numbers on a channel, one after the other, and records which were accepted."""

    def __init__(self, process: Process, channel: str) -> None:
        self.process = process
        self.channel = channel
        self.sent: list[tuple[float, float]] = []
        self.accepted: set[int] = set()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            number, begun = len(self.sent), loop.time()
            self.sent.append((begun, float("inf")))
            try:
                done = self.process.broker.publish(self.channel, str(number).encode())
                if done is not None:
                    await done
                self.accepted.add(number)
            except BrokerError:
                pass
            self.sent[number] = (begun, loop.time())
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def publishing(
    url_a: str, url_b: str, channels: tuple[str, ...] = ("a",)
) -> AsyncIterator[tuple[Process, Process, list[Publisher]]]:
    """Two processes subscribed to channels, with a publisher for each channel in both.

    At the end every publish must have arrived, or have been sent in a reported gap.
    """
    a, b = Process(url_a), Process(url_b)
    for process in (a, b):
        await soon(process.broker.start())
        for channel in channels:
            for name in ("a", "b"):
                await process.subscribe(channel + name)
    publishers = [Publisher(p, c + name) for c in channels for p, name in ((a, "a"), (b, "b"))]
    try:
        for publisher in publishers:  # NATS clusters spread subscriptions by and by.
            await until(partial(all_have_some, (a, b), publisher.channel))
        started_at = asyncio.get_running_loop().time()
        yield a, b, publishers
        before = [len(publisher.sent) for publisher in publishers]
        for publisher, count in zip(publishers, before, strict=True):
            await until(partial(has_sent, publisher, count + 50))
        for publisher in publishers:
            await publisher.stop()
        last = [(publisher, max(publisher.accepted)) for publisher in publishers]
        assert all(number >= n for (_, number), n in zip(last, before, strict=True))
        for publisher, number in last:
            for process in (a, b):
                await until(partial(has_received, process, publisher.channel, number))
        for publisher in publishers:
            for process in (a, b):
                assert_honest(publisher, process, started_at)
    finally:
        for publisher in publishers:
            await publisher.stop()
        for process in (a, b):
            await process.broker.close()
    assert a.failures == b.failures == []


def has_received(process: Process, channel: str, number: int) -> bool:
    return number in process.received[channel]


def all_have_some(processes: tuple[Process, ...], channel: str) -> bool:
    return all(process.received.get(channel) for process in processes)


def has_sent(publisher: Publisher, count: int) -> bool:
    return len(publisher.sent) > count


def assert_honest(publisher: Publisher, process: Process, started_at: float) -> None:
    received = process.received[publisher.channel]
    assert received == sorted(set(received)), "out of order, or twice"
    arrived = set(received)
    for number in publisher.accepted - arrived:
        begun, ended = publisher.sent[number]
        told = any(begun <= end and ended >= begin for begin, end in process.gaps)
        assert told or begun < started_at, f"{number} of {publisher.channel} is lost silently"


async def back(*processes: Process, gaps: int = 1) -> None:
    """Wait until processes have reported their gap, and are ready."""
    await eventually(lambda: all(p.broker.ready and len(p.gaps) >= gaps for p in processes))


async def eventually(condition: Callable[[], bool]) -> None:
    """Like `until`, for conditions that take long or are expensive to check."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def with_port(servers: BackendServers, port: int) -> str:
    return f"{servers.url.rpartition(':')[0]}:{port}?{PARAMETERS}"


@pytest.mark.parametrize("kind", SINGLE)
async def test_killed_and_restarted(kind: str) -> None:
    with running_backend(kind) as servers:
        url = f"{servers.url}?{PARAMETERS}"
        async with publishing(url, url) as (a, b, publishers):
            servers.kill()
            await until(lambda: bool(a.lost and b.lost))
            assert not a.broker.ready
            # Local subscribers go on.
            sent = len(publishers[0].sent)
            await until(lambda: len(publishers[0].sent) > sent + 20)
            assert not publishers[0].accepted & set(range(sent + 1, sent + 20))
            await until(lambda: {*range(sent + 1, sent + 20)} <= set(a.received["aa"]))
            with pytest.raises(BrokerError, match="subscribers of this process only"):
                a.broker.publish("c", b"1")
            with pytest.raises(BrokerError, match="is away"):
                await a.broker.check()
            await a.subscribe("new")  # In place when the backend is back.
            servers.start()
            await back(a, b)
            done = b.broker.publish("new", b"7")
            assert done is not None
            await soon(done)
            await until(lambda: a.received.get("new") == [7])
            assert (len(a.lost), len(a.gaps)) == (1, 1)


@pytest.mark.parametrize("kind", SINGLE)
async def test_stopped_for_a_while(kind: str) -> None:
    with running_backend(kind) as servers:
        url = f"{servers.url}?{PARAMETERS}"
        async with publishing(url, url) as (a, b, _):
            loop = asyncio.get_running_loop()
            stopped_at = loop.time()
            servers.stop()
            await until(lambda: bool(a.lost and b.lost))
            assert loop.time() - stopped_at < 3
            await asyncio.sleep(STOPPED_SECONDS)
            servers.resume()
            resumed_at = loop.time()
            await back(a, b)
            for process in (a, b):
                assert process.gap_channels == {"aa", "ab"}
                begin, end = process.gaps[0]
                assert begin <= stopped_at + 0.1
                assert end >= resumed_at


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_connection_that_silently_drops_everything(kind: str) -> None:
    with running_backend(kind) as servers:
        async with LossyProxy(servers.nodes[0].port) as proxy:
            direct = f"{servers.url}?{PARAMETERS}"
            async with publishing(with_port(servers, proxy.port), direct) as (a, b, _):
                loop = asyncio.get_running_loop()
                silent_at = loop.time()
                proxy.silent = True
                await until(lambda: bool(a.lost))
                assert loop.time() - silent_at < 3
                assert b.lost == []
                proxy.silent = False
                await back(a)
            assert b.gaps == []


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_what_a_lost_link_had_sent_is_not_delivered_late(kind: str) -> None:
    with running_backend(kind) as servers:
        async with LossyProxy(servers.nodes[0].port) as proxy:
            a = Process(with_port(servers, proxy.port))
            b = Process(f"{servers.url}?{PARAMETERS}")
            for process in (a, b):
                await process.broker.start()
                await process.subscribe("a")
            held = proxy.hold()
            late = a.broker.publish("a", b"1")
            assert late is not None
            with pytest.raises(BrokerError, match="did not confirm the publish before it was lost"):
                await soon(late)
            await back(a)
            for number in range(2, 100):
                if number == 50:
                    held.set()
                done = a.broker.publish("a", str(number).encode())
                assert done is not None
                await soon(done)
            for process in (a, b):
                await until(partial(has_received, process, "a", 99))
                await process.broker.check()
                assert process.received["a"] == [*range(2, 100)]
            for process in (a, b):
                await process.broker.close()


async def test_noticed_within_seconds_as_configured_by_default() -> None:
    with running_backend("redis") as servers:
        a = Process(servers.url)
        await a.broker.start()
        loop = asyncio.get_running_loop()
        servers.stop()
        stopped_at = loop.time()
        await until(lambda: bool(a.lost))
        assert loop.time() - stopped_at < 4
        servers.resume()
        await back(a)
        await a.broker.close()


async def test_a_subscription_that_the_backend_dropped() -> None:
    """The heartbeat notices it: Redis counts the subscriptions of a connection."""
    with running_backend("redis") as servers:
        a = Process(f"{servers.url}?{PARAMETERS}")
        await a.broker.start()
        await a.subscribe("a")
        link = a.broker._session.link  # type: ignore[attr-defined]
        await link._connection.call_for_push((b"unsubscribe", b"t:a"), "UNSUBSCRIBE", "t:a")
        await until(lambda: bool(a.lost))
        assert "The server has 1 subscriptions of this process, not 2" in a.lost[0]
        await back(a)
        done = a.broker.publish("a", b"1")
        assert done is not None
        await soon(done)
        await until(lambda: a.received == {"a": [1]})
        await a.broker.close()


async def test_one_of_three_nats_servers_is_lost() -> None:
    with running_backend("nats-cluster") as servers:
        hosts = servers.url.removeprefix("nats://").split(",")
        url_a = f"nats://{hosts[0]},{hosts[1]}?{PARAMETERS}"
        url_b = f"nats://{hosts[2]}?{PARAMETERS}"
        async with publishing(url_a, url_b) as (a, b, _):
            servers.nodes[int(not connected_to(a, hosts[0]))].kill()
            await back(a)
            await until_spread(a, b)
        assert b.lost == []


def connected_to(process: Process, host: str) -> bool:
    url: Any = process.broker._session.link.client.connected_url  # type: ignore[attr-defined]
    return bool(url.netloc == host)


async def until_spread(a: Process, b: Process) -> None:
    """Wait until the server of `b` knows the subscriptions of `a`: NATS does not confirm that."""
    now = len(a.received["ab"])
    await until(lambda: len(a.received["ab"]) > now)
    a.gaps.append((a.gaps[-1][1], asyncio.get_running_loop().time()))


async def test_one_of_three_redis_servers_is_lost_and_returns() -> None:
    with running_backend("redis-cluster") as servers:
        url = f"{servers.url}?{PARAMETERS}"
        async with publishing(url, url, ("a", "b", "c", "d", "e", "f")) as (a, b, publishers):
            servers.nodes[1].kill()
            await until(lambda: bool(a.lost and b.lost))
            assert not a.broker.ready
            with pytest.raises(BrokerError, match="is away"):
                await a.broker.check()
            # The channels of the others go on.
            counts = [len(publisher.accepted) for publisher in publishers]
            sent = [len(publisher.sent) for publisher in publishers]
            for publisher, count in zip(publishers, sent, strict=True):
                await until(partial(has_sent, publisher, count + 200))
            gone_on = [len(p.accepted) > n + 50 for p, n in zip(publishers, counts, strict=True)]
            assert True in gone_on
            assert False in gone_on
            servers.nodes[1].start()
            await back(a, b)
            for process in (a, b):
                affected = {c for c in process.received if 5461 <= slot_of(f"t:{c}") <= 10922}
                assert process.gap_channels == affected
                assert process.gap_servers == {f"redis+cluster://127.0.0.1:{servers.nodes[1].port}"}


async def test_slots_that_move_take_their_channels_along() -> None:
    with running_backend("redis-cluster") as servers:
        url = f"{servers.url}?{PARAMETERS}"
        second = servers.nodes[1].port
        # What is in braces alone decides on the slot.
        channel = next(f"{{{n}}}" for n in range(1000) if slot_of(f"{n}") <= 5460)
        async with publishing(url, url, (channel,)) as (a, b, _):
            name = redis_cli(second, "CLUSTER", "MYID").strip()
            for node in servers.nodes:
                slot = str(slot_of(channel))
                redis_cli(node.port, "CLUSTER", "SETSLOT", slot, "NODE", name)
            await back(a, b)
            assert "handed channels over" in a.lost[0]
            channels = redis_cli(second, "PUBSUB", "SHARDCHANNELS").split()
            assert {f"t:{channel}a", f"t:{channel}b"} <= set(channels)
            # The server that has them now was never lost, and the other reports only what it has.
            for process in (a, b):
                await eventually(lambda p=process: p.gap_channels >= {f"{channel}a", f"{channel}b"})  # type: ignore[misc]


async def test_a_sentinel_names_the_new_master() -> None:
    with running_backend("redis-sentinel") as servers:
        url = f"{servers.url}?{PARAMETERS}"
        _, replica, sentinel = (node.port for node in servers.nodes)
        known = ("SENTINEL", "REPLICAS", "main")
        await eventually(lambda: str(replica) in redis_cli(sentinel, *known))
        await eventually(lambda: "master_link_status:up" in redis_cli(replica, "INFO"))
        async with publishing(url, url) as (a, b, _):
            servers.nodes[0].kill()
            await back(a, b)


async def test_publishes_fail_by_option_while_the_backend_is_away() -> None:
    with running_backend("redis") as servers:
        a = Process(f"{servers.url}?{PARAMETERS}&away=fail")
        await a.broker.start()
        await a.subscribe("a")
        servers.kill()
        await until(lambda: bool(a.lost))
        with pytest.raises(BrokerError, match="The publish failed, for redis://"):
            a.broker.publish("a", b"1")
        assert a.received == {}
        await a.broker.close()


@pytest.mark.parametrize("kind", SINGLE)
async def test_a_backend_that_starts_later(kind: str) -> None:
    with running_backend(kind) as servers:
        servers.kill()
        a = Process(f"{servers.url}?{PARAMETERS}&connect_timeout=0.5")
        required = Process(f"{servers.url}?{PARAMETERS}&connect_timeout=0.5&required=true")
        with pytest.raises(BrokerError, match="Cannot reach"):
            await soon(required.broker.start())
        await soon(a.broker.start())
        assert len(a.lost) == 1
        await a.subscribe("a")
        servers.start()
        await back(a)
        done = a.broker.publish("a", b"1")
        assert done is not None
        await soon(done)
        await until(lambda: a.received == {"a": [1]})
        await a.broker.close()
