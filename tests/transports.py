"""WebSockets of tests: over TCP to a server that listens, in memory to one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from socketcluster import AGServer
from socketcluster.engines.base import Connection, UpgradeRefusedError
from socketcluster.engines.connector import ConnectRequest
from socketcluster.protocol.frames import binary_frame, text_frame
from socketcluster.testing import Clock
from socketcluster.testing.memory import MemoryConnection, join

HIGH_WATER = 64 * 1024
"""Bytes on their way past which sending waits."""


class Refused(Exception):
    """The upgrade was answered with another HTTP status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class MemoryWebSocket:
    """What tests use of a `ClientConnection` of websockets, in memory."""

    transport: MemoryConnection

    def __init__(self) -> None:
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._closed = asyncio.Event()
        self.close_timeout: float | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.subprotocol: str | None = None

    # From the connection

    def connection_made(self, connection: Connection) -> None:
        assert isinstance(connection, MemoryConnection)
        self.transport = connection

    def text_received(self, data: bytes) -> None:
        self._messages.put_nowait(data.decode())

    def binary_received(self, data: bytes) -> None:
        self._messages.put_nowait(data)

    def connection_lost(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._messages.put_nowait(None)
        self._closed.set()

    # To the test

    async def send(self, message: str | bytes) -> None:
        text = isinstance(message, str)
        frame = text_frame(message.encode()) if text else binary_frame(message)  # type: ignore[union-attr,arg-type]
        self.transport.write([frame])
        while self.transport.get_write_buffer_size() > HIGH_WATER:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if self._closed.is_set():
            raise websockets.ConnectionClosedError(None, None)

    async def recv(self) -> str | bytes:
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)
            raise websockets.ConnectionClosedError(None, None)
        return message

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        try:
            while True:
                yield await self.recv()
        except websockets.ConnectionClosed:
            return

    async def ping(self) -> Awaitable[float]:
        """What is done when all that was sent has been read."""
        return asyncio.ensure_future(self._read())

    async def _read(self) -> float:
        while self.transport.get_write_buffer_size():  # noqa: ASYNC110
            await asyncio.sleep(0)
        return 0.0

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.transport.close(code, reason)
        await self.wait_closed()


WebSocket = ClientConnection | MemoryWebSocket


def url(server: AGServer) -> str:
    """Where a listening server is."""
    return f"ws://127.0.0.1:{server.source_port}{server.path}"


async def dial(
    server: AGServer,
    query: str = "",
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    additional_headers: Mapping[str, str] | None = None,
    **options: Any,
) -> WebSocket:
    """A WebSocket to a server; `options` are of websockets' alone.

    Raises:
        Refused: the upgrade was refused.
    """
    headers = dict(additional_headers or {})
    if origin is not None:
        headers["Origin"] = origin
    if server.source_port is None:
        if subprotocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(subprotocols)
        request = ConnectRequest(
            f"ws://127.0.0.1{server.path}{query}", 1024 * 1024, headers=headers
        )
        ws = MemoryWebSocket()
        try:
            accepted, _ = await join(server.endpoint, request, ws)
        except UpgradeRefusedError as refusal:
            raise Refused(refusal.status, refusal.message.encode()) from refusal
        ws.subprotocol = accepted.subprotocol
        return ws
    try:
        return await websockets.connect(
            url(server) + query,
            subprotocols=[websockets.Subprotocol(name) for name in subprotocols] or None,
            additional_headers=headers,
            **options,
        )
    except websockets.InvalidStatus as error:
        raise Refused(error.response.status_code, bytes(error.response.body or b"")) from error


def on_a_clock() -> bool:
    """Whether the running loop's time is that of `testing.clock`."""
    return isinstance(getattr(asyncio.get_running_loop().time, "__self__", None), Clock)


def more_than_fits(server: AGServer) -> int:
    """Bytes that nothing on the way takes in when a server does not read: over TCP the kernel has
    buffers of many megabytes."""
    return 20_000_000 if server.source_port is not None else 1_000_000


def send_at_once(ws: WebSocket, messages: Sequence[str]) -> None:
    """Send messages in one TCP segment, or what is one in memory."""
    if isinstance(ws, MemoryWebSocket):
        ws.transport.write([text_frame(message.encode()) for message in messages])
    else:
        frames = [Frame(Opcode.TEXT, message.encode()) for message in messages]
        ws.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
