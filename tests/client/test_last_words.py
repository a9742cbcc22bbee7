"""Guarantee 2: packets sent before a client leaves arrive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from client.fakes import Peer, fake_server, tcp_server, upgraded
from interop.servers import npm_server
from socketcluster import AGClientSocket, AGServer, testing
from socketcluster.client import lifecycle
from socketcluster.engines import picows_client
from socketcluster.errors import BadConnectionError, TimeoutError
from support import Running, names, record, soon, until

COUNT = 16


def client_of(port: int, **options: Any) -> AGClientSocket:
    return AGClientSocket(hostname="127.0.0.1", port=port, auto_connect=False, **options)


def send(client: AGClientSocket, name: Any) -> None:
    for number in range(COUNT):
        client.transmit_publish("room", [name, number])


async def in_a_block(client: AGClientSocket, name: Any) -> None:
    async with client:
        send(client, name)


async def in_a_batch(client: AGClientSocket, name: Any) -> None:
    async with client:
        client.start_batch()
        send(client, name)


async def while_batching(client: AGClientSocket, name: Any) -> None:
    async with client:
        client.start_batching()
        send(client, name)


async def by_disconnect(client: AGClientSocket, name: Any) -> None:
    connected = client.listener("connect").create_consumer()
    client.connect()
    await connected.next(4000)
    send(client, name)
    client.disconnect()
    await client.wait_closed()


async def as_soon_as_open(client: AGClientSocket, name: Any) -> None:
    connected = client.listener("connect").create_consumer()
    send(client, name)
    await connected.next(4000)
    client.disconnect()
    await client.wait_closed()


async def with_an_exception(client: AGClientSocket, name: Any) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with client:
            send(client, name)
            raise ZeroDivisionError


async def between_connections(client: AGClientSocket, name: Any) -> None:
    async with client:
        client.disconnect(4100)
        assert client.pending_reconnect
        send(client, name)


WAYS: dict[str, Callable[[AGClientSocket, Any], Awaitable[None]]] = {
    way.__name__.replace("_", " "): way
    for way in (
        in_a_block,
        in_a_batch,
        while_batching,
        by_disconnect,
        as_soon_as_open,
        with_an_exception,
        between_connections,
    )
}


@asynccontextmanager
async def published(kind: str, running: Running) -> AsyncIterator[tuple[int, Any]]:
    """(port, an async function that returns what was published to "room" since the last call)."""
    if kind == "npm 20":
        with npm_server("server20") as port:
            async with client_of(port) as asking:

                async def ask() -> Any:
                    return await asking.invoke("what was published")

                yield port, ask
    else:
        async with AGServer(drain_timeout=100) as server:
            await server.listen(0)
            found = running.collect(server.exchange.subscribe("room"))

            async def taken() -> Any:
                values = list(found)
                found.clear()
                return values

            assert server.source_port is not None
            yield server.source_port, taken


async def collect(ask: Any, count: int) -> list[Any]:
    found: list[Any] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await ask()
            await asyncio.sleep(0)
    return found


@pytest.mark.parametrize("kind", ["ours", "npm 20"])
@pytest.mark.parametrize("way", WAYS)
async def test_all_arrives_in_order(running: Running, kind: str, way: str) -> None:
    async with published(kind, running) as (port, ask):
        for number in range(50 if way == "in a block" else 5):
            await WAYS[way](client_of(port), number)
        total = (50 if way == "in a block" else 5) * COUNT
        found = await collect(ask, total)
        for number in range(total // COUNT):
            of_one = [n for name, n in found if name == number]
            assert of_one == list(range(COUNT))


CHILD = """
import asyncio, sys, socketcluster
async def main():
    options = dict(hostname="127.0.0.1", port=int(sys.argv[1]), auto_connect=False)
    async with socketcluster.create(**options) as socket:
        for number in range(16):
            socket.transmit_publish("room", [sys.argv[2], number])
if sys.argv[3] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["ours", "npm 20"])
async def test_a_process_that_ends_loses_nothing(running: Running, kind: str) -> None:
    async with published(kind, running) as (port, ask):
        children = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(port), loop, loop)
            for loop in ("asyncio", "uvloop")
        ]
        assert [await child.wait() for child in children] == [0, 0]
        found = await collect(ask, 2 * COUNT)
        for loop in ("asyncio", "uvloop"):
            assert [n for name, n in found if name == loop] == list(range(COUNT))


