"""Inbound flow control: pauses reading while too many messages are unprocessed."""

from __future__ import annotations

from typing import Protocol

from socketcluster.engines.base import Connection
from socketcluster.streams import Gauge

_BACKLOGGED, _BEHIND, _HELD, _LIMITED = 1, 2, 4, 8


class FlowControlOwner(Protocol):
    """The owner of a flow control."""

    def loops_changed(self, behind: bool) -> None:
        """Called when loops fall behind, and with False when they have caught up."""


class FlowControl:
    """Pauses and resumes the reading of one connection, so that TCP pushes back on the client.

    Four things pause it: too large a backlog of waiting messages, in number or in bytes; a loop
    over the socket's streams with a backlog past the same limits; the server, when all sockets
    together hold too much; and a rate limit.

    Attributes:
        size: bytes of the messages in the backlog.
    """

    __slots__ = (
        "_connection",
        "_gauge",
        "_limit",
        "_messages",
        "_owner",
        "_reasons",
        "_size_limit",
        "_was_paused",
        "size",
    )

    def __init__(
        self,
        connection: Connection,
        limit: int,
        size_limit: int,
        owner: FlowControlOwner,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._limit = limit
        self._size_limit = size_limit
        self._messages = 0
        self.size: int = 0
        self._gauge: Gauge | None = None
        self._reasons = 0  # Flags in one integer: it saves each socket 32 bytes.
        self._was_paused = False

    @property
    def gauge(self) -> Gauge:
        """The gauge of the socket's stream backlogs, made on first use."""
        if self._gauge is None:
            self._gauge = Gauge(self._limit, self._loops_changed, self._size_limit)
        return self._gauge

    @property
    def paused(self) -> bool:
        """Whether reading is paused."""
        return self._reasons != 0

    @property
    def held(self) -> bool:
        """Whether the server has paused the reading."""
        return self._reasons & _HELD != 0

    @property
    def total_size(self) -> int:
        """Bytes in the backlog and in the loops' backlogs."""
        return self.size if self._gauge is None else self.size + self._gauge.size

    def was_paused(self) -> bool:
        """Whether reading was paused since the last call: pongs could not be read then."""
        was, self._was_paused = self._was_paused, self.paused
        return was or self.paused

    def add(self, message: bytes) -> None:
        """Count a message that begins to wait."""
        self._messages += 1
        self.size += len(message)
        if not self._reasons & _BACKLOGGED and (
            self._messages > self._limit or self.size > self._size_limit
        ):
            self._set(_BACKLOGGED, True)

    def remove(self, message: bytes) -> None:
        """Count a message that ends its wait."""
        self._messages -= 1
        self.size -= len(message)
        if self._reasons & _BACKLOGGED:
            self._shrank()

    def clear(self) -> None:
        """Forget the backlog, which was dropped."""
        self._messages = self.size = 0
        if self._reasons & _BACKLOGGED:
            self._shrank()

    def _shrank(self) -> None:
        if self._messages <= self._limit // 2 and self.size <= self._size_limit // 2:
            self._set(_BACKLOGGED, False)

    def hold(self, held: bool) -> None:
        """Pause reading for the server, or end that pause."""
        self._set(_HELD, held)

    def limit(self, limited: bool) -> None:
        """Pause reading because of a rate limit, or end that pause."""
        self._set(_LIMITED, limited)

    def _loops_changed(self, behind: bool) -> None:
        self._set(_BEHIND, behind)
        self._owner.loops_changed(behind)

    def _set(self, reason: int, present: bool) -> None:
        self._reasons = self._reasons | reason if present else self._reasons & ~reason
        if self._reasons:
            self._was_paused = True
            self._connection.pause_reading()
        else:
            self._connection.resume_reading()
