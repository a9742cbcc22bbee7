"""CatchUp: reads again and again until a channel follows its live messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from socketcluster.errors import BrokerError

MIN_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 5.0


class CatchUp:
    """The task that reads what a channel is missing.

    Args:
        read: reads once; returns whether the channel follows. May raise BrokerError.
        is_ready: whether the backend is there.
        on_error: called with the error of a backend that is there and refused, once a task.
    """

    __slots__ = ("_is_ready", "_on_error", "_read", "_task", "_waking")

    def __init__(
        self,
        read: Callable[[], Awaitable[bool]],
        is_ready: Callable[[], bool],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._read = read
        self._is_ready = is_ready
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._waking: asyncio.Future[None] | None = None  # While it waits to read again.

    async def begin(self) -> None:
        """Read at once. If the backend is away, `start` follows when it is back.

        Raises:
            BrokerError: the backend refused.
        """
        try:
            follows = await self._read()
        except BrokerError:
            await asyncio.sleep(MIN_RETRY_SECONDS)  # The broker may notice a loss a little later.
            if not self._is_ready():
                return
            follows = await self._read()
        if not follows:
            self.start()

    def start(self) -> None:
        """Read now; a read under way is followed by another if it is not enough."""
        if self._task is None or self._task.done():  # Its callback may still be due.
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(self._done)
        elif self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    def stop(self) -> None:
        """Read no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait until it is over, at most for some seconds."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)

    def _done(self, task: asyncio.Future[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    async def _run(self) -> None:
        seconds = MIN_RETRY_SECONDS
        is_told = False
        while True:
            try:
                if await self._read():
                    return
                seconds = MIN_RETRY_SECONDS
            except BrokerError as error:
                if self._is_ready() and not is_told:
                    is_told = True
                    self._on_error(error)
                await self._wait(seconds)
                seconds = min(2 * seconds, MAX_RETRY_SECONDS)

    async def _wait(self, seconds: float) -> None:
        self._waking = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([self._waking], timeout=seconds)
        finally:
            self._waking = None
