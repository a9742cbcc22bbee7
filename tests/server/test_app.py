"""AGServer as an ASGI application: alone, in front of another, and mounted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import socketcluster
from socketcluster import AGServer
from socketcluster.engines.base import ListenAddress
from socketcluster.engines.guard import GuardedHttp
from socketcluster.engines.uvicorn_host import UvicornListener
from socketcluster.testing.echo import EchoEndpoint
from support import Client, soon, until


@asynccontextmanager
async def hosted(app: Any) -> AsyncIterator[int]:
    """An application on a uvicorn that knows nothing of us; its port."""
    listener = UvicornListener(EchoEndpoint(), app, ListenAddress(port=0), GuardedHttp, set())
    await listener.start()
    assert listener.port is not None
    try:
        yield listener.port
    finally:
        await listener.close()


async def http(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    answer: bytes = await soon(reader.read())
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("path", ["/socketcluster/", "/socketcluster"])
async def test_alone(path: str) -> None:
    server = AGServer(drain_timeout=100)
    async with hosted(server) as port:
        assert server.is_ready
        async with websockets.connect(f"ws://127.0.0.1:{port}{path}") as ws:
            client = Client(ws)
            await client.handshake()
            assert server.clients_count == 1
            await client.close()
        assert b" 404 " in await http(port, "/")
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"ws://127.0.0.1:{port}/other")
    assert not server.is_ready


async def test_in_front_of_an_application() -> None:
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        started.append("up")
        yield
        started.append("down")

    app = Starlette(routes=[Route("/", lambda r: PlainTextResponse("home"))], lifespan=lifespan)
    server = socketcluster.attach(app, drain_timeout=100)
    async with hosted(server) as port:
        assert (await http(port, "/")).endswith(b"home")
        async with websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/") as ws:
            client = Client(ws)
            await client.handshake()
            await client.close()
        await until(lambda: server.clients_count == 0)
    assert started == ["up", "down"]


async def test_mounted() -> None:
    server = AGServer(drain_timeout=100)
    app = Starlette(routes=[Mount("/socketcluster", server)])
    async with hosted(app) as port:
        async with websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/") as ws:
            client = Client(ws)
            await client.handshake()
            assert server.is_ready
            await client.close()
        await server.close()
        assert server.clients_count == 0
