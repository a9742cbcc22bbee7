"""The middleware types, and the stream of actions that a middleware function reads.

Source: SocketCluster documentation, "Middleware and authorization".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from socketcluster.literals import MiddlewareType
from socketcluster.middleware.action import AGAction
from socketcluster.runtime.futures import resolve

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

    It has one reader, the middleware function, which also gets the actions written before it
    begins to read. Canceling a wait is safe: no action is lost.

    Attributes:
        type: one of the four middleware types.
        closed: whether the socket is closed; the loop ends after the actions written before.
    """

    __slots__ = ("_loop", "_queue", "_waiter", "closed", "type")

    def __init__(self, type: MiddlewareType) -> None:
        self.type: MiddlewareType = type
        self._queue: deque[AGAction] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.closed: bool = False

    def __aiter__(self) -> MiddlewareStream:
        return self

    async def __anext__(self) -> AGAction:
        while not self._queue:
            if self.closed:
                raise StopAsyncIteration
            if self._loop is None:  # Before Python 3.12, get_running_loop() is a system call.
                self._loop = asyncio.get_running_loop()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._queue.popleft()

    async def once(self) -> AGAction:
        """Wait for the next action, as `anext(stream)` does.

        Canceling once() is safe: no action is lost; the next call returns it.

        Raises:
            StopAsyncIteration: the socket is closed.
        """
        return await self.__anext__()

    def write(self, action: AGAction) -> None:
        """Add an action."""
        self._queue.append(action)
        self._wake()

    def close(self) -> None:
        """End the loop over the stream after the actions that were written."""
        self.closed = True
        self._wake()

    def drain(self) -> None:
        """Drop the actions that the function has not taken."""
        self._queue.clear()

    def _wake(self) -> None:
        if self._waiter is not None:
            resolve(self._waiter, None)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<MiddlewareStream {self.type!r}{state} backlog={len(self._queue)}>"


MiddlewareFunction = Callable[[MiddlewareStream], Awaitable[None]]
