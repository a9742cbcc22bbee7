"""The server that is measured, written as any user of the package would write it.

`socketcluster serve app:plain` runs it; the other functions make it with one thing changed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from socketcluster import AGServer, AGServerSocket
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.middleware import MiddlewareStream


def plain(**options: Any) -> AGServer:
    """Calls of "echo" are answered with their data; the rest is the default."""
    server = AGServer(**options)

    @server.background
    async def handle_connections() -> None:
        async with asyncio.TaskGroup() as group:
            async for event in server.listener("connection"):
                group.create_task(handle(event.socket))

    return server


async def handle(socket: AGServerSocket) -> None:
    """One client."""
    async for request in socket.procedure("echo"):
        request.end(request.data)


def asgi() -> AGServer:
    """On uvicorn's own WebSocket implementation."""
    return plain(ws_engine="asgi")


def inbound_middleware() -> AGServer:
    """Everything that comes in passes a function."""
    server = plain()
    server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    return server


def outbound_middleware() -> AGServer:
    """Every publish passes a function on its way to each subscriber."""
    server = plain()
    server.set_middleware(server.MIDDLEWARE_OUTBOUND, allow)
    return server


async def allow(stream: MiddlewareStream) -> None:
    """Let everything through."""
    async for action in stream:
        action.allow()


def min_bin() -> AGServer:
    """MessagePack instead of JSON."""
    return plain(codec_engine=MinBinCodec())


def deflate() -> AGServer:
    """Messages from 1 KiB on are compressed."""
    return plain(per_message_deflate=True)
