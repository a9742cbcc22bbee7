"""Presence between real server processes, over each backend.

`make soak` runs it with 2,000 sockets.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import websockets

from broker_servers import BackendServers, environment, running_backend
from support import Client

SOAK = bool(os.environ.get("SOAK"))
SOCKETS = 2000 if SOAK else 200
PROCESSES = 4
ROOMS = [f"room/{number}" for number in range(10)]
LEAVE_DELAY = 1.0
KEY = "k" * 32
AGREE_SECONDS = 30.0
"""How long a busy machine may take. The figures are among the properties of the report."""

SILENT_SECONDS = 15.0

SERVER = """
import asyncio, sys
from socketcluster import AGServer, ChannelRule, Presence
rule = ChannelRule("room/*", presence=Presence(leave_delay=float(sys.argv[2])))
server = AGServer(
    auth_key=sys.argv[3], broker_engine=sys.argv[1], channels=[rule], drain_spread=500
)

@server.procedure("known")
async def known(data: list[str]) -> dict[str, object]:
    states = {channel: await server.exchange.presence(channel) for channel in data}
    full = {channel: await server.exchange.occupancy(channel) for channel in data}
    return {
        channel: [sorted(state.members), state.count, full[channel].sockets]
        for channel, state in states.items()
    }

@server.procedure("packets")
def packets() -> list[float]:
    messages = server.presence.channels._following.messages
    return [messages.version, len(messages.peers)]

async def main() -> None:
    await server.listen(0)
    print(server.source_port, flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Server:
    """A server process, and a connection that asks it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, control: Client) -> None:
        self.process = process
        self.port = port
        self.control = control
        self.is_open = True

    async def known(self) -> dict[str, Any]:
        """What it knows of each room: the members, their count, and the sockets."""
        found: dict[str, Any] = await self.control.call("known", ROOMS)
        return found

    async def packets(self) -> list[int]:
        """How many messages about members it has sent, and how many nodes it knows."""
        found: list[int] = await self.control.call("packets")
        return found


async def dial(port: int, user: str | None) -> Client:
    ws: Any = await websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/", max_size=None)
    client = Client(ws)
    await client.handshake(user and jwt.encode({"sub": user}, KEY, algorithm="HS256"))
    return client


class Visitor:
    """A client that goes to another server when its own closes, and subscribes again.

    Two of three visitors have a user; each user has two of them.
    """

    def __init__(self, number: int) -> None:
        self.user = None if number % 3 == 0 else f"user-{number // 2}"
        self.rooms: set[str] = set()
        self.client: Client | None = None
        self.server: Server | None = None

    async def go(self, server: Server) -> None:
        self.server = server
        self.client = await dial(server.port, self.user)
        for room in self.rooms:
            await self.client.call("#subscribe", {"channel": room})

    async def turn(self, room: str) -> None:
        """Subscribe to a room, or leave it."""
        assert self.client is not None
        if room in self.rooms:
            self.rooms.discard(room)
            await self.client.call("#unsubscribe", room)
        else:
            self.rooms.add(room)
            await self.client.call("#subscribe", {"channel": room})


class Cluster:
    """Server processes on one backend, and their visitors."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.servers: list[Server] = []
        self.visitors: list[Visitor] = []

    async def start(self) -> Server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVER, self.url, str(LEAVE_DELAY), KEY),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        server = Server(process, port, await dial(port, None))
        self.servers.append(server)
        return server

    async def meet(self) -> None:
        """Wait until all servers know each other."""
        async with asyncio.timeout(60):
            while True:
                known = [(await server.packets())[1] for server in self.servers]
                if known == [len(self.servers) - 1] * len(self.servers):
                    return
                await asyncio.sleep(0.05)

    def expected(self) -> dict[str, Any]:
        found = {}
        for room in ROOMS:
            users = [visitor.user for visitor in self.visitors if room in visitor.rooms]
            members = {user for user in users if user is not None}
            found[room] = [sorted(members), len(members) + users.count(None), len(users)]
        return found

    async def agree(self, seconds: float = AGREE_SECONDS) -> float:
        """Wait until all servers know who is there; return how long it took."""
        start = time.monotonic()
        wanted = self.expected()
        found: list[Any] = []
        while time.monotonic() < start + seconds:
            found = [await server.known() for server in self.servers]
            if all(each == wanted for each in found):
                return time.monotonic() - start
            await asyncio.sleep(0.05)
        assert found == [wanted] * len(self.servers)
        raise AssertionError

    async def close(self) -> None:
        for server in self.servers:
            if server.process.returncode is None:
                server.process.kill()
            await server.process.wait()
            await server.control.close()
        for visitor in self.visitors:
            if visitor.client is not None:
                await visitor.client.close()


