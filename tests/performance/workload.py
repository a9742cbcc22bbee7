"""What is counted: one server, clients in memory, and every path a number of times.

Nothing in it depends on time,
on the kernel or on chance: the loop's clock stands still, and what a socket would carry is
handed over in memory. All else is the server's own: uvicorn's HTTP protocol and ours, picows,
handshakes, consumers. `mark` is called before and after every path.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import selectors
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from uvicorn import Config
from uvicorn.server import ServerState

from socketcluster import AGServer, AGServerSocket, ChannelRule, History, Metrics, Position
from socketcluster.brokers.adapter import BrokerOptions, LinkListener, Publish
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page
from socketcluster.engines.base import ASGIApp, Endpoint, ListenAddress
from socketcluster.engines.picows import open_connection
from socketcluster.engines.uvicorn_http import opening_protocol
from socketcluster.protocol.envelopes import envelop_stored

SIDE_BY_SIDE = 20
"""Clients that do the same in each round, so that the loop's own turns hardly count."""

IN_FLIGHT = 32
SUBSCRIBERS = 100
PER_TURN = 10
"""Clients that publish to one channel in the same turn."""

OPERATIONS = {
    "rpc": 20 * SIDE_BY_SIDE,
    "rpc pipelined": SIDE_BY_SIDE * IN_FLIGHT,
    "publish": 15 * SIDE_BY_SIDE,
    "delivery": 10 * SUBSCRIBERS,
    "connect": 4 * SIDE_BY_SIDE,
    "handler": 20 * SIDE_BY_SIDE,
    "handler pipelined": SIDE_BY_SIDE * IN_FLIGHT,
    "plain add": 20 * SIDE_BY_SIDE,
    "typed add": 20 * SIDE_BY_SIDE,
    "async handler": 20 * SIDE_BY_SIDE,
    "async handler pipelined": SIDE_BY_SIDE * IN_FLIGHT,
    "shared publish": 20 * PER_TURN,
    "shared stored publish": 20 * PER_TURN,
    "backend publish": 20 * PER_TURN,
    "backend stored publish": 20 * PER_TURN,
}
"""The paths in the order in which they are taken, and how often each is."""

MARK = "getppid"
"""A function of the C library that nothing else here calls: callgrind looks for it."""

_DATA = "x" * 100
_MASK = b"\x12\x34\x56\x78"
_UPGRADE = (
    b"GET /socketcluster/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def mark() -> None:
    """Tell callgrind that a path begins or ends."""
    os.getppid()


class StillLoop(asyncio.SelectorEventLoop):
    """A loop in which no time passes and nothing comes from outside."""

    def __init__(self) -> None:
        super().__init__(_NoEvents())

    def time(self) -> float:
        return 0.0


class _NoEvents(selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> list[Any]:
        return []


class MemoryTransport(asyncio.Transport):
    """One end of a connection; the other takes what is written."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        # The server writes to the socket itself where it can.
        self._socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._other.setblocking(False)
        self._protocol = protocol
        protocol.connection_made(self)

    def written(self) -> list[bytes]:
        """What was written since this was asked last, a write each."""
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._other.recv(1 << 20))
        return found

    def feed(self, data: bytes) -> None:
        """Let the server read."""
        if isinstance(self._protocol, asyncio.Protocol):
            self._protocol.data_received(data)
            return
        while data:
            buffer = self._protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            del buffer
            self._protocol.buffer_updated(size)
            data = data[size:]

    def write(self, data: Any) -> None:
        self._socket.send(data)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class MemoryEngine:
    """Listens nowhere: `connect` is what a client would do."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Any:
        """See `Engine.listen`."""
        protocol = opening_protocol(endpoint, set(), open_connection)
        config = Config(
            app,
            interface="asgi3",
            http=protocol,
            ws="websockets-sansio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            date_header=False,
            server_header=False,
        )
        config.load()
        state = ServerState()
        self.connect: Callable[[], MemoryTransport] = lambda: MemoryTransport(
            protocol(config, state, {})  # type: ignore[call-arg]
        )
        return None


def frame(**packet: Any) -> bytes:
    """A client's frame."""
    message = json.dumps(packet, separators=(",", ":")).encode()
    masked = bytes(byte ^ _MASK[i & 3] for i, byte in enumerate(message))
    size = len(message)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE, size >> 8, size & 255))
    return head + _MASK + masked


def call(procedure: str, cid: int) -> bytes:
    """A call of a procedure."""
    data = {"a": 1, "b": cid} if procedure.endswith("add") else _DATA
    return frame(event=procedure, data=data, cid=cid)


def publish(channel: str, cid: int) -> bytes:
    """A publish."""
    return frame(event="#publish", data={"channel": channel, "data": _DATA}, cid=cid)


