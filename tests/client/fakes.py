"""Fake servers that each test scripts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.server import ServerConnection, serve

Handle = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One client of a fake server: packets as dicts."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.received: list[Any] = []

    async def receive(self) -> Any:
        """Return the next packet, skipping pongs."""
        while not (message := await self.ws.recv()):
            pass
        packet = json.loads(message)
        self.received.append(packet)
        return packet

    async def call(self, event: str) -> Any:
        """Return the next packet of an event, skipping others."""
        while (packet := await self.receive()).get("event") != event:
            pass
        return packet

    async def send(self, packet: Any) -> None:
        """Send a packet, or a raw message."""
        raw = isinstance(packet, str | bytes)
        await self.ws.send(packet if raw else json.dumps(packet))

    async def handshake(self, **status: Any) -> Any:
        """Answer the handshake, and return its packet."""
        packet = await self.call("#handshake")
        data = {"id": "fake", "pingTimeout": 20000, "isAuthenticated": False, **status}
        await self.send({"rid": packet["cid"], "data": data})
        return packet


@asynccontextmanager
async def fake_server(handle: Handle, **options: Any) -> AsyncIterator[int]:
    """The port of a WebSocket server that runs `handle(peer)` for each client."""

    async def connected(ws: ServerConnection) -> None:
        try:
            await handle(Peer(ws))
            await ws.wait_closed()
        except websockets.ConnectionClosed:
            pass

    options = {"compression": None, "close_timeout": 0.2, **options}
    async with serve(connected, "127.0.0.1", 0, **options) as server:
        (socket,) = server.sockets
        yield socket.getsockname()[1]


Stream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handle: Stream, **options: Any) -> AsyncIterator[int]:
    """The port of a server that runs `handle(reader, writer)` for each connection."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the upgrade request of a connection."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(
        line.split(":", 1)[1].strip()
        for line in request.split("\r\n")
        if line.lower().startswith("sec-websocket-key")
    )
    accept = base64.b64encode(
        hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    ).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
