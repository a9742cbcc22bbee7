"""The metrics over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client.registry import Collector

from socketcluster.engines.base import ASGIReceive, ASGIScope, ASGISend
from socketcluster.engines.http_answers import Response, own_path, refusal, send_response
from socketcluster.metrics.exposition import exposition
from socketcluster.runtime.reporting import Reporter

_FAILED: Response = (
    500,
    [(b"content-type", b"text/plain; charset=utf-8")],
    b"The metrics could not be collected: see the log of the server",
)
_NOT_FOUND: Response = (404, [(b"content-type", b"text/plain; charset=utf-8")], b"Not Found")


class MetricsSite:
    """Answers scrapers.

    `collect` gathers the metrics; their text is made in a thread. A collector that fails is logged
    and answered with 500, and the next scrape asks it again.
    """

    __slots__ = ("_collect", "_path", "_reporter", "_token")

    def __init__(
        self,
        path: str,
        token: str | None,
        collect: Callable[[], Awaitable[Collector]],
        reporter: Reporter,
    ) -> None:
        self._path = path
        self._token = token
        self._collect = collect
        self._reporter = reporter

    def serves(self, scope: ASGIScope) -> bool:
        """Whether a request is for the metrics."""
        return (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and own_path(scope) == self._path
        )

    async def answer(self, scope: ASGIScope, send: ASGISend) -> None:
        """Answer a request: 200, 500, or what `refusal` says."""
        await send_response(scope, send, refusal(scope, self._token) or await self._scrape(scope))

    async def _scrape(self, scope: ASGIScope) -> Response:
        try:
            return await asyncio.to_thread(exposition, scope, await self._collect())
        except Exception as error:
            self._reporter.fault("The metrics could not be collected", error)
            return _FAILED

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve as an ASGI application that has nothing else."""
        if self.serves(scope):
            await self.answer(scope, send)
        elif scope["type"] == "http":
            await send_response(scope, send, _NOT_FOUND)
