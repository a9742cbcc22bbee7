"""Reauthorization: SUBSCRIBE middleware decides again when a socket has lost its identity.

The socket submits a SUBSCRIBE action for each of its channels. It is kicked out of channels that
middleware blocks, or does not decide on in time. Many tokens may expire at once, so all sockets
share one pace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Protocol

ACTIONS_PER_TURN = 64
"""How many actions all sockets of a server together submit in one loop turn."""

OnDecided = Callable[[BaseException | None], None]
"""Called with None if the socket stays subscribed, else with the reason for the block."""


class ReauthorizedSocket(Protocol):
    """A socket as its reauthorization sees it."""

    def submit_subscribe(self, channel: str, on_decided: OnDecided) -> None:
        """Submit a channel's SUBSCRIBE action; `on_decided` is called once, now or later."""

    def kick_out_refused(self, channel: str, reason: str) -> None:
        """Kick the socket out of a channel, if it is still subscribed."""

    def kick_out_undecided(self, channels: Iterable[str]) -> None:
        """Kick the socket out of channels that middleware did not decide on in time."""

    def reauthorized(self) -> None:
        """End the reauthorization: every channel is decided."""


class ReauthorizationPace:
    """Submits the actions of all sockets of a server, a limited number in each loop turn."""

    __slots__ = ("_scheduled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Reauthorization] = deque()
        self._scheduled = False

    def add(self, reauthorization: Reauthorization) -> None:
        """Submit the actions of a socket from the next loop turn on."""
        self._waiting.append(reauthorization)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        remaining = ACTIONS_PER_TURN
        try:
            while remaining > 0 and self._waiting:
                reauthorization = self._waiting.popleft()
                remaining -= reauthorization.submit(remaining)
                if reauthorization.has_queued:
                    self._waiting.append(reauthorization)
        finally:
            self._schedule()


class Reauthorization:
    """The SUBSCRIBE actions of one socket that middleware has to decide again.

    If middleware has actions and decides none for `timeout` seconds, the socket is kicked out of
    every undecided channel, even of one whose action is still queued.
    """

    __slots__ = (
        "_finished",
        "_last_progress",
        "_pace",
        "_queued",
        "_socket",
        "_timeout",
        "_timer",
        "_undecided",
    )

    def __init__(
        self, socket: ReauthorizedSocket, pace: ReauthorizationPace, timeout: float
    ) -> None:
        self._socket = socket
        self._pace = pace
        self._timeout = timeout
        self._queued: dict[str, None] = {}  # Channels whose action is not submitted yet.
        self._undecided: dict[str, int] = {}  # Undecided actions per channel.
        self._last_progress = 0.0  # The time of the last decision, or of the first open action.
        self._timer: asyncio.TimerHandle | None = None
        self._finished: asyncio.Future[None] | None = None

    def add(self, channels: Iterable[str]) -> None:
        """Queue channels, even those with an open action for an older identity."""
        is_queued = self.has_queued
        self._queued.update(dict.fromkeys(channels))
        if not is_queued:
            self._pace.add(self)

    @property
    def has_queued(self) -> bool:
        """Whether actions are not submitted yet."""
        return bool(self._queued)

    def submit(self, most: int) -> int:
        """Submit up to `most` actions; return how many were submitted."""
        if self._queued and not self._undecided:
            self._progress()
        channels = list(islice(self._queued, most))
        for channel in channels:
            del self._queued[channel]
            self._undecided[channel] = self._undecided.get(channel, 0) + 1
        for channel in channels:
            self._socket.submit_subscribe(channel, partial(self._decided, channel))
        return len(channels)

    def _decided(self, channel: str, error: BaseException | None) -> None:
        if channel not in self._undecided:
            return  # Too late, or the socket is closed.
        self._undecided[channel] -= 1
        if not self._undecided[channel]:
            del self._undecided[channel]
        self._progress()
        if error is not None:
            self._socket.kick_out_refused(
                channel, getattr(error, "public_message", None) or str(error)
            )
        self._finish()

    def _progress(self) -> None:
        """Restart the timeout. The running timer checks it, because decisions are frequent."""
        self._last_progress = asyncio.get_running_loop().time()
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(
            self._last_progress + self._timeout, self._check, self._last_progress
        )

    def _check(self, since: float) -> None:
        self._timer = None
        if not self._undecided:
            return  # The next action restarts the timeout.
        if self._last_progress != since:
            self._start_timer()
            return
        undecided = dict.fromkeys([*self._undecided, *self._queued])
        self._undecided.clear()
        self._queued.clear()
        self._socket.kick_out_undecided(undecided)
        self._finish()

    def _finish(self) -> None:
        if not self._undecided and not self._queued:
            self.cancel()
            self._socket.reauthorized()

    def cancel(self) -> None:
        """Drop all actions."""
        self._undecided.clear()
        self._queued.clear()
        self._stop_timer()
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    async def finished(self) -> None:
        """Wait until every channel is decided."""
        if self._finished is None:
            self._finished = asyncio.get_running_loop().create_future()
        await self._finished

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
