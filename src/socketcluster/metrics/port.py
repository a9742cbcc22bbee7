"""A port for the metrics alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from socketcluster.engines.base import ASGIApp, ListenAddress, Pace
from socketcluster.engines.uvicorn_limits import GuardedHttp
from socketcluster.engines.uvicorn_server import UvicornListener
from socketcluster.errors import UsageError


@dataclass(frozen=True, slots=True)
class _NoWebSockets:
    """The limits of a listener without WebSockets and TLS."""

    pace: Pace
    max_payload: int = 0
    deflate: None = None


class MetricsPort:
    """Serves an ASGI application on a port of its own.

    Attributes:
        address: the host and the port in use; None while it is closed.
    """

    __slots__ = ("_app", "_host", "_listener", "_port", "address")

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._listener: UvicornListener | None = None
        self.address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen; a port that is open stays so.

        Raises:
            UsageError: the port cannot be had.
        """
        if self._listener is not None:
            return
        listener = UvicornListener(
            _NoWebSockets(Pace(1)),
            self._app,
            ListenAddress(self._host, self._port),
            GuardedHttp,
            "none",
            set(),
        )
        try:
            await listener.start()
        except OSError as error:
            raise UsageError(
                f"The metrics cannot be served on {self._host}:{self._port}: {error.strerror}. "
                "Each process needs a port of its own; 'socketcluster serve --workers' answers for "
                "all of its processes on --metrics-port"
            ) from error
        self._listener = listener
        self.address = self._host, listener.port or self._port

    async def close(self) -> None:
        """Stop listening."""
        listener, self._listener, self.address = self._listener, None, None
        if listener is not None:
            await listener.close()

    async def serve(self) -> None:
        """Listen until the task is cancelled."""
        await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()
