"""Reauthorization: SUBSCRIBE middleware decides again when a socket has lost its identity.

The socket asks about each of its channels. Channels that middleware refuses, or does
not decide on in time, are left. Many tokens may expire at once, so all sockets share one pace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Protocol

QUESTIONS_PER_TURN = 64
"""How many questions all sockets together ask in one loop turn."""

OnDecided = Callable[[BaseException | None], None]
"""Called with None if the socket stays subscribed, else with the reason for the refusal."""


class ReauthorizedSocket(Protocol):
    """A socket as its reauthorization sees it."""

    def ask_again(self, channel: str, on_decided: OnDecided) -> None:
        """Ask middleware about one channel; `on_decided` is called once, now or later."""

    def kick_out_refused(self, channel: str, reason: str) -> None:
        """Kick the socket out of a channel, if it is still subscribed."""

    def kick_out_undecided(self, channels: Iterable[str]) -> None:
        """Kick the socket out of channels that middleware did not decide on in time."""

    def reauthorized(self) -> None:
        """End the reauthorization: every channel is decided."""


class ReauthorizationPace:
    """Asks the questions of all sockets of a server, a limited number in each loop turn."""

    __slots__ = ("_scheduled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Reauthorization] = deque()
        self._scheduled = False

    def add(self, reauthorization: Reauthorization) -> None:
        """Ask the questions of a socket from the next loop turn on."""
        self._waiting.append(reauthorization)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        remaining = QUESTIONS_PER_TURN
        try:
            while remaining > 0 and self._waiting:
                reauthorization = self._waiting.popleft()
                remaining -= reauthorization.ask(remaining)
                if reauthorization.has_questions:
                    self._waiting.append(reauthorization)
        finally:
            self._schedule()


class Reauthorization:
    """The questions of one socket.

    If middleware has questions and decides none for `timeout` seconds, every undecided channel is
    refused, even one not asked about yet.
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
        self._queued: dict[str, None] = {}  # Channels not asked about yet.
        self._undecided: dict[str, int] = {}  # Open questions per channel.
        self._last_progress = 0.0  # The time of the last decision, or of the first open question.
        self._timer: asyncio.TimerHandle | None = None
        self._finished: asyncio.Future[None] | None = None

    def add(self, channels: Iterable[str]) -> None:
        """Ask about channels, even about those with an open question about an older identity."""
        is_queued = self.has_questions
        self._queued.update(dict.fromkeys(channels))
        if not is_queued:
            self._pace.add(self)

    @property
    def has_questions(self) -> bool:
        """Whether questions are not yet asked."""
        return bool(self._queued)

    def ask(self, most: int) -> int:
        """Ask up to `most` questions; return how many were asked."""
        if self._queued and not self._undecided:
            self._progress()
        asked = list(islice(self._queued, most))
        for channel in asked:
            del self._queued[channel]
            self._undecided[channel] = self._undecided.get(channel, 0) + 1
        for channel in asked:
            self._socket.ask_again(channel, partial(self._decided, channel))
        return len(asked)

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
            return  # The next question restarts the timeout.
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
        """Drop all questions."""
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
