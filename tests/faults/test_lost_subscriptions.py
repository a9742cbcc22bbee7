"""Subscriptions that the engine drops while 200 messages a second are published.

A stock client and a loop of the exchange receive everything, in order, once, and notice nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker_servers import BackendServers, redis_cli, running_backend
from cli.serving import Served, client_at, serving
from recovering import history, server_with
from socketcluster import AGServer
from socketcluster.errors import BrokerError
from support import Client, connected, until

LOSSES = 30 if os.environ.get("SOAK") else 3
BETWEEN = 60
"""How many publishes there are from one loss to the next."""

SECONDS = 0.005
"""Between two publishes."""

WAIT = 60.0
PARAMETERS = "heartbeat_interval=0.1&heartbeat_timeout=1"


async def eventually(condition: Callable[[], bool]) -> None:
    """Like `until`, for what takes long on a busy machine."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Publisher:
    """Publishes numbers in order, each again until it is accepted.

    Attributes:
        published: how many were.
    """

    def __init__(self, server: AGServer, pad: int = 0) -> None:
        self.published = 0
        self._goes_on = True
        self._server = server
        self._pad = "x" * pad
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._goes_on:
            await self._publish({"n": self.published, "pad": self._pad})
            self.published += 1
            await asyncio.sleep(SECONDS)

    async def _publish(self, data: Any) -> None:
        while True:
            try:
                await self._server.exchange.invoke_publish("c/1", data, id=str(data["n"]))
                return
            except BrokerError:
                await asyncio.sleep(SECONDS)

    async def some(self, count: int = BETWEEN) -> None:
        """Wait until so many more are published."""
        enough = self.published + count
        await eventually(lambda: self.published >= enough or self._task.done())
        assert self.published >= enough, self._task

    async def stop(self) -> None:
        """Publish no more, once the last publish is accepted."""
        self._goes_on = False
        await asyncio.wait_for(self._task, WAIT)


class Receiver:
    """A server with a stock client and a loop of its exchange.

    Attributes:
        gaps: the channels of each gap that the exchange reported.
        looped: the numbers that the loop received.
        told: the numbers that the client received, each with its offset.
    """

    def __init__(self, server: AGServer, client: Client) -> None:
        self.server = server
        self.gaps: list[frozenset[str]] = []
        self.looped: list[int] = []
        self.told: list[tuple[int, int]] = []
        self._client = client
        self._tasks = [asyncio.create_task(self._loop()), asyncio.create_task(self._watch())]

    async def _loop(self) -> None:
        async for data in self.server.exchange.subscribe("c/1"):
            self.looped.append(data["n"])

    async def _watch(self) -> None:
        async for event in self.server.exchange.listener("brokerGap"):
            self.gaps.append(event.channels)

    async def received(self, count: int) -> None:
        """Wait for so many publishes, and check that each came once and in order."""
        await eventually(lambda: count - 1 in self.looped)
        while not self.told or self.told[-1][0] < count - 1:
            data = (await self._client.event())["data"]
            self.told.append((data["data"]["n"], data["offset"]))
        assert self.looped == [*range(count)]
        assert [number for number, _ in self.told] == [*range(count)]

    @property
    def is_back(self) -> bool:
        return self.server.exchange.broker.ready

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def receivers(url: str, count: int = 2) -> AsyncIterator[list[Receiver]]:
    """Servers whose clients and loops are subscribed."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            server = server_with(history(size=5000), broker_engine=url)
            await server.listen(0)
            stack.push_async_callback(server.close)
            client = await stack.enter_async_context(connected(server))
            await client.call("#subscribe", {"channel": "c/1"})
            receiver = Receiver(server, client)
            stack.push_async_callback(receiver.stop)
            await until(lambda: server.exchange.is_subscribed("c/1"))  # noqa: B023
            made.append(receiver)
        yield made


def kill_subscribers(servers: BackendServers) -> None:
    for node in servers.nodes:
        redis_cli(node.port, "CLIENT", "KILL", "TYPE", "pubsub")


def unsubscribed(receiver: Receiver) -> Awaitable[Any]:
    """Have Redis drop the subscription of a server, which does not learn of it."""
    link: Any = receiver.server.exchange.broker._session.link  # type: ignore[attr-defined]
    name = "t:c/1"
    return link._connection.call_for_push((b"unsubscribe", name.encode()), "UNSUBSCRIBE", name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["redis", "redis-cluster"])
async def test_redis_kills_the_connections_of_all_subscribers(kind: str) -> None:
    with running_backend(kind) as servers:
        async with receivers(f"{servers.url}?{PARAMETERS}&prefix=t") as both:
            publisher = Publisher(both[0].server)
            for _ in range(LOSSES):
                await publisher.some()
                await asyncio.to_thread(kill_subscribers, servers)
                await eventually(lambda: all(receiver.is_back for receiver in both))
            await publisher.some()
            await publisher.stop()
            for receiver in both:
                await receiver.received(publisher.published)
                assert receiver.server.exchange.gaps.count >= LOSSES
                assert "c/1" not in {name for names in receiver.gaps for name in names}


async def test_redis_drops_a_subscription() -> None:
    with running_backend("redis") as servers:
        async with receivers(f"{servers.url}?{PARAMETERS}&prefix=t") as both:
            publisher = Publisher(both[0].server)
            for number in range(LOSSES):
                await publisher.some()
                await unsubscribed(both[1])
                await eventually(lambda: both[1].server.exchange.gaps.count > number)  # noqa: B023
            await publisher.some()
            await publisher.stop()
            for receiver in both:
                await receiver.received(publisher.published)
            assert both[0].server.exchange.gaps.count == 0
            assert {name for names in both[1].gaps for name in names} == set()
            assert both[1].server.exchange.stored.numbers.filled >= 1


# A server that stands still, until the engine cuts it off

STANDING = """
import os
from socketcluster import AGServer, ChannelRule, History

