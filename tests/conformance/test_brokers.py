"""One suite over all brokers, against real backends."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from broker_servers import BackendServers, running_backend
from socketcluster import AGServer
from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.nodes import messages as node_messages
from socketcluster.nodes.messages import Message, NodeMessages
from support import connected, soon, until

KINDS = ("simple", "zeromq", "redis", "redis-sentinel", "redis-cluster", "nats", "nats-cluster")
NAMES = ("a", "ab", "a.b", "a.*", "a.>", "*", ">", "a b", "é", ".", "a..b", ".a", "%2E", "a\0", "%")


class Listener:
    """Records a broker's reports."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.failures: list[BaseException] = []
        self.lost: list[BaseException] = []
        self.gaps: list[float] = []

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def broker_failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def backend_lost(self, error: BaseException, channels: Any = None, server: Any = None) -> None:
        self.lost.append(error)

    def backend_recovered(
        self, duration: float, error: BaseException, channels: Any = None, server: Any = None
    ) -> None:
        self.gaps.append(duration)


class Made:
    """A broker and its listener."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.listener = Listener()
        broker.attach(self.listener)

    @property
    def received(self) -> list[tuple[str, bytes]]:
        return self.listener.received

    async def subscribe(self, channel: str) -> None:
        await done(self.broker.subscribe(channel))

    async def publish(self, channel: str, payload: bytes) -> None:
        await done(self.broker.publish(channel, payload))


async def done(operation: Awaitable[None] | None) -> None:
    if operation is not None:
        await soon(operation)


@pytest.fixture(scope="module", params=KINDS)
def backend(request: Any) -> Iterator[BackendServers | None]:
    """A running backend of each kind; None for the in-process broker."""
    if request.param == "simple":
        yield None
        return
    with running_backend(request.param) as servers:
        yield servers


@pytest.fixture
def url(backend: BackendServers | None) -> str:
    """The backend's URL, with a prefix for the test."""
    return "simple:" if backend is None else f"{backend.url}?prefix=t{secrets.token_hex(6)}"


MakeBrokers = Callable[..., Awaitable[tuple[Made, Made]]]


@pytest.fixture
async def pair(url: str) -> AsyncIterator[MakeBrokers]:
    """Make two started brokers on the backend; twice the same one for the in-process broker."""
    started: list[Made] = []

    async def make(suffix: str = "") -> tuple[Made, Made]:
        made = [Made(create_broker(url + suffix)) for _ in range(2)]
        if isinstance(made[0].broker, SimpleBroker):
            made[1] = made[0]
        for item in dict.fromkeys(made):
            started.append(item)
            await soon(item.broker.start())
        return made[0], made[1]

    yield make
    for item in started:
        await item.broker.close()
        assert item.listener.lost == []
        assert item.listener.failures == []


async def reaches(sender: Made, receiver: Made, channel: str) -> None:
    """Wait until subscriptions have spread in the backend: a NATS cluster does not confirm it."""
    receiver.received.clear()
    async with asyncio.timeout(10):
        while not receiver.received:
            await sender.publish(channel, b'"probe"')
            await asyncio.sleep(0.02)
    await sender.publish(channel, b'"last probe"')
    await until(lambda: receiver.received[-1][1] == b'"last probe"')
    receiver.received.clear()


async def test_a_publish_reaches_every_process_once_and_in_order(pair: MakeBrokers) -> None:
    a, b = await pair()
    for made in dict.fromkeys((a, b)):
        await made.subscribe("news")
    await reaches(a, b, "news")
    await reaches(b, a, "news")
    for made in (a, b):
        made.received.clear()

    async def publisher(made: Made, name: str) -> None:
        for number in range(20):
            await made.publish("news", f'"{name} {number}"'.encode())

    await soon(asyncio.gather(*(publisher((a, b)[n % 2], f"p{n}") for n in range(50))))
    for made in (a, b):
        await until(lambda made=made: len(made.received) >= 1000)  # type: ignore[misc]
        texts = [payload.decode().strip('"').split() for _, payload in made.received]
        assert len(texts) == 1000
        for n in range(50):
            assert [int(t[1]) for t in texts if t[0] == f"p{n}"] == list(range(20))


async def test_names_are_exact(pair: MakeBrokers) -> None:
    a, b = await pair()
    for name in NAMES:
        await b.subscribe(name)
        await reaches(a, b, name)
    await a.publish("abc", b"0")
    for name in NAMES:
        await a.publish(name, name.encode())
    await until(lambda: len(b.received) >= len(NAMES))
    assert sorted(b.received) == sorted((name, name.encode()) for name in NAMES)


async def test_only_what_is_subscribed_is_delivered(pair: MakeBrokers) -> None:
    a, b = await pair()
    await b.subscribe("a")
    await b.subscribe("b")
    await reaches(a, b, "a")
    await reaches(a, b, "b")
    await done(b.broker.unsubscribe("a"))
    await a.publish("a", b"1")
    await a.publish("b", b"2")
    await until(lambda: b.received == [("b", b"2")])
    await b.subscribe("a")
    await reaches(a, b, "a")


async def test_any_bytes_up_to_half_a_megabyte(pair: MakeBrokers) -> None:
    a, b = await pair()
    await b.subscribe("a")
    await reaches(a, b, "a")
    payloads = [b"\x00\xff\r\n", b"", bytes(512 * 1024)]
    for payload in payloads:
        await a.publish("a", payload)
    await until(lambda: len(b.received) == 3)
    assert [payload for _, payload in b.received] == payloads


async def test_a_round_trip(pair: MakeBrokers) -> None:
    for made in await pair():
        assert made.broker.ready
        await soon(made.broker.check())


