"""Clients that recover lose nothing, whatever ends their connections.

Those with a session may have a publish twice; those that know their position have each once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker_servers import BackendServers, running_backend
from cli.serving import serving
from recovering import KEY, history, server_with
from server.test_sessions import sessions_of
from socketcluster import AGClientSocket, AGServer, Recovery
from socketcluster.errors import BrokerError
from socketcluster.history import javascript
from support import require, until

JS = Path(__file__).parent / "js"
CLIENTS = ["client14", "client16", "client17", "client19", "client20"]
SOAK = bool(os.environ.get("SOAK"))
CUTS = 50 if SOAK else 5
BETWEEN = 100
"""How many publishes come between two cuts, about."""

PAUSE = 0.005
SECONDS = 120.0
PING_INTERVAL = 200
PER_INTERVAL = PING_INTERVAL / 1000 / PAUSE
"""The most publishes between two pings that are sent in time. `make soak` looks at it."""

APPLICATION = f"""
from socketcluster import AGServer, ChannelRule, History, Recovery

server = AGServer(
    auth_key={KEY!r},
    channels=[ChannelRule("c/*", history=History(size=10_000, ttl=300, recover_limit=10_000))],
    recovery=Recovery(store="STORE"),
    ping_interval={PING_INTERVAL},
    drain_spread=500,
)
"""


class Reader:
    """What a client has received."""

    def __init__(self, values: AsyncIterator[Any], once: bool) -> None:
        self.received: list[Any] = []
        self._once = once
        self._reading = asyncio.create_task(self._read(values))

    async def _read(self, values: AsyncIterator[Any]) -> None:
        async for value in values:
            self.received.append(value)
            if value == "end":
                return

    async def ended(self) -> None:
        """Wait until it has received the value 'end'."""
        await asyncio.wait_for(self._reading, SECONDS)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])

    def check(self, count: int, cuts: int) -> None:
        """Check that nothing is lost, and that after each cut little or nothing is repeated."""
        if self._once:
            assert self.received == [*range(self.received[0], count), "end"]
            return
        numbers = self.received[:-1]
        assert self.received[-1] == "end"
        assert sorted(set(numbers)) == [*range(numbers[0], count)]
        steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
        back = [1 - step for step in steps if step != 1]
        assert all(each > 0 for each in back), "a gap was filled later"
        assert len(back) <= cuts


async def printed(output: asyncio.StreamReader | None) -> AsyncIterator[Any]:
    assert output is not None
    async for line in output:
        yield json.loads(line)


@asynccontextmanager
async def official(client: str, port: int, *file: str) -> AsyncIterator[Reader]:
    """An official client in a process of its own: with a session, or with `recovering.js`."""
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    program = "recovering.js" if file else "session.js"
    process = await asyncio.create_subprocess_exec(
        *("node", program, client, str(port), *file), cwd=JS, stdout=asyncio.subprocess.PIPE
    )
    reader = Reader(printed(process.stdout), bool(file))
    try:
        yield reader
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader.close()


@asynccontextmanager
async def with_session(port: int, folder: Path) -> AsyncIterator[Reader]:
    async with official("client20", port) as reader:
        yield reader


@asynccontextmanager
async def with_file(port: int, folder: Path) -> AsyncIterator[Reader]:
    (folder / "recovering.mjs").write_text(javascript.module())
    async with official("client20", port, str(folder / "recovering.mjs")) as reader:
        yield reader


@asynccontextmanager
async def with_our_client(port: int, folder: Path) -> AsyncIterator[Reader]:
    again: Any = {"initial_delay": 20, "randomness": 30, "multiplier": 1, "max_delay": 50}
    async with AGClientSocket(
        hostname="127.0.0.1", port=port, auto_reconnect_options=again
    ) as client:
        reader = Reader(aiter(client.subscribe("c/1", recover=True)), once=True)
        failures = client.listener("recoverFail").create_consumer()
        yield reader
        assert failures.get_backpressure() == 0
        await reader.close()


Client = Callable[[int, Path], AbstractAsyncContextManager[Reader]]
LEVELS = pytest.mark.parametrize("client", [with_session, with_file, with_our_client])


async def publish(server: AGServer, value: Any) -> None:
    """Publish once, however long the backend is away."""
    id = str(uuid.uuid4())
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await server.exchange.invoke_publish("c/1", value, id=id)
            except BrokerError:
                await asyncio.sleep(0.05)
            else:
                return


async def publish_and_cut(
    server: AGServer,
    reader: Reader,
    cut: Callable[[], Awaitable[None] | None],
    cuts: int = CUTS,
    seed: object = None,
) -> int:
    """Publish numbers, 200 a second, and cut at random moments; return how many."""
    choose = random.Random(str(seed))
    number = 0

    async def publish_on(while_true: Callable[[], bool]) -> None:
        nonlocal number
        while while_true():
            await publish(server, number)
            number += 1
            await asyncio.sleep(PAUSE)

    await publish_on(lambda: not reader.received)  # It subscribes meanwhile.
    for _ in range(cuts):
        end = number + choose.randrange(BETWEEN // 2, BETWEEN * 3 // 2)
        await publish_on(lambda: number < end)  # noqa: B023
        done = cut()
        if done is not None:
            cutting = asyncio.ensure_future(done)
            await publish_on(lambda: not cutting.done())  # noqa: B023
            await cutting
    end = number + BETWEEN
    await publish_on(lambda: number < end)
    await publish(server, "end")
    await reader.ended()
    return number


def version(client: str) -> int:
    return 1 if client == "client14" else 2


def server_for(client: str = "client20", **options: Any) -> AGServer:
    kept = history(size=10_000, recover_limit=10_000)
    options = {"recovery": Recovery(), "ping_interval": PING_INTERVAL, **options}
    return server_with(kept, protocol_version=version(client), **options)


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_line_is_cut(
    make_server: Any, client: str, record_property: Callable[[str, object], None]
) -> None:
    server = await make_server(server_for(client))
    repeated: list[int] = []

    def cut() -> None:
        for session in sessions_of(server):
            found = session.state().get("c/1")
            position = server.exchange.stored_channel("c/1")
            if found is not None and position is not None and position.position is not None:
                repeated.append(position.position.offset - found.offset)
        for socket in list(server.clients.values()):
            socket.terminate()

    async with official(client, server.source_port) as reader:
        count = await publish_and_cut(server, reader, cut, seed=client)
    reader.check(count, CUTS)
    assert len(reader.received) - 1 - (count - reader.received[0]) <= sum(repeated)
    record_property(
        "Soak",
        f"{client}, {CUTS} cuts of a session at {1 / PAUSE:.0f} publishes a second: none lost, at "
        f"most {max(repeated)} repeated; a ping interval has {PER_INTERVAL:.0f}",
    )
    assert not SOAK or max(repeated) <= 2 * PER_INTERVAL
    assert set(server._context.counts.recoveries) == {"recovered"}


class HalfOpenProxy:
    """A way to a server. A cut is noticed by the client, and not by the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._pairs.append((writer, to_server))
        for source, target in ((reader, to_server), (from_server, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not target.is_closing():
                    target.write(data)
        except ConnectionError:
            pass

    def cut(self) -> None:
        for to_client, _ in self._pairs:
            to_client.transport.abort()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_client_is_back_before_the_server_noticed(make_server: Any, client: str) -> None:
    server = await make_server(server_for(client))
    proxy = HalfOpenProxy(server.source_port)
    port = await proxy.start()
    closures = server.listener("closure").create_consumer()
    codes: list[int] = []

    async def note() -> None:
        async for event in closures:
            codes.append(event.code)

    noting = asyncio.create_task(note())
    try:
        async with official(client, port) as reader:
            count = await publish_and_cut(server, reader, proxy.cut, seed=client)
        reader.check(count, CUTS)
        assert proxy.opened == CUTS + 1
        assert codes.count(4509) == CUTS
    finally:
        noting.cancel()
        await proxy.close()


@pytest.fixture(scope="module", params=["redis", "nats"])
def backend(request: Any) -> Any:
    options = {"redis": ["--appendonly", "yes"], "nats": ["-js"]}[request.param]
    with running_backend(request.param, options) as servers:
        yield servers


@LEVELS
async def test_the_backend_is_killed_and_comes_back(
    make_server: Any, tmp_path: Path, client: Client, backend: BackendServers
) -> None:
    server = await make_server(server_for(broker_engine=backend.url))

    async def cut() -> None:
        backend.kill()
        for socket in list(server.clients.values()):
            socket.terminate()
        await until(lambda: not server.exchange.broker.ready)
        await asyncio.to_thread(backend.start)
        await until(lambda: server.exchange.broker.ready)

    async with client(server.source_port, tmp_path) as reader:
        count = await publish_and_cut(server, reader, cut, 2)
    reader.check(count, 2)


@asynccontextmanager
async def served_by_workers(
    tmp_path: Path, url: str, store: str
) -> AsyncIterator[tuple[Any, AGServer]]:
    """`serve --workers 2` on a backend, and a server in this process that publishes there."""
    (tmp_path / "mine.py").write_text(APPLICATION.replace("STORE", store))
    arguments = ("mine:server", "--port", "0", "--workers", "2", "--broker", url)
    publisher = server_for(broker_engine=url, recovery=Recovery(store=store))  # type: ignore[arg-type]
    async with serving(tmp_path, *arguments) as served:
        await publisher.start()
        try:
            yield served, publisher
        finally:
            await publisher.close()


@pytest.fixture(scope="module")
def redis() -> Any:
    with running_backend("redis") as servers:
        yield servers


@LEVELS
async def test_a_worker_is_killed(tmp_path: Path, client: Client, redis: BackendServers) -> None:
    async with served_by_workers(tmp_path, redis.url, "engine") as (served, publisher):
        async with client(await served.port(), tmp_path) as reader:

            async def cut() -> None:
                before = served.workers()
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(SECONDS):
                    while len(served.workers() - before) < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

            count = await publish_and_cut(publisher, reader, cut, 2)
        reader.check(count, 2)


@LEVELS
async def test_workers_are_restarted_one_after_the_other(
    tmp_path: Path, client: Client, redis: BackendServers
) -> None:
    async with served_by_workers(tmp_path, redis.url, "memory") as (served, publisher):
        async with client(await served.port(), tmp_path) as reader:

            async def restart() -> None:
                before = served.workers()
                served.process.send_signal(signal.SIGHUP)
                async with asyncio.timeout(SECONDS):
                    while served.workers() & before or len(served.workers()) < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

            count = await publish_and_cut(publisher, reader, restart, 1)
        reader.check(count, 1)