@pytest.fixture(scope="module", params=["redis", "nats", "zeromq"])
def backend(request: Any) -> Iterator[BackendServers]:
    with running_backend(request.param) as servers:
        yield servers


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(url)
    try:
        for _ in range(PROCESSES):
            await cluster.start()
        await cluster.meet()
        yield cluster
    finally:
        await cluster.close()


async def gather(*each: Any) -> None:
    """Run what does not wait for each other, some at a time."""
    gate = asyncio.Semaphore(100)

    async def one(awaitable: Any) -> None:
        async with gate:
            await awaitable

    await asyncio.gather(*map(one, each))


@pytest.mark.timeout(600)
async def test_all_servers_agree(
    backend: BackendServers, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SOCKETS)
    async with running(f"{backend.url}?prefix=agree") as cluster:
        cluster.visitors = [Visitor(number) for number in range(SOCKETS)]
        await gather(*(each.go(chance.choice(cluster.servers)) for each in cluster.visitors))
        before = [await server.packets() for server in cluster.servers]
        start = time.monotonic()
        for _ in range(5):
            await gather(*(each.turn(chance.choice(ROOMS)) for each in cluster.visitors))
        took = time.monotonic() - start
        agreed = await cluster.agree()
        elapsed = time.monotonic() - start
        after = [await server.packets() for server in cluster.servers]
        packets = [new[0] - old[0] for new, old in zip(after, before, strict=True)]
        # Joins, leaves, questions and answers together: one message in 250 ms.
        assert max(packets) <= elapsed / 0.25 + 2
        await asyncio.sleep(1)
        quiet = [await server.packets() for server in cluster.servers]
        await cluster.servers[0].control.call("#publish", {"channel": ROOMS[0], "data": 1})
        await asyncio.sleep(1)
        assert [await server.packets() for server in cluster.servers] == quiet

        killed = cluster.servers.pop()
        killed.process.kill()
        start = time.monotonic()
        cluster.visitors = [each for each in cluster.visitors if each.server is not killed]
        await cluster.agree(SILENT_SECONDS + LEAVE_DELAY + AGREE_SECONDS)
        gone = time.monotonic() - start
        await killed.control.close()
        record_property(
            f"Presence, {backend.url.partition(':')[0]}",
            f"{SOCKETS} sockets, {5 * SOCKETS} joins and leaves in {took:.1f} s: "
            f"{max(packets)} messages of a server, agreement {agreed:.1f} s after the last "
            f"(leave delay {LEAVE_DELAY:g} s); members of a killed server gone after {gone:.1f} s",
        )


@pytest.mark.timeout(600)
async def test_a_rolling_deploy_makes_nobody_leave_or_join(backend: BackendServers) -> None:
    chance = random.Random(1)
    async with running(f"{backend.url}?prefix=deploy") as cluster:
        stays, *old = cluster.servers
        cluster.visitors = [Visitor(number) for number in range(SOCKETS // 4)]
        for visitor in cluster.visitors:
            visitor.user = visitor.user or "guest"  # Those without a user have no delay.
            visitor.rooms = {ROOMS[0]}
        await gather(*(each.go(chance.choice(old)) for each in cluster.visitors))
        await cluster.agree()
        viewer = await dial(stays.port, "viewer")
        await viewer.call("#subscribe", {"channel": f"$presence/{ROOMS[0]}"})
        first = (await viewer.event())["data"]["data"]
        assert set(first["state"]) == {visitor.user for visitor in cluster.visitors}
        for server in old:
            fresh = await cluster.start()
            server.process.send_signal(signal.SIGTERM)
            moving = [each for each in cluster.visitors if each.server is server]

            async def move(visitor: Visitor, target: Server = fresh) -> None:
                assert visitor.client is not None
                await visitor.client.closed()
                await visitor.client.close()
                await visitor.go(target)

            await asyncio.gather(*map(move, moving))
            cluster.servers.remove(server)
            await server.process.wait()
            await server.control.close()
        await asyncio.sleep(2 * LEAVE_DELAY)
        await cluster.agree()
        while not viewer.events.empty():
            data = (await viewer.event())["data"]["data"]
            assert (data["join"], data["leave"], data["count"]) == ({}, [], first["count"])
        await viewer.close()
