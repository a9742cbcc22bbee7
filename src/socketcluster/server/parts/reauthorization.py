"""Reauthorization: a socket that lost its identity asks SUBSCRIBE middleware again for each of its
channels, and leaves those that are refused or not decided in time.

Nobody's tokens expire alone: the questions of all sockets share one pace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Protocol

QUESTIONS_PER_TURN = 64
"""Questions of all sockets in one turn of the loop; the rest comes in the next ones."""

Answer = Callable[[BaseException | None], None]
"""Called with None, or why the socket may not stay in the channel."""


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
    """Asks the questions of all sockets of a server, so many in a turn of the loop, a few of each
    socket at a time."""

    __slots__ = ("_scheduled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Reauthorization] = deque()
        self._scheduled = False

    def add(self, reauthorization: Reauthorization) -> None:
        """Have its questions asked from the next turn on."""
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

    When middleware has questions and answers none for `timeout` seconds, all that is undecided is
    refused, also what waits to be asked.
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
        self._channels: dict[str, None] = {}  # To be asked about.
        self._open: dict[str, int] = {}  # Questions that middleware has.
        self._since = 0.0  # When middleware last answered, or got a question while it had none.
        self._timer: asyncio.TimerHandle | None = None
        self._finished: asyncio.Future[None] | None = None

    def add(self, channels: Iterable[str]) -> None:
        """Ask about channels, also about those that are being decided on under an older state."""
        waits = self.has_questions
        self._channels.update(dict.fromkeys(channels))
        if not waits:
            self._pace.add(self)

    @property
    def has_questions(self) -> bool:
        """Whether there are questions that were not asked yet."""
        return bool(self._channels)

    def ask(self, most: int) -> int:
        """Ask up to so many questions; returns how many there were."""
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
            return  # Too late, or the socket is gone.
        self._open[channel] -= 1
        if not self._open[channel]:
            del self._open[channel]
        self._progress()
        if error is not None:
            self._socket.expel(channel, getattr(error, "public_message", None) or str(error))
        self._finish()

    def _progress(self) -> None:
        """The time starts anew. The timer that runs looks at it, for there are many answers."""
        self._since = asyncio.get_running_loop().time()
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._since + self._timeout, self._look, self._since)

    def _look(self, since: float) -> None:
        self._timer = None
        if not self._open:
            return  # The next question starts the time.
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
        """Ask and decide nothing more."""
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
