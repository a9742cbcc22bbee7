"""Publishers, in processes that run no server."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from broker_servers import BackendServers, running_backend
from socketcluster import AGServer, AsyncPublisher, Publisher
from socketcluster.errors import (
    BrokerError,
    InvalidArgumentsError,
    InvalidOptionsError,
    UsageError,
)
from socketcluster.pubsub import publisher as publisher_module
from support import connected, soon, until


@pytest.fixture(scope="module", params=["zeromq", "redis", "redis-cluster", "nats"])
def backend(request: Any) -> Iterator[BackendServers]:
    """A running backend."""
    with running_backend(request.param) as servers:
        yield servers


async def test_async(backend: BackendServers, make_server: Any) -> None:
    server: AGServer = await make_server(broker_engine=backend.url)
    async with connected(server) as client, AsyncPublisher(backend.url) as publisher:
        await client.call("#subscribe", {"channel": "a"})
        for number in range(100):
            await publisher.publish("a", {"n": number, "name": "é"})
        for number in range(100):
            assert (await client.event())["data"]["data"] == {"n": number, "name": "é"}
        with pytest.raises(InvalidArgumentsError):
            await publisher.publish("a", object())
        with pytest.raises(InvalidArgumentsError):
            await publisher.publish("", 1)


def test_async_in_a_second_loop_says_so(backend: BackendServers) -> None:
    publisher = AsyncPublisher(backend.url)

    async def first() -> None:
        await publisher.publish("a", 1)

        def second() -> None:
            uses: list[Callable[[], Coroutine[Any, Any, None]]] = [
                lambda: publisher.publish("a", 2),
                publisher.start,
                publisher.close,
            ]
            for use in uses:
                with pytest.raises(UsageError, match="use a Publisher"):
                    asyncio.run(use())

        await asyncio.to_thread(second)
        await publisher.publish("a", 3)
        await publisher.close()

    asyncio.run(first())


async def test_sync_from_several_threads(
    backend: BackendServers, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: AGServer = await make_server(broker_engine=backend.url)
    monkeypatch.setenv("SOCKETCLUSTER_BROKER", backend.url)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "a"})

        def work() -> None:
            with Publisher() as publisher:

                def many(name: int) -> None:
                    for number in range(20):
                        publisher.publish("a", [name, number])

                threads = [threading.Thread(target=many, args=(name,)) for name in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                publisher.close()
                publisher.publish("a", "again")

        await asyncio.to_thread(work)
        found = [(await client.event())["data"]["data"] for _ in range(81)]
    assert found[-1] == "again"
    for name in range(4):
        assert [n for who, n in found[:-1] if who == name] == list(range(20))


def _in_a_child(publisher: Publisher) -> None:
    publisher.publish("a", "child")
    publisher.close()


async def test_on_both_sides_of_a_fork(make_server: Any) -> None:
    with running_backend("redis") as servers:
        server: AGServer = await make_server(broker_engine=servers.url)
        publisher = Publisher(servers.url)
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "a"})
            await asyncio.to_thread(publisher.publish, "a", "parent")
            child = multiprocessing.get_context("fork").Process(
                target=_in_a_child, args=(publisher,), daemon=True
            )
            with publisher._lock:  # As if another thread were about to use it.
                child.start()
            await asyncio.to_thread(child.join, 20)
            assert child.exitcode == 0
            await asyncio.to_thread(publisher.publish, "a", "parent again")
            found = [(await client.event())["data"]["data"] for _ in range(3)]
        await asyncio.to_thread(publisher.close)
    assert found == ["parent", "child", "parent again"]


async def test_a_backend_that_is_away_is_an_error_and_comes_back() -> None:
    with running_backend("redis") as servers:
        servers.kill()
        url = f"{servers.url}?heartbeat_interval=0.1&heartbeat_timeout=0.5"
        publisher = AsyncPublisher(url)
        with pytest.raises(BrokerError, match=r"Cannot reach redis://.*refused"):
            await soon(publisher.publish("a", 1))
        sync = Publisher(url)
        with pytest.raises(BrokerError, match=r"Cannot reach redis://.*refused"):
            await asyncio.to_thread(sync.publish, "a", 1)
        servers.start()
        await soon(publisher.publish("a", 1))
        await asyncio.to_thread(sync.publish, "a", 1)
        servers.kill()
        await until(lambda: not publisher._broker.ready)
        with pytest.raises(BrokerError, match=r"The publish failed, for redis://.* is away"):
            await soon(publisher.publish("a", 1))
        servers.start()
        await until(lambda: publisher._broker.ready)
        await soon(publisher.publish("a", 1))
        await publisher.close()
        await asyncio.to_thread(sync.close)


async def test_a_stopped_backend_does_not_hold_a_caller_for_long() -> None:
    with running_backend("redis") as servers:
        publisher = Publisher(servers.url)
        await asyncio.to_thread(publisher.publish, "a", 1)
        servers.stop()
        with pytest.raises(BrokerError, match=r"did not confirm within 0\.2 s"):
            await asyncio.to_thread(publisher.publish, "a", 1, 0.2)
        servers.resume()
        await asyncio.to_thread(publisher.close)


@pytest.mark.parametrize(
    ("url", "message"),
    [(None, "needs a broker's URL"), ("simple:", "reaches no other"), ("foo://a", "no broker for")],
)
def test_a_wrong_url(url: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOCKETCLUSTER_BROKER", raising=False)
    for kind in (AsyncPublisher, Publisher):
        with pytest.raises(InvalidOptionsError, match=message):
            kind(url)


@pytest.mark.parametrize("starts", ["before", "with the publishes"])
async def test_close_loses_nothing(backend: BackendServers, make_server: Any, starts: str) -> None:
    """Publishes before `close` arrive, even if the publisher is still connecting."""
    server: AGServer = await make_server(broker_engine=backend.url)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "a"})
        publisher = AsyncPublisher(backend.url)
        if starts == "before":
            await publisher.start()
        publishes = [asyncio.create_task(publisher.publish("a", n)) for n in range(16)]
        await asyncio.sleep(0)
        await publisher.close()
        await asyncio.gather(*publishes)
        for number in range(16):
            assert (await client.event())["data"]["data"] == number


def publisher_threads() -> int:
    return sum(thread.name == "socketcluster-publisher" for thread in threading.enumerate())


def drop(publishers: list[Any]) -> None:
    """Drop the only reference to a publisher, and expect the warning of that."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        publishers.clear()
        deadline = time.monotonic() + 10
        # The thread that has published may still hold it for a moment.
        while not caught and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.001)
    assert [str(each.message).split(";")[0] for each in caught] in (
        ["A connected Publisher was dropped"],
        ["A connected AsyncPublisher was dropped"],
    )
    assert caught[0].category is ResourceWarning


