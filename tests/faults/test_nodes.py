"""Two nodes of two workers each, on each backend: every message once, at everyone, in order."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import websockets

from broker_servers import running_backend
from cli.serving import serving
from support import Client, soon

SOAK = bool(os.environ.get("SOAK"))
CLIENTS = 1000 if SOAK else 60
PUBLISHERS = 50 if SOAK else 10
MESSAGES = 20 if SOAK else 10
SECONDS = 300 if SOAK else 30

SERVER = """
import asyncio, os
from socketcluster import AGServer
server = AGServer(ping_timeout_disabled=True)

@server.background
async def serve():
    async for event in server.listener("connection"):
        asyncio.create_task(one(event.socket))

async def one(socket):
    async for request in socket.procedure("pid"):
        request.end(os.getpid())
"""


class Subscriber:
    """A client that is subscribed to "all", and the messages it received."""

    def __init__(self, client: Client, pid: int) -> None:
        self.client = client
        self.pid = pid
        self.received: list[tuple[str, int]] = []

    async def receive(self, count: int) -> None:
        """Wait until so many messages are there."""
        async with asyncio.timeout(SECONDS):
            while len(self.received) < count:
                name, number = (await self.client.events.get())["data"]["data"]
                if name != "warm-up":
                    self.received.append((name, number))


async def subscriber_at(port: int) -> Subscriber:
    client = Client(await websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/"))
    await client.handshake()
    pid = await client.call("pid")
    await client.call("#subscribe", {"channel": "all"})
    return Subscriber(client, pid)


async def warm_up(subscribers: list[Subscriber]) -> None:
    """Wait until each process reaches all others: a NATS cluster spreads subscriptions slowly."""
    one_each = list({s.pid: s for s in subscribers}.values())
    for sender in one_each:
        waiting = {s.pid: s for s in one_each}
        async with asyncio.timeout(SECONDS):
            while waiting:
                await sender.client.call(
                    "#publish", {"channel": "all", "data": ["warm-up", sender.pid]}
                )
                await asyncio.sleep(0.02)
                for pid, receiver in list(waiting.items()):
                    while not receiver.client.events.empty():
                        if receiver.client.events.get_nowait()["data"]["data"][1] == sender.pid:
                            waiting.pop(pid, None)


async def publish_all(publishers: list[Subscriber], begin: int) -> None:
    async def one(index: int, publisher: Subscriber) -> None:
        for number in range(begin, begin + MESSAGES):
            await asyncio.wait_for(
                publisher.client.call("#publish", {"channel": "all", "data": [str(index), number]}),
                SECONDS,
            )

    await asyncio.gather(*(one(i, p) for i, p in enumerate(publishers)))


def assert_once_and_in_order(subscribers: list[Subscriber], publishers: int, end: int) -> None:
    for subscriber in subscribers:
        for index in range(publishers):
            numbers = [n for name, n in subscriber.received if name == str(index)]
            assert numbers == list(range(end))


@pytest.mark.parametrize("kind", ["zeromq", "redis", "redis-cluster", "nats", "nats-cluster"])
async def test_everyone_gets_every_message_once_and_in_order(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    with running_backend(kind) as servers:
        if kind == "zeromq":  # The supervisors' own proxy, the first one's, not that of the test.
            servers.kill()
        arguments = ("mine:server", "--port", "0", "--workers", "2", "--broker-required")
        node = partial(serving, tmp_path, *arguments, "--broker", servers.url)
        async with node() as one, node() as two:
            ports = [await one.port(), await two.port()]
            subscribers = [await subscriber_at(ports[n % 2]) for n in range(CLIENTS)]
            pids = {s.pid for s in subscribers}
            assert len(pids) == 4
            await warm_up(subscribers)
            publishers = subscribers[:PUBLISHERS]
            receiving = [asyncio.create_task(s.receive(PUBLISHERS * MESSAGES)) for s in subscribers]
            await publish_all(publishers, 0)
            await asyncio.gather(*receiving)
            assert_once_and_in_order(subscribers, PUBLISHERS, MESSAGES)

            dead = subscribers[-1].pid
            os.kill(dead, signal.SIGKILL)
            left = [s for s in subscribers if s.pid != dead]
            publishers = [s for s in left if s in publishers]
            names = {index: p for index, p in enumerate(publishers)}
            for subscriber in left:
                subscriber.received.clear()
            total = len(names) * MESSAGES
            receiving = [asyncio.create_task(s.receive(total)) for s in left]
            await publish_all(publishers, 0)
            await asyncio.gather(*receiving)
            assert_once_and_in_order(left, len(names), MESSAGES)
            # A duplicate would arrive before this message.
            await soon(left[0].client.call("#publish", {"channel": "all", "data": ["end", 0]}))
            for subscriber in left:
                await subscriber.receive(total + 1)
                assert subscriber.received[-1] == ("end", 0)
            await asyncio.gather(*(s.client.close() for s in subscribers))
