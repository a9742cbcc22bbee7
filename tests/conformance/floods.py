"""What a client sends without end, and what a server carries out in one loop turn."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from websockets.frames import Frame, Opcode

from support import soon

REQUEST = (
    b"GET /socketcluster/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Turns:
    """Counts something per loop turn, as long as it is entered.

    Attributes:
        most: the highest count of any turn.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._known = 0
        self.most = 0

    def __enter__(self) -> Turns:
        self._loop = asyncio.get_running_loop()
        self._known = self._count()
        self._handle = self._loop.call_soon(self._next)
        return self

    def _next(self) -> None:
        count = self._count()
        self.most = max(self.most, count - self._known)
        self._known = count
        self._handle = self._loop.call_soon(self._next)

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()


class Raw:
    """A client that writes bytes."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self, port: int, path: bytes = b"/socketcluster/", extra: bytes = b"") -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        request = REQUEST.replace(b"/socketcluster/", path).replace(b"Host: a", b"Host: a" + extra)
        self.writer.write(request)
        await soon(self.reader.readuntil(b"\r\n\r\n"))

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def drain(self) -> None:
        """Throw away all that comes."""
        with contextlib.suppress(OSError):
            while await self.reader.read(1 << 20):
                pass

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def masked(data: bytes | str, opcode: Opcode = Opcode.TEXT, fin: bool = True) -> bytes:
    """A client's frame."""
    data = data.encode() if isinstance(data, str) else data
    return Frame(opcode, data, fin).serialize(mask=True)


def packet(**fields: Any) -> str:
    """A packet."""
    return json.dumps(fields)