async def test_a_dropped_publisher_ends_its_thread_and_its_connections(
    backend: BackendServers,
) -> None:
    before, files = publisher_threads(), len(os.listdir("/proc/self/fd"))
    publishers = [Publisher(backend.url)]
    await asyncio.to_thread(publishers[0].publish, "a", 1)
    assert publisher_threads() == before + 1
    drop(publishers)
    await until(lambda: publisher_threads() == before)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= files + 8)  # ZeroMQ's shared context.


async def test_a_dropped_async_publisher_disconnects(backend: BackendServers) -> None:
    publishers = [AsyncPublisher(backend.url)]
    await publishers[0].publish("a", 1)
    broker = publishers[0]._broker
    assert broker.ready
    drop(publishers)
    await until(lambda: not broker.ready and not publisher_module._ending)


async def test_publishers_that_need_no_close_are_dropped_silently(backend: BackendServers) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unused, closed = Publisher(backend.url), Publisher(backend.url)
        await asyncio.to_thread(closed.publish, "a", 1)
        await asyncio.to_thread(closed.close)
        other = AsyncPublisher(backend.url)
        await other.start()
        await other.close()
        del unused, closed, other
        gc.collect()


def test_an_async_publisher_may_be_dropped_after_its_loop(backend: BackendServers) -> None:
    publishers = [AsyncPublisher(backend.url)]
    asyncio.run(publishers[0].start())
    drop(publishers)


def _child_drops(publishers: list[Publisher]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        publishers.clear()
        gc.collect()
    os._exit(0)


def test_a_publisher_dropped_in_the_child_of_a_fork_leaves_the_parents(
    backend: BackendServers,
) -> None:
    publishers = [Publisher(backend.url)]
    publishers[0].publish("a", 1)
    child = multiprocessing.get_context("fork").Process(target=_child_drops, args=(publishers,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    publishers[0].publish("a", 2)
    publishers[0].close()


def test_a_publisher_that_the_interpreter_drops_at_its_exit(backend: BackendServers) -> None:
    script = """
import sys
from socketcluster import Publisher
publisher = Publisher(sys.argv[1])
publisher.publish("a", 1)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, backend.url],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == b""
