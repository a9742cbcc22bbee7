"""INBOUND_RAW middleware of one socket: it sees a message when it comes in, in order, also while
what came before is still being carried out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from socketcluster.action import AGAction
from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.protocol.packets import readable, unreadable

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


class RawLine:
    """Puts messages before the middleware, one by one, and hands on what it lets through: `decided`
    is called with the message, or with None for one that was blocked."""

    __slots__ = ("_decided", "_failed", "_socket", "_task", "_waiting")

    def __init__(
        self,
        socket: AGServerSocket,
        decided: Callable[[bytes | None], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._socket = socket
        self._decided = decided
        self._failed = failed
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a message is before the middleware, or waits for that."""
        return self._task is not None

    def put(self, message: bytes) -> None:
        """A message came in."""
        self._waiting.append(message)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._decided(await self._decide(self._waiting.popleft()))
        except Exception as error:
            self._failed(error)
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _decide(self, message: bytes) -> bytes | None:
        if MIDDLEWARE_INBOUND_RAW not in self._socket.server.middleware:
            return message  # It was removed meanwhile.
        action = AGAction(AGAction.MESSAGE, socket=self._socket, data=readable(message))
        actions = [action]
        del action
        try:
            replaced = await self._socket.decide(MIDDLEWARE_INBOUND_RAW, actions)
        except Exception:
            return None
        return unreadable(replaced)

    def close(self) -> None:
        """Hand on nothing more."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
