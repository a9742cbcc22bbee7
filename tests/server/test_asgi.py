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
from uvicorn import Config, Server

import socketcluster
from socketcluster import AGServer
from socketcluster.engines import request_limits
from socketcluster.engines.base import ListenAddress
from socketcluster.engines.bound_socket import bind
from support import Client, soon, until

GUARDED = {
    "http": "socketcluster.engines.uvicorn_limits:GuardedHttp",
    "ws": "socketcluster.engines.uvicorn_limits:GuardedWebSocket",
}


@asynccontextmanager
async def hosted(app: Any, **options: Any) -> AsyncIterator[int]:
    """An application on a uvicorn that knows nothing of us; its port."""
    config = Config(app, log_config=None, **options)
    config.load()
    uvicorn = Server(config)
    uvicorn.lifespan = config.lifespan_class(config)
    listening = bind(ListenAddress(port=0))
    await uvicorn.startup(sockets=[listening])
    try:
        yield listening.getsockname()[1]
    finally:
        await uvicorn.shutdown(sockets=[listening])


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


@pytest.mark.parametrize("options", [{}, GUARDED], ids=["plain", "guarded"])
async def test_the_path_without_an_upgrade(options: Any) -> None:
    server = AGServer(drain_timeout=100)
    async with hosted(server, **options) as port:
        for path in ("/socketcluster/", "/socketcluster"):
            answer = await http(port, path)
            assert b" 426 " in answer.splitlines()[0]
            assert b"\r\nupgrade: websocket\r\n" in answer
        assert b" 404 " in await http(port, "/other")
    outer = Starlette(routes=[Mount("/socketcluster", AGServer())])
    async with hosted(outer, **options) as port:
        assert b" 426 " in await http(port, "/socketcluster/")
        assert b" 404 " in await http(port, "/socketcluster/other")


@pytest.mark.parametrize(
    ("options", "trusted", "expected"),
    [
        # uvicorn believes proxies of its own machine, and says so in the scope.
        ({}, [], "6.6.6.6"),
        ({}, ["127.0.0.1"], "6.6.6.6"),
        ({"proxy_headers": False}, [], "127.0.0.1"),
        ({"proxy_headers": False}, ["127.0.0.1"], "6.6.6.6"),
    ],
)
async def test_the_address_of_a_client(options: Any, trusted: list[str], expected: str) -> None:
    server = AGServer(trusted_proxies=trusted, drain_timeout=100)
    async with hosted(server, **options) as port:
        headers = {"X-Forwarded-For": "1.1.1.1, 6.6.6.6"}
        url = f"ws://127.0.0.1:{port}/socketcluster/"
        async with websockets.connect(url, additional_headers=headers) as ws:
            await until(lambda: server.pending_clients_count == 1)
            (socket,) = server.pending_clients.values()
            assert socket.client_address == expected
            await ws.close()
            await until(lambda: server.pending_clients_count == 0)


async def test_the_limits_on_heads_can_be_given_to_a_uvicorn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guarantee 4."""
    server = AGServer(drain_timeout=100)
    async with hosted(server, **GUARDED) as port:
        url = f"ws://127.0.0.1:{port}/socketcluster/"
        async with websockets.connect(url, additional_headers={"X": "x" * 60_000}) as ws:
            client = Client(ws)
            await client.handshake()
            await client.close()
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url, additional_headers={"X": "x" * 70_000})
        assert refused.value.response.status_code == 431
        monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await soon(reader.read()) == b""
        writer.close()
