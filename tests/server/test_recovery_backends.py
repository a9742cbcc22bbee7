"""Recovery between servers that share a real backend: a client that moves misses nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from broker_servers import BackendServers, redis_cli, running_backend
from recovering import (
    history,
    packets,
    place,
    publish,
    publishes,
    server_with,
    subscribe,
)
from socketcluster import AGServer
from support import connected, until

_numbers = itertools.count()
pytestmark = pytest.mark.xdist_group("recovery-backends")


@pytest.fixture(scope="module", params=["redis", "redis-cluster", "nats", "zeromq"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendServers]:
    folder = tmp_path_factory.mktemp("backend")
    options = ["--jetstream", "--store_dir", str(folder)] if request.param == "nats" else []
    with running_backend(request.param, options) as running:
        yield running


@pytest.fixture
async def servers(backend: BackendServers) -> AsyncIterator[list[AGServer]]:
    prefix = "&prefix=" if "?" in backend.url else "?prefix="
    url = f"{backend.url}{prefix}p{next(_numbers)}"
    made = [server_with(history(size=5000), broker_engine=url) for _ in range(2)]
    for server in made:
        await server.listen(0)
    yield made
    for server in made:
        await server.close()


async def test_a_client_that_moves_between_servers_misses_nothing(
    servers: list[AGServer],
) -> None:
    got: list[tuple[Any, int]] = []
    told: dict[str, Any] | None = None
    going = True

    async def publish_on() -> None:
        number = 0
        while going:
            number += 1
            await publish(servers[number % 2], number)

    publishing = asyncio.create_task(publish_on())
    try:
        for turn in range(8):
            async with connected(servers[turn % 2]) as client:
                answer = await subscribe(client, told)
                assert answer["recovered"] is (told is not None)
                enough = client.events.qsize() + 20
                await until(lambda: client.events.qsize() > enough)  # noqa: B023
                got += publishes(client)
                told = place(answer, got[-1][1])
    finally:
        going = False
        await publishing
    offsets = [offset for _, offset in got]
    assert offsets == list(range(offsets[0], offsets[0] + len(got)))
    assert [value for value, _ in got] == sorted(value for value, _ in got)


async def test_a_lost_history_is_told_on_every_server(
    servers: list[AGServer], backend: BackendServers
) -> None:
    if not backend.url.startswith("redis:"):
        return  # How a history is lost depends on the backend; what follows does not.
    async with connected(servers[0]) as one, connected(servers[1]) as other:
        first = await subscribe(one, None)
        await subscribe(other, None)
        await publish(servers[0], "a", "b")
        for client in (one, other):
            await until(lambda: '"data":"b"' in str(client.messages))  # noqa: B023
            packets(client)
        redis_cli(backend.nodes[0].port, "FLUSHALL")
        await publish(servers[1], "c")
        for client in (one, other):
            await until(lambda: client.events.qsize() >= 2)  # noqa: B023
            told, publication = packets(client)[:2]
            assert told["event"] == "$positions"
            assert told["data"]["c/1"]["epoch"] != first["epoch"]
            assert publication["data"] == {"channel": "c/1", "data": "c", "offset": 1}
            await client.call("#unsubscribe", "c/1")
            answer = await subscribe(client, told["data"]["c/1"])
            assert answer["recovered"] is True
            assert publishes(client) == [("c", 1)]


async def test_an_id_is_stored_once_on_two_servers(servers: list[AGServer]) -> None:
    async with connected(servers[0]) as one, connected(servers[1]) as other:
        await subscribe(one)
        for client in (one, other, one):
            await client.call("#publish", {"channel": "c/1", "data": 1, "id": "x"})
        await client.call("#publish", {"channel": "c/1", "data": 2, "id": "y"})
        await until(lambda: one.events.qsize() == 2)
        assert [value for value, _ in publishes(one)] == [1, 2]


async def test_a_storm_reads_its_history_once(servers: list[AGServer]) -> None:
    async with connected(servers[0]) as client:
        first = await subscribe(client)
    await publish(servers[0], *range(50))
    clients = [connected(servers[1]) for _ in range(50)]
    opened = [await each.__aenter__() for each in clients]
    before = servers[1].exchange.stored.numbers.reads
    answers = await asyncio.gather(*(subscribe(each, place(first)) for each in opened))
    assert all(answer["recovered"] for answer in answers)
    assert all([value for value, _ in publishes(each)] == [*range(50)] for each in opened)
    assert servers[1].exchange.stored.numbers.reads - before <= 3
    for each in clients:
        await each.__aexit__(None, None, None)
