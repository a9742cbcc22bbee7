"""Engines that are killed and start again, with their data or without the newest of it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker_servers import BackendServers, running_backend
from faults.test_lost_subscriptions import (
    PARAMETERS,
    Publisher,
    Receiver,
    eventually,
    receivers,
)
from recovering import packets, publish, subscribe
from support import connected, until

LOSSES = 20 if os.environ.get("SOAK") else 2
OPTIONS: dict[str, Sequence[str]] = {
    "redis": ["--appendonly", "yes", "--appendfsync", "always"],
    "nats": ["--jetstream"],
}


def are_back(both: list[Receiver]) -> bool:
    return all(receiver.is_back for receiver in both)


@pytest.mark.parametrize("kind", OPTIONS)
async def test_an_engine_that_is_killed_and_has_its_data(kind: str) -> None:
    with running_backend(kind, OPTIONS[kind]) as servers:
        async with receivers(f"{servers.url}?{PARAMETERS}") as both:
            publisher = Publisher(both[0].server)
            for _ in range(LOSSES):
                await publisher.some()
                await asyncio.to_thread(servers.kill)
                await eventually(lambda: not any(receiver.is_back for receiver in both))
                await asyncio.to_thread(servers.start)
                await eventually(lambda: are_back(both))
            await publisher.some()
            await publisher.stop()
            for receiver in both:
                await receiver.received(publisher.published)
                assert receiver.server.exchange.gaps.count == LOSSES
                assert receiver.gaps == [frozenset()] * LOSSES


def data_of(servers: BackendServers) -> list[Path]:
    (node,) = servers.nodes
    folders = [node._folder / "appendonlydir", node._folder / "jetstream"]
    return [folder for folder in folders if folder.exists()]


def restart(servers: BackendServers, copy: Path, *, restores: bool) -> None:
    """Kill the engine, copy its data or put the copy in its place, and start it."""
    servers.kill()
    (data,) = data_of(servers)
    if restores:
        shutil.rmtree(data)
        shutil.copytree(copy, data)
    else:
        shutil.copytree(data, copy)
    servers.start()


@pytest.mark.parametrize("kind", OPTIONS)
async def test_an_engine_that_lost_its_newest_publishes(kind: str, tmp_path: Path) -> None:
    with running_backend(kind, OPTIONS[kind]) as servers:
        async with receivers(f"{servers.url}?{PARAMETERS}") as both:
            publisher = Publisher(both[0].server)
            await publisher.some(10)
            await publisher.stop()
            count = publisher.published
            await asyncio.to_thread(restart, servers, tmp_path / "copy", restores=False)
            await eventually(lambda: are_back(both))
            async with connected(both[1].server) as asking:
                first = await subscribe(asking, None)
                await publish(both[0].server, {"n": count}, {"n": count + 1})
                for receiver in both:
                    await receiver.received(count + 2)
                    receiver.gaps.clear()
                await asyncio.to_thread(restart, servers, tmp_path / "copy", restores=True)
                await eventually(lambda: all({"c/1"} in receiver.gaps for receiver in both))
                await eventually(lambda: are_back(both))
                told = [packet for packet in packets(asking) if packet["event"] == "$positions"]
                position = told[-1]["data"]["c/1"]
                assert position["epoch"] != first["epoch"]
                await publish(both[0].server, {"n": count + 2})
                for receiver in both:
                    await receiver.received(count + 3)
                    assert receiver.told[-1][1] > position["offset"] >= count
                await until(lambda: asking.events.qsize() > 0)
