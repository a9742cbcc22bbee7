"""The middleware types, and the stream of actions that a middleware function reads.

Source: SocketCluster documentation, "Middleware and authorization".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from socketcluster.middleware.action import AGAction

MIDDLEWARE_HANDSHAKE: Final = "handshake"
MIDDLEWARE_INBOUND_RAW: Final = "inboundRaw"
MIDDLEWARE_INBOUND: Final = "inbound"
MIDDLEWARE_OUTBOUND: Final = "outbound"
MIDDLEWARE_TYPES: Final = (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_INBOUND_RAW,
    MIDDLEWARE_INBOUND,
    MIDDLEWARE_OUTBOUND,
)


class MiddlewareStream:
    """The actions of one socket on one line, in order: `async for action in stream`.

    It has one reader, the middleware function. Nothing written before that first reads is lost.
    Cancelling a wait loses no action.
    """

    __slots__ = ("_closed", "_loop", "_queue", "_waiter", "type")

    def __init__(self, type: str) -> None:
        self.type = type
        self._queue: deque[AGAction] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __aiter__(self) -> MiddlewareStream:
        return self

    async def __anext__(self) -> AGAction:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._loop is None:  # Asked for each time it would take a system call.
                self._loop = asyncio.get_running_loop()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._queue.popleft()

    async def once(self) -> AGAction:
        """The next action. Cancelling once() is safe: no action is lost, and the next call
        returns the next one.

        Raises:
            StopAsyncIteration: as RuntimeError's cause, the socket is gone.
        """
        return await self.__anext__()

    def write(self, action: AGAction) -> None:
        """Add an action."""
        self._queue.append(action)
        self._wake()

    def close(self) -> None:
        """End the loop over the stream once it has taken what was written."""
        self._closed = True
        self._wake()

    def drain(self) -> None:
        """Drop what was written and not taken."""
        self._queue.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


MiddlewareFunction = Callable[[MiddlewareStream], Awaitable[None]]
