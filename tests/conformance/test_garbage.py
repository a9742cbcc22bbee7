"""A lost connection frees what it held at once: the garbage collector is off in these tests, and
the handlers, with their connections, are kept."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode

from conformance.floods import Raw, masked, packet
from socketcluster import AGServer, AGServerSocket
from socketcluster.engines.base import Accepted, DeflateOptions, ListenAddress, UpgradeRequest
from socketcluster.engines.connector import ConnectRequest
from socketcluster.engines.registry import resolve_engine
from socketcluster.protocol.frames import binary_frame
from socketcluster.testing.echo import EchoEndpoint, EchoHandler
from socketcluster.testing.memory import join
from support import soon, until

ENGINES = ("picows", "asgi")
CLIENTS = 10
SIZE = 300_000
KEPT = 40_000
"""Bytes of a closed connection that somebody keeps: objects, but no buffer."""

OFFER = b"\r\nSec-WebSocket-Extensions: permessage-deflate"
TAKEOVER = DeflateOptions(
    threshold=0, server_no_context_takeover=False, client_no_context_takeover=False
)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


class Handler(EchoHandler):
    def __init__(self) -> None:
        self.count = 0
        self.is_lost = False

    def text_received(self, data: bytes) -> None:
        self.count += 1
        super().text_received(data)

    def connection_lost(self, code: int, reason: str) -> None:
        self.is_lost = True


class Endpoint(EchoEndpoint):
    path = "/socketcluster/"

    def __init__(self, deflate: DeflateOptions | None) -> None:
        super().__init__(deflate, 1 << 20)
        self.handlers: list[Handler] = []

    async def open(self, request: UpgradeRequest) -> Accepted:
        self.handlers.append(Handler())
        return Accepted(self.handlers[-1])


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(scope["type"])


@pytest.fixture(params=ENGINES)
async def listening(request: Any) -> AsyncIterator[Any]:
    listeners: list[Any] = []

    async def listen(endpoint: Endpoint) -> int:
        engine = resolve_engine(request.param, {})
        listeners.append(await engine.listen(endpoint, no_app, ListenAddress(port=0)))
        port: int = listeners[-1].port
        return port

    yield listen
    for listener in listeners:
        await listener.close()


def compressed(text: bytes, compress: Any) -> bytes:
    data = compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(masked(data[:-4]))
    frame[0] |= 0x40
    return bytes(frame)


HALVES = {
    "half a frame": masked(b"x" * SIZE, Opcode.BINARY)[:-1],
    "half a message": masked(b"x" * SIZE, Opcode.BINARY, fin=False),
    "many fragments": masked(b"", Opcode.BINARY, fin=False)
    + masked(b"x" * 1000, Opcode.CONT, fin=False) * (SIZE // 1000),
    "a whole message": masked(b"x" * SIZE, Opcode.BINARY),
}


async def held_after(port: int, endpoint: Endpoint, frames: bytes, extra: bytes, how: str) -> int:
    """Bytes that are held for connections that were lost after they had received frames."""
    before = tracemalloc.get_traced_memory()[0]
    clients = [Raw() for _ in range(CLIENTS)]
    first = len(endpoint.handlers)
    for client in clients:
        await client.open(port, extra=extra)
        client.send(masked("first"), frames)
    handlers = endpoint.handlers[first:]
    await until(lambda: all(each.count for each in handlers))
    for _ in range(50):
        await asyncio.sleep(0)
    if how == "aborted by the client":
        for client in clients:
            await client.close()
    else:
        for each in handlers:
            each.connection.abort()
        for client in clients:
            await soon(client.drain())
            await client.close()
    await until(lambda: all(each.is_lost for each in handlers))
    del clients, client
    for _ in range(10):
        await asyncio.sleep(0)
    return tracemalloc.get_traced_memory()[0] - before


@pytest.mark.parametrize("how", ["aborted by the client", "aborted here"])
@pytest.mark.parametrize("half", HALVES)
async def test_what_was_received_is_freed(listening: Any, half: str, how: str) -> None:
    endpoint = Endpoint(None)
    port = await listening(endpoint)
    await held_after(port, endpoint, HALVES[half], b"", how)  # What is made once.
    assert await held_after(port, endpoint, HALVES[half], b"", how) < CLIENTS * KEPT


@pytest.mark.parametrize("how", ["aborted by the client", "aborted here"])
async def test_the_state_of_deflate_is_freed(listening: Any, how: str) -> None:
    endpoint = Endpoint(TAKEOVER)
    port = await listening(endpoint)
    states: list[weakref.ref[PerMessageDeflate]] = []
    original = PerMessageDeflate.__init__

    def remember(self: PerMessageDeflate, *args: Any, **kwargs: Any) -> None:
        states.append(weakref.ref(self))
        original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PerMessageDeflate, "__init__", remember)
        for _ in range(2):
            compress = zlib.compressobj(wbits=-12)
            frames = compressed(b"hello" * 100, compress)
            half = bytearray(masked(compress.compress(b"x" * 5000), fin=False))
            half[0] |= 0x40
            held = await held_after(port, endpoint, frames + bytes(half), OFFER, how)
    assert len(states) >= 2 * CLIENTS
    assert [each for each in states if each() is not None] == []
    assert held < CLIENTS * KEPT


@pytest.mark.parametrize("how", ["aborted by the client", "aborted here"])
async def test_what_was_to_be_sent_is_freed(listening: Any, how: str) -> None:
    endpoint = Endpoint(None)
    port = await listening(endpoint)

    async def round() -> int:
        before = tracemalloc.get_traced_memory()[0]
        client = Raw()
        await client.open(port)
        client.send(masked("first"))
        handler = endpoint.handlers[-1]
        await until(lambda: handler.count == 1)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            handler.connection.write([binary_frame(b"x" * 100_000)])
        await asyncio.sleep(0)
        if how == "aborted by the client":
            await client.close()
        else:
            handler.connection.abort()
        await until(lambda: handler.is_lost)
        await client.close()
        del client
        for _ in range(10):
            await asyncio.sleep(0)
        return tracemalloc.get_traced_memory()[0] - before

    await round()
    assert await round() < KEPT + 70_000  # What the client's own reader has.


async def test_ends_in_memory_are_freed() -> None:
    before = tracemalloc.get_traced_memory()[0]
    gone = await lost_in_memory()
    assert [each() for each in gone] == [None] * 3
    assert tracemalloc.get_traced_memory()[0] - before < KEPT


async def lost_in_memory() -> list[weakref.ref[Any]]:
    endpoint = Endpoint(None)
    request = ConnectRequest("ws://localhost/socketcluster/", 1 << 20)
    handler = Handler()
    here = (await join(endpoint, request, handler))[1]
    there = endpoint.handlers[0].connection
    there.pause_reading()
    here.write([binary_frame(b"x" * SIZE)])
    here.abort()
    await until(lambda: handler.is_lost and endpoint.handlers[0].is_lost)
    await asyncio.sleep(0)
    return [weakref.ref(each) for each in (endpoint, handler, endpoint.handlers[0])]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_closed_socket_keeps_no_messages(make_server: Any, engine: str) -> None:
    """The socket is kept, as an application may do; what it received and had to send is not."""
    server: AGServer = await make_server(ws_engine=engine)
    kept = [await closed_socket(server)]
    before = tracemalloc.get_traced_memory()[0]
    kept.append(await closed_socket(server))
    assert tracemalloc.get_traced_memory()[0] - before < 2 * KEPT


async def closed_socket(server: AGServer) -> AGServerSocket:
    client = Raw()
    assert server.source_port is not None
    await client.open(server.source_port)
    client.send(masked(packet(event="#handshake", data={}, cid=1)))
    await until(lambda: server.clients_count == 1)
    (socket,) = server.clients.values()
    client.send(HALVES["half a message"])
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(20):
        socket.transmit("large", "x" * 100_000)
        await asyncio.sleep(0)
    await client.close()
    await until(lambda: socket.state == "closed")
    del client
    for _ in range(10):
        await asyncio.sleep(0)
    return socket
