"""Health probes for orchestrators: `/health/live` and `/health/ready`."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from socketcluster.engines.base import ASGIScope, ASGISend
from socketcluster.errors import BrokerError
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.server.lifecycle import Lifecycle

LIVE = "/health/live"
READY = "/health/ready"


class Health:
    """Answers the probes of one server.

    Live: the event loop turns. Ready: the server accepts clients, and a message has just made the
    round trip through the broker. `?broker=0` leaves the broker out, and `?broker=1` asks it even
    with `ready_without_broker`. The text of a 503 is "draining" while the server closes; why the
    broker is not reached is in the events and the log only.
    """

    __slots__ = ("_asks_broker", "_checking", "_exchange", "_lifecycle")

    def __init__(
        self, lifecycle: Lifecycle, exchange: AGExchange, ready_without_broker: bool
    ) -> None:
        self._asks_broker = not ready_without_broker
        self._lifecycle = lifecycle
        self._exchange = exchange
        self._checking: asyncio.Task[bool] | None = None

    def serves(self, scope: ASGIScope) -> bool:
        """Whether a request is one of the probes."""
        return (
            scope["type"] == "http"
            and scope["path"] in (LIVE, READY)
            and scope["method"] in ("GET", "HEAD")
        )

    async def answer(self, scope: ASGIScope, send: ASGISend) -> None:
        """Answer a probe: 200 or 503."""
        healthy = scope["path"] == LIVE or await self._ready(scope)
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        start = {
            "type": "http.response.start",
            "status": 200 if healthy else 503,
            "headers": headers,
        }
        await send(start)
        unhealthy = b"draining" if self._lifecycle.is_closing else b"unavailable"
        await send({"type": "http.response.body", "body": b"ok" if healthy else unhealthy})

    async def _ready(self, scope: ASGIScope) -> bool:
        if not self._lifecycle.is_ready:
            return False
        asked = parse_qs(scope.get("query_string", b"")).get(b"broker")
        if not (self._asks_broker if asked is None else asked[-1] != b"0"):
            return True
        # Probes that arrive during a check share it.
        if self._checking is None or self._checking.done():
            self._checking = asyncio.ensure_future(self._check())
        return await asyncio.shield(self._checking)

    async def _check(self) -> bool:
        try:
            await self._exchange.broker.check()
        except BrokerError:
            return False
        return self._lifecycle.is_ready
