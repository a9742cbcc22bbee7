"""Endpoints that listen on an engine, for the tests of engines."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.frames import Frame, Opcode

from socketcluster.engines.base import (
    Accepted,
    DeflateOptions,
    ListenAddress,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.engines.registry import resolve_engine
from socketcluster.testing.echo import EchoEndpoint, EchoHandler

FRAME_ABC = Frame(Opcode.TEXT, b"abc").serialize(mask=True)


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"none"})


class Handler(EchoHandler):
    """Echoes and remembers."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.lost: list[tuple[int, str]] = []
        self.echoing = True

    def text_received(self, data: bytes) -> None:
        self.messages.append(("text", data))
        if self.echoing:
            super().text_received(data)

    def binary_received(self, data: bytes) -> None:
        self.messages.append(("binary", data))
        if self.echoing:
            super().binary_received(data)

    def connection_lost(self, code: int, reason: str) -> None:
        self.lost.append((code, reason))


class Endpoint(EchoEndpoint):
    """Remembers its handlers and requests."""

    path = "/ws/"

    def __init__(self, deflate: DeflateOptions | None = None, max_payload: int = 100_000) -> None:
        super().__init__(deflate, max_payload)
        self.max_outbound_buffer = 1_000_000
        self.handlers: list[Handler] = []
        self.requests: list[UpgradeRequest] = []
        self.gate: asyncio.Event | None = None
        self.refusal: UpgradeRefusedError | None = None
        self.cancelled = 0

    async def open(self, request: UpgradeRequest) -> Accepted:
        self.requests.append(request)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.refusal is not None:
            raise self.refusal
        self.handlers.append(Handler())
        return Accepted(self.handlers[-1], "b" if "b" in request.subprotocols else None)


class Site:
    """An endpoint that listens."""

    def __init__(self, engine: str) -> None:
        self.engine = resolve_engine(engine, {})
        self.listeners: list[Any] = []
        self.endpoint = Endpoint()

    async def listen(self, endpoint: Endpoint | None = None, app: Any = no_app, **at: Any) -> str:
        self.endpoint = endpoint or self.endpoint
        self.listeners.append(
            await self.engine.listen(self.endpoint, app, ListenAddress(port=0, **at))
        )
        self.port = self.listeners[-1].port
        return f"ws://127.0.0.1:{self.port}/ws/"


REQUEST = (
    b"GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
