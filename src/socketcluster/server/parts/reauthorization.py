"""Reauthorization: a socket that lost its identity asks SUBSCRIBE middleware again about each of
its channels, and leaves those that are refused or not decided in time.

Many tokens may expire at once, so the questions of all sockets share one pace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Protocol

QUESTIONS_PER_TURN = 64
"""Questions of all sockets in one loop turn; the rest follow in later turns."""

Answer = Callable[[BaseException | None], None]
"""Called with None, or with the reason why the socket may not stay in the channel."""


class ReauthorizedSocket(Protocol):
    """What a reauthorization asks of its socket."""

    def ask_again(self, channel: str, answer: Answer) -> None:
        """Ask middleware about one channel; `answer` is called once, now or later."""

    def expel(self, channel: str, reason: str) -> None:
        """Kick the socket out of a channel, if it is still in it."""

    def expel_undecided(self, channels: Iterable[str]) -> None:
        """Kick the socket out of channels that middleware did not decide on in time."""

    def reauthorized(self) -> None:
        """Every channel is decided."""


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
        left = QUESTIONS_PER_TURN
        try:
            while left > 0 and self._waiting:
                reauthorization = self._waiting.popleft()
                left -= reauthorization.ask(left)
                if reauthorization.has_questions:
                    self._waiting.append(reauthorization)
        finally:
            self._schedule()


class Reauthorization:
    """The questions of one socket.

    If middleware has questions and answers none for `timeout` seconds, every undecided channel is
    refused, including those not asked about yet.
    """

    __slots__ = (
        "_channels",
        "_finished",
        "_open",
        "_pace",
        "_since",
        "_socket",
        "_timeout",
        "_timer",
    )

    def __init__(
        self, socket: ReauthorizedSocket, pace: ReauthorizationPace, timeout: float
    ) -> None:
        self._socket = socket
        self._pace = pace
        self._timeout = timeout
        self._channels: dict[str, None] = {}  # Not asked about yet.
        self._open: dict[str, int] = {}  # Unanswered questions per channel.
        self._since = 0.0  # The last answer, or the first open question.
        self._timer: asyncio.TimerHandle | None = None
        self._finished: asyncio.Future[None] | None = None

    def add(self, channels: Iterable[str]) -> None:
        """Ask about channels, even if a question is open: it concerns an older identity."""
        waits = self.has_questions
        self._channels.update(dict.fromkeys(channels))
        if not waits:
            self._pace.add(self)

    @property
    def has_questions(self) -> bool:
        """Whether there are questions still to be asked."""
        return bool(self._channels)

    def ask(self, most: int) -> int:
        """Ask up to `most` questions; return how many were asked."""
        if self._channels and not self._open:
            self._progress()
        asked = list(islice(self._channels, most))
        for channel in asked:
            del self._channels[channel]
            self._open[channel] = self._open.get(channel, 0) + 1
        for channel in asked:
            self._socket.ask_again(channel, partial(self._answered, channel))
        return len(asked)

    def _answered(self, channel: str, error: BaseException | None) -> None:
        if channel not in self._open:
            return  # Too late, or the socket is closed.
        self._open[channel] -= 1
        if not self._open[channel]:
            del self._open[channel]
        self._progress()
        if error is not None:
            self._socket.expel(channel, getattr(error, "public_message", None) or str(error))
        self._finish()

    def _progress(self) -> None:
        """Restart the time. The running timer checks it, because there are many answers."""
        self._since = asyncio.get_running_loop().time()
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._since + self._timeout, self._check, self._since)

    def _check(self, since: float) -> None:
        self._timer = None
        if not self._open:
            return  # The next question restarts the time.
        if self._since != since:
            self._start_timer()
            return
        undecided = dict.fromkeys([*self._open, *self._channels])
        self._open.clear()
        self._channels.clear()
        self._socket.expel_undecided(undecided)
        self._finish()

    def _finish(self) -> None:
        if not self._open and not self._channels:
            self.cancel()
            self._socket.reauthorized()

    def cancel(self) -> None:
        """Drop all questions."""
        self._open.clear()
        self._channels.clear()
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
