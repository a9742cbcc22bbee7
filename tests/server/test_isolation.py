"""A socket, or anything else, that fails in the middle of a call that serves many is not the end of
the others. The fault is reported once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from socketcluster import AGServer, AGServerSocket
from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.engines.picows import PicowsEngine
from socketcluster.runtime.isolation import for_each
from socketcluster.server.handler import SocketHandler
from support import Client, until
from transports import dial


class Broken:
    """A connection of which some methods raise."""

    def __init__(self, connection: Connection, failing: set[str]) -> None:
        self._connection = connection
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        if name in self._failing:
            raise RuntimeError(f"{name} is broken")
        return getattr(self._connection, name)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The methods that raise, of the connections of clients that say that they are bad."""
    names: set[str] = set()
    original = SocketHandler.connection_made

    def made(self: SocketHandler, connection: Any) -> None:
        request: UpgradeRequest = self._request
        is_bad = "bad=1" in request.url
        original(self, Broken(connection, names) if is_bad else connection)

    monkeypatch.setattr(SocketHandler, "connection_made", made)
    return names


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The faults in the log."""
    caplog.set_level(logging.ERROR)
    return lambda: [record.getMessage() for record in caplog.records]


async def three(server: AGServer) -> tuple[list[Client], list[AGServerSocket]]:
    """Clients, of which the second one is bad, and their sockets."""
    clients = []
    for query in ("", "?bad=1", ""):
        client = Client(await dial(server, query))
        await client.handshake()
        clients.append(client)
    return clients, list(server.clients.values())


async def left(clients: list[Client]) -> None:
    for client in clients:
        await client.close()


async def test_for_each_goes_on() -> None:
    done: list[int] = []
    failed: list[tuple[int, str]] = []

    def do(item: int) -> None:
        if item == 2:
            raise ValueError("two")
        done.append(item)

    for_each([1, 2, 3], do, lambda item, error: failed.append((item, str(error))))
    assert (done, failed) == ([1, 3], [(2, "two")])


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a transmit"])
async def test_a_write_that_raises_in_a_fan_out(
    failing: set[str], faults: Callable[[], list[str]], beside: bool
) -> None:
    async with AGServer() as server:
        clients, sockets = await three(server)
        for client in clients:
            await client.call("#subscribe", {"channel": "a"})
        failing.add("write")
        for number in range(3):
            if beside:
                for socket in sockets:
                    if socket.state == "open":
                        socket.transmit("beside")
            await server.exchange.invoke_publish("a", number)
            await asyncio.sleep(0)
        for client in (clients[0], clients[2]):
            seen: list[Any] = []
            while len(seen) < 3:
                event = await client.event()
                if event["event"] == "#publish":
                    seen.append(event["data"]["data"])
            assert seen == [0, 1, 2]
        assert [socket.state for socket in sockets] == ["open", "closed", "open"]
        assert len(faults()) == 1
        assert "write is broken" in faults()[0]
        failing.clear()
        await left(clients)


async def test_a_write_that_raises_at_the_end_of_a_turn(
    failing: set[str], faults: Callable[[], list[str]]
) -> None:
    async with AGServer() as server:
        clients, sockets = await three(server)
        failing.add("write")
        for socket in sockets:
            socket.transmit("hello", 1)
        for client in (clients[0], clients[2]):
            assert (await client.event())["event"] == "hello"
        assert sockets[1].state == "closed"
        assert len(faults()) == 1
        failing.clear()
        await left(clients)


@pytest.mark.parametrize("broken", [{"get_activity"}, {"close"}, {"close", "abort", "write"}])
async def test_a_tick(failing: set[str], faults: Callable[[], list[str]], broken: set[str]) -> None:
    """Guarantee 9: those behind a socket that fails are pinged and timed out all the same."""
    async with AGServer(ping_interval=1000, ping_timeout=2000) as server:
        clients, sockets = await three(server)
        now = server.ticker.now
        pings = [client.pings for client in clients]
        server.ticker.time = now + 1500
        sockets[1].inbound.last_seen = now - 10_000
        sockets[1].inbound.silence = (now - 10_000, sockets[1].connection.get_activity())
        failing |= broken
        server.keepalive.tick(now)
        await until(lambda: clients[0].pings > pings[0] and clients[2].pings > pings[2])
        assert sockets[1].state == "closed"
        assert sockets[1].id not in server.clients
        assert len(faults()) == 1
        failing.clear()
        await left(clients)


async def test_a_handshake_that_timed_out(
    failing: set[str], faults: Callable[[], list[str]]
) -> None:
    async with AGServer(handshake_timeout=1000) as server:
        sockets = [await dial(server, query) for query in ("", "?bad=1", "")]
        failing.add("close")
        server.keepalive.tick(server.ticker.now + 2)
        await until(lambda: sockets[0].close_code == sockets[2].close_code == 4005)
        assert server.pending_clients_count == 0
        assert len(faults()) == 1
        failing.clear()


@pytest.mark.parametrize("broken", [{"close"}, {"close", "abort"}, {"write"}])
async def test_the_close_of_a_server(
    failing: set[str], faults: Callable[[], list[str]], broken: set[str]
) -> None:
    """Guarantee 8: all others are closed, and `close` ends."""
    server = AGServer()
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    await server.start()
    server.spawn(work())
    clients, _ = await three(server)
    failing |= broken
    for socket in server.clients.values():
        socket.transmit("last")
    await server.close()
    assert [(await client.closed())[0] for client in (clients[0], clients[2])] == [1001, 1001]
    assert server.clients_count == 0
    assert ended == ["work"]
    assert len(faults()) == 1
    failing.clear()
    await left(clients)


async def test_a_drain(monkeypatch: pytest.MonkeyPatch, faults: Callable[[], list[str]]) -> None:
    """Half of `drain_timeout` is over, and every socket is busy."""
    server = AGServer(drain_timeout=3000)
    begun: list[AGServerSocket] = []
    gate = asyncio.Event()

    @server.procedure("wait")
    async def wait(socket: AGServerSocket) -> None:
        begun.append(socket)
        await gate.wait()

    await server.start()
    clients, sockets = await three(server)
    for client in clients:
        await client.send(client.packet("wait", None))
    await until(lambda: len(begun) == 3)
    original = AGServerSocket.close_input
    drained: list[AGServerSocket] = []

    def close_input(self: AGServerSocket) -> None:
        if self is sockets[1]:
            raise RuntimeError("close_input is broken")
        drained.append(self)
        original(self)
        if self is sockets[2]:
            gate.set()

    monkeypatch.setattr(AGServerSocket, "close_input", close_input)
    await server.close()
    assert set(drained) == {sockets[0], sockets[2]}
    assert len(faults()) == 1
    await left(clients)


async def test_what_is_held_together(failing: set[str], faults: Callable[[], list[str]]) -> None:
    async with AGServer() as server:
        clients, sockets = await three(server)
        failing.add("get_write_buffer_size")
        server.keepalive.tick(server.ticker.now)
        assert [socket.state for socket in sockets] == ["open", "closed", "open"]
        assert len(faults()) == 1
        failing.clear()
        await left(clients)


class Codec:
    """JSON, but for one channel."""

    def encode(self, value: Any) -> str:
        text = json.dumps(value)
        if "poison" in text:
            raise ValueError("It is poison")
        return text

    def decode(self, message: Any) -> Any:
        if message in ("", "#1", "#2"):
            return message
        if "bitter" in message:
            raise ValueError("It is bitter")
        return json.loads(message)


@pytest.mark.parametrize("payload", ["poison", "bitter"])
async def test_a_codec_that_raises_for_one_channel(payload: str) -> None:
    """Deliveries of a broker that come in one go: one that the codec cannot take stops no other."""
    warnings: list[Any] = []
    async with AGServer(codec_engine=Codec()) as server:
        client = Client(await dial(server))
        await client.handshake()
        for channel in ("a", payload[::-1], "b"):
            await client.call("#subscribe", {"channel": channel})
        server.exchange.subscribe("a")
        consumer = server.exchange.channel("a").create_consumer()
        server.exchange.subscribe(payload[::-1])
        delivery = server.exchange.delivery
        server.exchange._on_error = lambda error, *place: warnings.append(error)
        delivery.backend_message_received("a", b"1")
        delivery.backend_message_received(payload[::-1], json.dumps(payload).encode())
        delivery.backend_message_received("b", b"2")
        seen = [(await client.event())["data"]["data"] for _ in range(2)]
        assert seen == [1, 2]
        assert (await consumer.next()).value == 1
        await client.close()
    assert len(warnings) >= 1


async def test_a_listener_that_cannot_be_closed(faults: Callable[[], list[str]]) -> None:
    class Stuck:
        def __init__(self, listener: Any) -> None:
            self._listener = listener

        @property
        def port(self) -> int | None:
            port: int | None = self._listener.port
            return port

        def stop_accepting(self) -> None:
            self._listener.stop_accepting()
            raise RuntimeError("stop_accepting is broken")

        async def close(self) -> None:
            await self._listener.close()
            raise RuntimeError("close is broken")

    class Engine(PicowsEngine):
        async def listen(self, *args: Any) -> Any:
            return Stuck(await super().listen(*args))

    server = AGServer(ws_engine=Engine())
    await server.listen(0)
    await server.listen(0)
    with pytest.raises(RuntimeError, match="close is broken"):
        await server.close()
    assert not server.exchange.is_ready
    assert not server.lifecycle.listening.listeners
    assert "stop_accepting is broken" in faults()[0]
