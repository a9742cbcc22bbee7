"""The memory limit of a server: `max_buffered` bytes in the buffers of all sockets together."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from operator import itemgetter

from socketcluster.runtime.isolation import for_each
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.hub import drop_failed
from socketcluster.server.socket import AGServerSocket

_MIN_CLOSABLE_SIZE = 64 * 1024
"""The smallest outbound buffer or unfinished message that justifies closing a client, in bytes."""

_size_of = itemgetter(0)


class MemoryLimit:
    """Keeps the sockets' buffers within a limit, and checks them once a period.

    Past the limit it pauses reading from the sockets with the largest inbound backlogs, until these
    backlogs are empty or half of the limit is free. If the next check is still past the limit, it
    closes the sockets with the largest outbound buffers or unfinished messages.
    """

    __slots__ = ("_closable", "_held", "_inbound", "_limit", "_reporter", "_was_over")

    def __init__(self, limit: int, reporter: Reporter) -> None:
        self._limit = limit
        self._reporter = reporter
        self._held: list[AGServerSocket] = []
        self._was_over = False
        self._inbound: list[tuple[int, AGServerSocket]] = []
        self._closable: list[tuple[int, AGServerSocket]] = []

    def begin(self) -> None:
        """Begin to add up the buffers of all sockets."""
        self._inbound, self._closable = [], []

    def add(self, sockets: Iterable[AGServerSocket]) -> None:
        """Add the buffers of some sockets."""
        inbound, closable = self._inbound, self._closable

        def add(socket: AGServerSocket) -> None:
            size = socket.inbound.get_held_size()
            if size:
                inbound.append((size, socket))
            # Pausing an unfinished message frees nothing: only closing its socket does.
            size = socket.outbound.get_held_size() + socket.connection.get_incomplete_size()
            if size:
                closable.append((size, socket))

        for_each(sockets, add, drop_failed)

    def enforce(self) -> None:
        """Pause or close some of the sockets that were added, if they exceed the limit."""
        inbound, closable = _left(self._inbound), _left(self._closable)
        self._inbound, self._closable = [], []
        total = sum(map(_size_of, inbound)) + sum(map(_size_of, closable))
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
            self._release(total <= self._limit // 2)
        self._was_over = excess > 0

    def _hold(self, inbound: list[tuple[int, AGServerSocket]], excess: int) -> None:
        inbound.sort(key=_size_of, reverse=True)
        for size, socket in inbound:
            if excess <= 0:
                break
            excess -= size
            if not socket.inbound.flow_control.held:
                for_each((socket,), self._hold_one, drop_failed)

    def _hold_one(self, socket: AGServerSocket) -> None:
        socket.inbound.flow_control.hold(True)
        self._held.append(socket)

    def _release(self, all_sockets: bool) -> None:
        held, self._held = self._held, []

        def release(socket: AGServerSocket) -> None:
            if all_sockets or not socket.inbound.get_held_size():
                socket.inbound.flow_control.hold(False)
            else:
                self._held.append(socket)

        for_each(held, release, drop_failed)

    def _close(self, closable: list[tuple[int, AGServerSocket]], excess: int) -> None:
        closable.sort(key=_size_of, reverse=True)
        for size, socket in closable:
            if excess <= 0 or size < _MIN_CLOSABLE_SIZE:
                break
            excess -= size
            reason = (
                f"All clients together hold more than {self._limit} bytes (max_buffered), and "
                f"{size} bytes wait to be sent to this one, or are of its unfinished message"
            )
            for_each((socket,), partial(_close, reason), drop_failed)


def _left(sizes: list[tuple[int, AGServerSocket]]) -> list[tuple[int, AGServerSocket]]:
    """Return the sizes of the sockets that have not ended since."""
    return [each for each in sizes if not each[1].life.ended]


def _close(reason: str, socket: AGServerSocket) -> None:
    socket.closing.drop(1008, reason)