async def test_a_prefix_keeps_applications_apart(url: str, pair: MakeBrokers) -> None:
    if url == "simple:":
        return
    a, b = await pair()
    other = Made(create_broker(url + "x"))
    await soon(other.broker.start())
    await b.subscribe("a")
    await other.subscribe("a")
    await reaches(a, b, "a")
    await other.publish("a", b"1")
    await a.publish("a", b"2")
    await until(lambda: (b.received, other.received) == ([("a", b"2")], [("a", b"1")]))
    await other.broker.close()


async def test_clients_of_two_servers(url: str, make_server: Any) -> None:
    if url == "simple:":
        one = two = await make_server()
    else:
        one, two = [await make_server(broker_engine=url) for _ in range(2)]
    assert isinstance(two, AGServer)
    async with connected(one) as alice, connected(two) as bob:
        await bob.call("#subscribe", {"channel": "a"})
        async with asyncio.timeout(10):
            while bob.events.empty():
                await alice.call("#publish", {"channel": "a", "data": {"n": [1, None, "é"]}})
                await asyncio.sleep(0.02)
        packet = await bob.event()
        assert packet["event"] == "#publish"
        assert packet["data"] == {"channel": "a", "data": {"n": [1, None, "é"]}}
        await one.exchange.invoke_publish("a", 5)
        while (await bob.event())["data"]["data"] != 5:
            pass


async def test_a_subscription_is_in_place_when_it_is_confirmed(pair: MakeBrokers) -> None:
    """On the same server at least: the other servers of a NATS cluster follow later."""
    a, _ = await pair()
    for number in range(200):
        channel = f"c{number}"
        await a.subscribe(channel)
        await a.publish(channel, b"1")
    await until(lambda: len(a.received) == 200)


async def test_a_closed_broker_can_be_started_again(pair: MakeBrokers) -> None:
    """It keeps its subscriptions, and reports no gap for the time in which it was closed."""
    a, b = await pair()
    await a.subscribe("before")
    await a.broker.close()
    await a.subscribe("while closed")
    await soon(a.broker.start())
    await a.subscribe("after")
    assert a.broker.ready
    await soon(a.broker.check())
    for channel in ("before", "while closed", "after"):
        await reaches(b, a, channel)
        await reaches(a, a, channel)
    assert a.listener.gaps == []


@pytest.fixture
async def nodes(
    url: str, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> list[AGServer] | None:
    """Two servers that know each other; None where there are no others."""
    monkeypatch.setattr(node_messages, "ALIVE_SECONDS", 0.1)
    if url == "simple:":
        server: AGServer = await make_server(broker_engine=url, auth_key="secret")
        assert (server.node_messages, server.nodes) == (None, [])
        return None
    servers: list[AGServer] = [
        await make_server(broker_engine=url, auth_key="secret") for _ in range(2)
    ]
    await until(lambda: all(server.nodes for server in servers))
    return servers


def messages_of(server: AGServer) -> NodeMessages:
    assert server.node_messages is not None
    return server.node_messages


async def test_servers_know_each_other(nodes: list[AGServer] | None) -> None:
    if nodes is None:
        return
    a, b = nodes
    assert [node.id for node in a.nodes] == [messages_of(b).id]
    assert [node.id for node in b.nodes] == [messages_of(a).id]
    assert a.lifecycle.knows_peers
    received: list[Message] = []
    messages_of(b).on("hello", received.append)
    for number in range(10):
        await done(messages_of(a).send("hello", {"n": number}, messages_of(b).id))
    await done(messages_of(a).send("hello", "for another", "another"))
    await until(lambda: len(received) == 10)
    assert received[3] == Message("hello", messages_of(a).id, {"n": 3})
    assert [message.data["n"] for message in received] == [*range(10)]
    await b.close()
    await until(lambda: all(node.draining for node in a.nodes))
    assert not a.lifecycle.knows_peers
    assert messages_of(a).dropped == messages_of(b).dropped == {}


async def test_clients_reach_no_internal_name(
    nodes: list[AGServer] | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with a name that resembles one, nor with a message that is signed."""
    if nodes is None:
        return
    prefix = url.rpartition("prefix=")[2]
    inner = messages_of(nodes[0])._broker
    inboxes = [b.inbox for b in getattr(inner, "_servers", {}).values()] or [inner.inbox]  # type: ignore[attr-defined]
    names = [node_messages.NAME, *inboxes]
    channels = [f"{start}{name}" for name in names for start in ("", "!", f"{prefix}!", ":", ".")]
    recorded: list[bytes] = []
    wire = messages_of(nodes[0])._wire

    class Recording:
        seal = wire.seal

        def open(self, payload: bytes) -> Any:
            recorded.append(payload)
            return wire.open(payload)

    monkeypatch.setattr(messages_of(nodes[0]), "_wire", Recording())
    await until(lambda: bool(recorded))
    async with connected(nodes[0]) as client:
        for channel in channels:
            await client.call("#subscribe", {"channel": channel})
        signed = recorded[0].decode()
        assert wire.open(recorded[0]).type == "alive"
        seen = len(recorded)
        for channel in channels:
            await client.call("#publish", {"channel": channel, "data": json.loads(signed)})
        packets = [await client.event() for _ in channels]
        # Two more signs of life pass before this looks.
        await until(lambda: len(recorded) >= seen + 4)
        assert client.events.empty()
    assert sorted(p["data"]["channel"] for p in packets) == sorted(channels)
    for server in nodes:
        assert messages_of(server).dropped == {}
        assert len(server.nodes) == 1