_HANDSHAKE = frame(event="#handshake", data={"authToken": None}, cid=1)
_UPGRADE_TURNS = 2
_HANDSHAKE_TURNS = 12
_SUBSCRIBE_TURNS = 30
_TURNS = 3
_BACKEND_TURNS = 6


async def turns(count: int = 1) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class Workload:
    """A server with loops, as a user would write it, and its clients.

    All clients of a round connect in one turn: how many of them would wait for later ones depends
    on the time that a turn takes.
    """

    def __init__(self, metrics: Metrics | None = None, **options: Any) -> None:
        self.engine = MemoryEngine()
        self.server = AGServer(
            ws_engine=self.engine, handshakes_per_turn=SUBSCRIBERS, metrics=metrics, **options
        )

    def tick(self) -> None:
        """Do what the ticker does with the durations of the calls since its last tick."""
        self.server.ticker._on_late(0.0)

    async def _handle_connections(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for event in self.server.listener("connection"):
                group.create_task(self._handle(event.socket))

    async def _handle(self, socket: AGServerSocket) -> None:
        async for request in socket.procedure("echo"):
            request.end(request.data)

    async def connect(self, count: int) -> list[MemoryTransport]:
        """Clients with their handshakes done."""
        before = self.server.clients_count
        clients = [self.engine.connect() for _ in range(count)]
        for each in clients:
            each.feed(_UPGRADE)
        await turns(_UPGRADE_TURNS)
        for each in clients:
            each.feed(_HANDSHAKE)
        await turns(_HANDSHAKE_TURNS)
        assert self.server.clients_count == before + count
        return clients

    async def subscribers(self, *channels: str) -> list[MemoryTransport]:
        """A client for each channel, subscribed to it."""
        clients = await self.connect(len(channels))
        for client, channel in zip(clients, channels, strict=True):
            client.feed(frame(event="#subscribe", data={"channel": channel}, cid=2))
        await turns(_SUBSCRIBE_TURNS)
        assert all(b'"rid":2' in client.written()[-1] for client in clients)
        return clients

    async def run(self) -> None:
        """Take every path."""
        self.server.background(self._handle_connections)
        await self.server.listen(0)
        gc.collect()
        gc.freeze()
        gc.disable()
        await self.call("echo", 1, OPERATIONS["rpc"])
        await self.call("echo", IN_FLIGHT, OPERATIONS["rpc pipelined"])
        await self.publish(OPERATIONS["publish"])
        await self.deliver(OPERATIONS["delivery"])
        mark()
        for _ in range(OPERATIONS["connect"] // SIDE_BY_SIDE):
            await self.connect(SIDE_BY_SIDE)
        mark()

    async def call(self, procedure: str, at_once: int, count: int) -> None:
        """Calls, `at_once` of each client in one read."""
        callers = await self.connect(SIDE_BY_SIDE)
        reads = [
            b"".join(call(procedure, cid) for cid in range(start, start + at_once))
            for start in range(0, count // SIDE_BY_SIDE, at_once)
        ]
        await say(callers, [reads[0]] * SIDE_BY_SIDE)
        mark()
        for read in reads:
            await say(callers, [read] * SIDE_BY_SIDE)
        self.tick()
        mark()
        last = f'"rid":{count // SIDE_BY_SIDE - 1},'.encode()
        assert all(last in caller.written()[-1] for caller in callers)

    async def publish(self, count: int) -> None:
        """Publishes, each to one subscriber."""
        channels = [f"channel-{number}" for number in range(SIDE_BY_SIDE)]
        publishers = await self.connect(SIDE_BY_SIDE)
        subscribers = await self.subscribers(*channels)
        rounds = [
            [publish(channel, cid) for channel in channels] for cid in range(count // SIDE_BY_SIDE)
        ]
        await say(publishers, rounds[0])
        assert [len(each.written()) for each in subscribers] == [1] * SIDE_BY_SIDE
        mark()
        for each in rounds:
            await say(publishers, each)
        mark()
        assert sum(len(each.written()) for each in subscribers) == count

    async def deliver(self, count: int) -> None:
        """Publishes to many subscribers; a delivery to one of them is the operation."""
        publishers = await self.connect(1)
        crowd = await self.subscribers(*["crowd"] * SUBSCRIBERS)
        publishes = [publish("crowd", cid) for cid in range(count // SUBSCRIBERS)]
        await say(publishers, publishes[:1])
        assert [len(each.written()) for each in crowd] == [1] * SUBSCRIBERS
        mark()
        for each in publishes:
            await say(publishers, [each])
        mark()
        assert sum(len(each.written()) for each in crowd) == count


class Add(msgspec.Struct):
    """The data of a call."""

    a: int
    b: int


class HandlerWorkload(Workload):
    """A server with handlers, and its clients."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        super().__init__(metrics)

        @self.server.procedure("echo")
        def echo(data: str) -> str:
            return data

        @self.server.procedure("plain-add")
        def plain_add(data: Any) -> int:
            return int(data["a"] + data["b"])

        @self.server.procedure("typed-add")
        def typed_add(data: Add) -> int:
            return data.a + data.b

        @self.server.procedure("async-echo")
        async def async_echo(data: str) -> str:
            return data

    async def run(self) -> None:
        """Take every path."""
        await self.server.listen(0)
        gc.collect()
        gc.freeze()
        await self.call("echo", 1, OPERATIONS["handler"])
        await self.call("echo", IN_FLIGHT, OPERATIONS["handler pipelined"])
        await self.call("plain-add", 1, OPERATIONS["plain add"])
        await self.call("typed-add", 1, OPERATIONS["typed add"])
        await self.call("async-echo", 1, OPERATIONS["async handler"])
        await self.call("async-echo", IN_FLIGHT, OPERATIONS["async handler pipelined"])


_EPOCH = "0123456789abcdef"


class MemoryLink:
    """A connector and its link. The envelopes are made before the counting begins."""

    name = "memory"

    def __init__(self, count: int) -> None:
        self._listener: LinkListener
        payload = json.dumps(_DATA).encode()
        numbers = range(1, count + 1)
        self._envelopes = iter([envelop_stored(_EPOCH, n, n - 1, payload) for n in numbers])

    async def connect(self, listener: LinkListener) -> MemoryLink:
        """See `Connector`."""
        self._listener = listener
        return self

    def publish(self, publishes: Sequence[Publish]) -> None:
        """See `Link`."""
        asyncio.get_running_loop().call_soon(
            self._deliver, publishes, [publish.payload for publish in publishes]
        )

    def publish_stored(self, publishes: Sequence[Publish]) -> None:
        """See `StoringLink`."""
        envelopes = [next(self._envelopes) for _ in publishes]
        asyncio.get_running_loop().call_soon(self._deliver, publishes, envelopes)

    def _deliver(self, publishes: Sequence[Publish], messages: list[bytes]) -> None:
        for publish, message in zip(publishes, messages, strict=True):
            self._listener.message_received(publish.channel, message)
        self._listener.publishes_confirmed(publishes)

    async def history(self, *request: Any) -> Page:
        """See `StoringLink`: nothing is stored yet."""
        return Page([], Position(_EPOCH, 0), True)

    async def subscribe(self, channels: Sequence[str]) -> dict[str, Any]:
        """See `Link`."""
        return {}

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Link`."""

    async def check(self) -> None:
        """See `Link`."""

    async def close(self) -> None:
        """See `Link`."""


class SharingWorkload(Workload):
    """A server with a rule for history, and publishers that share turns of the loop."""

    paths = ("shared publish", "shared stored publish")

    def __init__(self, metrics: Metrics | None = None, **options: Any) -> None:
        rule = ChannelRule("stored", history=History(size=100, ttl=300))
        super().__init__(metrics, channels=[rule], **options)

    async def run(self) -> None:
        """Take every path."""
        await self.server.listen(0)
        gc.collect()
        gc.freeze()
        for channel, path in zip(("plain", "stored"), self.paths, strict=True):
            await self.share_turns(channel, OPERATIONS[path])

    async def share_turns(self, channel: str, count: int) -> None:
        """Publishes of ten clients in each turn, to one channel with one subscriber."""
        publishers = await self.connect(PER_TURN)
        (subscriber,) = await self.subscribers(channel)
        rounds = [[publish(channel, cid)] * PER_TURN for cid in range(count // PER_TURN + 1)]
        await say(publishers, rounds[0], _BACKEND_TURNS)
        assert b"".join(subscriber.written()).count(b'"#publish"') == PER_TURN
        mark()
        for each in rounds[1:]:
            await say(publishers, each, _BACKEND_TURNS)
        mark()
        assert b"".join(subscriber.written()).count(b'"#publish"') == count
        last = f'"rid":{count // PER_TURN}}}'.encode()
        assert all(last in publisher.written()[-1] for publisher in publishers)


class BackendWorkload(SharingWorkload):
    """The same over a backend, whose own work is not counted."""

    paths = ("backend publish", "backend stored publish")

    def __init__(self, metrics: Metrics | None = None) -> None:
        link = MemoryLink(OPERATIONS["backend stored publish"] + PER_TURN)
        super().__init__(metrics, broker_engine=RemoteBroker(link, BrokerOptions()))


async def say(clients: list[MemoryTransport], frames: list[bytes], count: int = _TURNS) -> None:
    """Have a frame of each client read, and what it asks for done."""
    for client, each in zip(clients, frames, strict=True):
        client.feed(each)
    await turns(count)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=StillLoop) as runner:
        for kind in (Workload, HandlerWorkload, SharingWorkload, BackendWorkload):
            runner.run(kind(Metrics(path=None) if "metrics" in sys.argv else None).run())
