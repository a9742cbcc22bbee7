"""The probes of orchestrators: `/health/live` and `/health/ready`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socketcluster.engines.base import ASGIScope, ASGISend
from socketcluster.errors import BrokerError

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer

LIVE = "/health/live"
READY = "/health/ready"


class Health:
    """Answers the probes of one server.

    Live: its event loop turns. Ready: it accepts clients, and a message has just gone through the
    broker and come back. Why it is not ready is told by events and the log, not to whoever asks.
    """

    __slots__ = ("_checking", "_server")

    def __init__(self, server: AGServer) -> None:
        self._server = server
        self._checking: asyncio.Task[bool] | None = None

    def is_probe(self, scope: ASGIScope) -> bool:
        """Whether a request is one of the probes."""
        return (
            scope["type"] == "http"
            and scope["path"] in (LIVE, READY)
            and scope["method"] in ("GET", "HEAD")
        )

    async def answer(self, scope: ASGIScope, send: ASGISend) -> None:
        """Answer a probe: 200 or 503."""
        well = scope["path"] == LIVE or await self._ready()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        start = {"type": "http.response.start", "status": 200 if well else 503, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": b"ok" if well else b"unavailable"})

    async def _ready(self) -> bool:
        if not self._server.is_ready:
            return False
        if self._checking is None or self._checking.done():  # However many ask at once.
            self._checking = asyncio.ensure_future(self._check())
        return await asyncio.shield(self._checking)

    async def _check(self) -> bool:
        try:
            await self._server.exchange.broker.check()
        except BrokerError:
            return False
        return self._server.is_ready
