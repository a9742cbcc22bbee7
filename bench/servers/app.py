"""The measured server, written as a user of the package would write it.

`socketcluster serve app:plain` runs it. The other functions change one option each.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from socketcluster import AGServer, AGServerSocket
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.middleware import MiddlewareStream


def plain(**options: Any) -> AGServer:
    """Create a server that answers calls of "echo" with their data, with default options."""
    server = AGServer(**options)

    @server.background
    async def handle_connections() -> None:
        async with asyncio.TaskGroup() as group:
            async for event in server.listener("connection"):
                group.create_task(handle(event.socket))

    return server


async def handle(socket: AGServerSocket) -> None:
    """Answer the calls of one client."""
    async for request in socket.procedure("echo"):
        request.end(request.data)


class Add(msgspec.Struct):
    """The data of a call of "add"."""

    a: int
    b: int


def handlers() -> AGServer:
    """Create a server that answers calls with handlers, with default options."""
    server = AGServer()

    @server.procedure("echo")
    def echo(data: str) -> str:
        return data

    @server.procedure("add")
    def add(data: Add) -> int:
        return data.a + data.b

    return server


def async_handlers() -> AGServer:
    """Create a server that answers calls of "echo" with an async handler."""
    server = AGServer()

    @server.procedure("echo")
    async def echo(data: str) -> str:
        return data

    return server


def asgi() -> AGServer:
    """Create the server with uvicorn's own WebSocket implementation."""
    return plain(ws_engine="asgi")


def inbound_middleware() -> AGServer:
    """Create the server with a middleware function for inbound actions."""
    server = plain()
    server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    return server


def outbound_middleware() -> AGServer:
    """Create the server with a middleware function for each delivery to a subscriber."""
    server = plain()
    server.set_middleware(server.MIDDLEWARE_OUTBOUND, allow)
    return server


async def allow(stream: MiddlewareStream) -> None:
    """Allow every action."""
    async for action in stream:
        action.allow()


def min_bin() -> AGServer:
    """Create the server with MessagePack instead of JSON."""
    return plain(codec_engine=MinBinCodec())


def deflate() -> AGServer:
    """Create the server with compression of messages from 1 KiB on."""
    return plain(per_message_deflate=True)


def capacity() -> AGServer:
    """Create a server whose clients have tokens, for `bench.capacity`."""
    return AGServer(auth_key="k" * 32)
