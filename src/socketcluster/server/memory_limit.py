"""What all sockets of a server hold together, received and to be sent: `max_buffered`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from socketcluster.runtime.isolation import for_each
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.parts.leaving import end, give_up

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket

_WORTH_CLOSING = 64 * 1024
"""Bytes to be sent, or of an unfinished message, for which a client is worth closing."""

_size_of = itemgetter(0)


class Buffered:
    """Keeps what the sockets hold within a limit; it looks once a tick.

    Past the limit the sockets with the largest inbound backlogs are not read from, until they are
    drained or half of the limit is free. If that was not enough by the next tick, those with the
    largest outbound buffers or unfinished messages are closed.
    """

    __slots__ = ("_held", "_limit", "_reporter", "_was_over")

    def __init__(self, limit: int, reporter: Reporter) -> None:
        self._limit = limit
        self._reporter = reporter
        self._held: list[AGServerSocket] = []
        self._was_over = False

    def check(self, sockets: Iterable[AGServerSocket]) -> None:
        """Add up what the sockets hold, and act on it."""
        inbound: list[tuple[int, AGServerSocket]] = []
        closable: list[tuple[int, AGServerSocket]] = []
        total = 0

        def add(socket: AGServerSocket) -> None:
            nonlocal total
            size = socket.inbound.get_held_size()
            if size:
                total += size
                inbound.append((size, socket))
            # To pause an unfinished message frees nothing: it goes with what is closed.
            size = socket.outbound.get_held_size() + socket.connection.get_incomplete_size()
            if size:
                total += size
                closable.append((size, socket))

        for_each(sockets, add, give_up)
        excess = total - self._limit
        if excess > 0:
            self._reporter.line(
                f"The clients together hold more than {self._limit} bytes (max_buffered), received "
                "and not taken by a loop, or to be sent and not read by them: the largest "
                "backlogs are not read on, then the clients that read least are closed",
                logging.WARNING,
                ("max_buffered",),
            )
            self._hold(inbound, excess)
            if self._was_over:
                self._close(closable, excess)
        elif self._held:
            self._let_go(total <= self._limit // 2)
        self._was_over = excess > 0

    def _hold(self, inbound: list[tuple[int, AGServerSocket]], excess: int) -> None:
        inbound.sort(key=_size_of, reverse=True)
        for size, socket in inbound:
            if excess <= 0:
                break
            excess -= size
            if not socket.inbound.reading.held:
                for_each((socket,), self._hold_one, give_up)

    def _hold_one(self, socket: AGServerSocket) -> None:
        socket.inbound.reading.hold(True)
        self._held.append(socket)

    def _let_go(self, everybody: bool) -> None:
        held, self._held = self._held, []

        def look_at(socket: AGServerSocket) -> None:
            if everybody or not socket.inbound.get_held_size():
                socket.inbound.reading.hold(False)
            else:
                self._held.append(socket)

        for_each(held, look_at, give_up)

    def _close(self, closable: list[tuple[int, AGServerSocket]], excess: int) -> None:
        closable.sort(key=_size_of, reverse=True)
        for size, socket in closable:
            if excess <= 0 or size < _WORTH_CLOSING:
                break
            excess -= size
            reason = (
                f"All clients together hold more than {self._limit} bytes (max_buffered), and "
                f"{size} bytes wait to be sent to this one, or are of its unfinished message"
            )
            for_each((socket,), partial(_close, reason), give_up)


def _close(reason: str, socket: AGServerSocket) -> None:
    end(socket, 1008, reason)
    socket.connection.abort()
