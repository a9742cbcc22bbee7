"""A server under an even load for a long time: nothing is lost, and its memory stays as it is.

`make soak` runs it for 15 minutes, and prints the slope of the memory.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression

import websockets

from cli.serving import serving
from support import Client

SOAK = bool(os.environ.get("SOAK"))
SECONDS = 900 if SOAK else 4
SUBSCRIBERS = 100 if SOAK else 10
PUBLISHERS = 10 if SOAK else 3
CALLERS = 20 if SOAK else 3
PAUSE = 0.1
"""Seconds between two messages of one client."""

SAMPLES = 60
MAX_GROWTH = 0.03
"""Of the memory, in the last two thirds of the time."""

SERVER = """
from socketcluster import AGServer
server = AGServer()

@server.procedure("echo")
async def echo(data: object) -> object:
    return data
"""


class Load:
    """Clients that publish, receive, call, and come and go, until the time is over."""

    def __init__(self, port: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/socketcluster/"
        self._end = time.monotonic() + SECONDS
        self.published: dict[str, int] = {}
        self.calls = 0
        self.visits = 0

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self._end

    async def connect(self) -> Client:
        client = Client(await websockets.connect(self._url))
        await client.handshake()
        return client

    async def publish(self, name: str) -> None:
        client, number = await self.connect(), 0
        while self.goes_on:
            await client.call("#publish", {"channel": "all", "data": [name, number]})
            number += 1
            await asyncio.sleep(PAUSE)
        self.published[name] = number
        await client.close()

    async def call(self) -> None:
        client = await self.connect()
        while self.goes_on:
            number = self.calls = self.calls + 1
            assert await client.call("echo", number) == number
            await asyncio.sleep(PAUSE)
        await client.close()

    async def visit(self) -> None:
        """Connect, subscribe and leave, over and over."""
        while self.goes_on:
            client = await self.connect()
            await client.call("#subscribe", {"channel": f"room/{self.visits % 100}"})
            await client.close()
            self.visits += 1

    async def receive(self, client: Client, received: dict[str, list[int]]) -> None:
        while True:
            name, number = (await client.events.get())["data"]["data"]
            received.setdefault(name, []).append(number)


async def test_soak(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    async with serving(tmp_path, "mine:server", "--port", "0", "--workers", "2") as served:
        load = Load(await served.port())
        pids = sorted(served.workers())
        clients = [await load.connect() for _ in range(SUBSCRIBERS)]
        for client in clients:
            await client.call("#subscribe", {"channel": "all"})
        received: list[dict[str, list[int]]] = [{} for _ in clients]
        receiving = [
            asyncio.create_task(load.receive(client, found))
            for client, found in zip(clients, received, strict=True)
        ]
        memory = asyncio.create_task(_watch_memory(pids))
        async with asyncio.TaskGroup() as group:
            for number in range(PUBLISHERS):
                group.create_task(load.publish(f"publisher {number}"))
            for _ in range(CALLERS):
                group.create_task(load.call())
            group.create_task(load.visit())
        samples = await memory
        expected = {name: list(range(count)) for name, count in load.published.items()}
        async with asyncio.timeout(30):
            while any(found != expected for found in received):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for task in receiving:
            task.cancel()
        for client in clients:
            await client.close()
    _report(load, samples, record_property)


async def _watch_memory(pids: list[int]) -> list[tuple[float, int]]:
    """(seconds, bytes of the workers together), evenly over the time."""
    start, samples = time.monotonic(), []
    for _ in range(SAMPLES):
        samples.append((time.monotonic() - start, sum(_resident(pid) for pid in pids)))
        await asyncio.sleep(SECONDS / SAMPLES)
    return samples


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _report(
    load: Load, samples: list[tuple[float, int]], record_property: Callable[[str, object], None]
) -> None:
    deliveries = sum(load.published.values()) * SUBSCRIBERS
    later = samples[len(samples) // 3 :]
    slope, _ = linear_regression([at for at, _ in later], [size for _, size in later])
    growth = slope * (later[-1][0] - later[0][0]) / later[0][1]
    record_property(
        "Soak",
        f"{SECONDS} s: {deliveries} deliveries, {load.calls} calls, {load.visits} visits, "
        f"nothing lost; memory {later[-1][1] / 2**20:.1f} MiB, "
        f"slope {slope * 3600 / 2**20:+.2f} MiB an hour ({growth:+.2%})",
    )
    assert deliveries > 0
    assert load.calls > 0
    assert load.visits > 0
    if SOAK:
        assert abs(growth) <= MAX_GROWTH