# A server that is slow


class SlowServer:
    """A server that reads once `go_on` is set."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.go_on = asyncio.Event()
        self.read_all = asyncio.Event()
        self.pause = 0.0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgraded(reader, writer)
        await reader.readexactly(2)
        status = {"id": "slow", "pingTimeout": 20000, "isAuthenticated": False}
        answer = json.dumps({"rid": 1, "data": status}).encode()
        writer.write(b"\x81" + bytes([len(answer)]) + answer)
        await self.go_on.wait()
        while data := await reader.read(64 * 1024):
            self.received += data
            await asyncio.sleep(self.pause)
            if self.received[-8:-6] == b"\x88\x82":
                break
        self.read_all.set()
        writer.write(b"\x88\x02\x03\xe8")
        await reader.read()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_slow_server_gets_all(monkeypatch: pytest.MonkeyPatch, new_loop: Any) -> None:
    """The server reads for longer than it may take to answer a close frame."""
    monkeypatch.setattr(picows_client, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(picows_client, "CLOSE_ROUNDS", 100)

    async def main() -> None:
        server = SlowServer()
        server.pause = 0.01
        async with tcp_server(server, limit=64 * 1024) as port:
            client = client_of(port, max_outbound_buffer=40_000_000)
            async with client:
                for _ in range(100):
                    client.transmit("note", "x" * 100_000)
                asyncio.get_running_loop().call_later(0.1, server.go_on.set)
            await server.read_all.wait()
            assert len(server.received) > 10_000_000
            assert server.received[-8:-6] == b"\x88\x82"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 60))


async def test_a_server_that_reads_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picows_client, "CLOSE_SECONDS", 0.05)
    server = SlowServer()
    async with tcp_server(server) as port:
        client = client_of(port, max_outbound_buffer=40_000_000)
        async with client:
            for _ in range(100):
                client.transmit("note", "x" * 100_000)
        assert client.state == "closed"
        assert client.get_outbound_buffer_size() == 0


async def test_a_cancelled_end_closes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SlowServer()
    async with tcp_server(server) as port:
        client = client_of(port)

        async def block() -> None:
            async with client:
                client.transmit("note", 1)

        leaving = asyncio.create_task(block())
        await until(lambda: client.state == "open")
        await until(lambda: client.state == "closed")
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        server.go_on.set()
        await until(lambda: bytes(server.received[-8:-6]) == b"\x88\x82")
        await soon(client.wait_closed())


# Without a connection


async def test_the_end_of_a_block_waits_for_no_connection_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "HAND_OVER_SECONDS", 0.05)
    count = 0

    async def handle(peer: Peer) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await peer.handshake()
            await peer.call("close")
            await peer.ws.close(4100)
        else:
            await peer.receive()  # And no answer.

    async with fake_server(handle) as port:
        client = client_of(port)
        found = record(client)
        async with client:
            client.transmit("close")
            await until(lambda: client.state == "closed")
            client.transmit("note", 1)
        assert client.state == "closed"
        assert not client.pending_reconnect
        errors = [event.error for name, event in found if name == "error"]
        assert any(isinstance(error, BadConnectionError | TimeoutError) for error in errors)


async def test_a_block_that_is_cancelled_waits_for_no_connection() -> None:
    server = AGServer()
    async with testing.connect(server) as client:
        client.disconnect(4100)

        async def block() -> None:
            async with client:
                client.disconnect(4100)
                client.transmit("note", 1)
                client.disconnect(4100)
                await asyncio.Event().wait()

        running = asyncio.create_task(block())
        await until(lambda: client.state == "closed" and client.id is None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await server.close()


async def test_disconnect_while_connecting_gives_up_as_the_original_does(
    make_server: Any, running: Running
) -> None:
    """npm 20 drops the outbox too; here each unsent event is reported."""
    server = await make_server()
    found = running.collect(server.exchange.subscribe("room"))
    client = client_of(server.source_port)
    events = record(client)
    client.connect()
    client.transmit_publish("room", 1)
    calling = asyncio.ensure_future(client.invoke("echo", 1))
    await asyncio.sleep(0)
    client.disconnect()
    with pytest.raises(BadConnectionError) as raised:
        await calling
    assert raised.value.type == "connectAbort"
    assert names(events) == ["connecting", "error", "connectAbort", "close"]
    await client.wait_closed()
    assert found == []