rule = ChannelRule("c/*", history=History(size=5000, ttl=300))
server = AGServer(broker_engine=os.environ["ENGINE"], channels=[rule])
looped = []

@server.procedure("looped")
def answer() -> list:
    return looped

@server.background
async def loop() -> None:
    async for data in server.exchange.subscribe("c/1"):
        looped.append(data["n"])
"""

PAD = 20_000
"""Bytes of a publish. An engine keeps some megabytes, and so does the kernel."""

CUTS = 5 if os.environ.get("SOAK") else 1


class Engine:
    """An engine that keeps 2 MiB for a subscriber that does not read.

    Attributes:
        servers: its servers.
        reason: a part of the reason that the subscriber logs.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._log = folder / "nats.log"
        self._options: list[str] = []
        self.reason = "read too slowly" if kind == "zeromq" else " is away"
        self.servers: BackendServers
        if kind == "zeromq":
            self._options = [str(2 * 1024 * 1024)]
        elif kind == "redis":
            self._options = ["--client-output-buffer-limit", "pubsub", "2mb", "2mb", "60"]
        else:
            config = folder / "nats.conf"
            config.write_text("max_payload: 1048576\nmax_pending: 2097152\n")
            self._options = ["--jetstream", "-c", str(config), "-l", str(self._log)]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run it; yield the URL."""
        with running_backend(self._kind, self._options) as self.servers:
            yield f"{self.servers.url}?prefix=t&heartbeat_interval=0.2&heartbeat_timeout=30"

    def links(self) -> int:
        """Return how many subscribers it has; after a cut there is one less."""
        if self._kind == "nats":
            return -self._log.read_text().count("Slow Consumer")
        return redis_cli(self.servers.nodes[0].port, "CLIENT", "LIST", "TYPE", "pubsub").count(
            "id="
        )

    def _wait_for_a_cut(self, before: int) -> None:
        deadline = time.monotonic() + WAIT
        while self.links() == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    async def stand_still(self, served: Served, publisher: Publisher) -> None:
        """Stop a server until the engine has cut it off."""
        if self._kind != "zeromq":
            before = self.links()
        served.process.send_signal(signal.SIGSTOP)
        try:
            if self._kind == "zeromq":  # The server is told when it reads again.
                await publisher.some(6 * 1024 * 1024 // PAD)
            else:
                await asyncio.to_thread(self._wait_for_a_cut, before)
        finally:
            served.process.send_signal(signal.SIGCONT)
        assert self.reason in await served.line(" is away")
        await served.line(" is back")


@pytest.mark.parametrize("kind", ["redis", "nats", "zeromq"])
async def test_a_server_that_stands_still_is_cut_off(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(STANDING)
    engine = Engine(kind, tmp_path)
    with engine.running() as url:
        monkeypatch.setenv("ENGINE", url)
        async with (
            AsyncExitStack() as stack,
            serving(tmp_path, "mine:server", "--port", "0") as served,
            receivers(url, 1) as (receiver,),
        ):
            client = await client_at(stack, await served.port())
            await client.call("#subscribe", {"channel": "c/1"})
            publisher = Publisher(receiver.server, PAD)
            for _ in range(CUTS):
                await publisher.some(20)
                await engine.stand_still(served, publisher)
            await publisher.some()
            await publisher.stop()
            told: list[int] = []
            while not told or told[-1] < publisher.published - 1:
                told.append((await client.event())["data"]["data"]["n"])
            assert told == [*range(publisher.published)]
            await receiver.received(publisher.published)
            looped = await client.call("looped")
            assert looped == [*range(looped[0], publisher.published)]
