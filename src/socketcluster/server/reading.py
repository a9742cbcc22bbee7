"""Whether a socket is read from: not while too much of what it sent is still to be dealt with."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.engines.base import Connection


class Reading:
    """Pauses and resumes the reading of one connection, so that TCP pushes back.

    Two things pause it: a backlog of messages that wait for middleware and the like, and a loop
    over the socket's streams that is further behind than that backlog may be.
    """

    __slots__ = ("_backlogged", "_behind", "_connection", "_limit", "_was_paused")

    def __init__(self, connection: Connection, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._backlogged = False
        self._behind = 0
        self._was_paused = False

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._backlogged or self._behind > 0

    def was_paused(self) -> bool:
        """Whether it was paused at any time since this was asked last: the peer's pongs could
        not be heard."""
        was, self._was_paused = self._was_paused, self.paused
        return was or self.paused

    def backlog_grew(self, size: int) -> None:
        """The backlog has this many messages now."""
        if not self._backlogged and size > self._limit:
            self._backlogged = True
            self._pause()

    def backlog_shrank(self, size: int) -> None:
        """The backlog has this many messages now."""
        if self._backlogged and size <= self._limit // 2:
            self._backlogged = False
            self._resume()

    def look(self, when_drained: Callable[[int, Callable[[], None]], int]) -> None:
        """Pause if a loop is behind, until it has dealt with what it has."""
        behind = when_drained(self._limit, self._caught_up)
        if behind:
            self._behind += behind
            self._pause()

    def _pause(self) -> None:
        self._was_paused = True
        self._connection.pause_reading()

    def _caught_up(self) -> None:
        self._behind -= 1
        self._resume()

    def _resume(self) -> None:
        if not self.paused:
            self._connection.resume_reading()
