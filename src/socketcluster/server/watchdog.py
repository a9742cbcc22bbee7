"""The watchdog: logs a server's own bugs that raise no error.

Such are unanswered calls, undecided actions and a blocked event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from typing import Any, Protocol

from socketcluster.handlers.handler import ChannelHandler, Handler
from socketcluster.runtime.reporting import Reporter, clean
from socketcluster.server.socket import AGServerSocket

LATE_SECONDS = 0.5
"""How late the ticker may be before the event loop counts as blocked."""


class WatchedHandling(Protocol):
    """The handlers of a server.

    Attributes:
        latest: the plain handler that ran last; the watchdog forgets it at each tick.
    """

    latest: Handler | ChannelHandler | None


class Watchdog:
    """Logs calls and actions that take longer than `ack_timeout`.

    It logs each procedure and each middleware function once. It looks at every tick, so that a
    message costs nothing more, and only at a socket's oldest call and each middleware function's
    oldest action; later ones follow when these are done. It cannot see which line of code holds a
    call.
    """

    __slots__ = ("_before", "_handling", "_limit", "_reporter", "_seen")

    def __init__(self, reporter: Reporter, ack_timeout: float, handling: WatchedHandling) -> None:
        self._reporter = reporter
        self._handling = handling
        self._limit = ack_timeout / 1000
        self._before: dict[Hashable, float] = {}
        self._seen: dict[Hashable, float] = {}

    def begin(self) -> None:
        """Begin a new look at all sockets; forget the calls and actions that have ended."""
        self._before, self._seen = self._seen, {}

    def look(self, now: float, sockets: Iterable[AGServerSocket]) -> None:
        """Look at some sockets; `now` is in seconds."""
        before = self._before
        if self._limit == 0:
            return
        for socket in sockets:
            if socket.messaging.unanswered:
                number = next(iter(socket.messaging.unanswered))
                if self._is_held(before, (socket.id, number), now):
                    self._report_call(socket, socket.messaging.unanswered[number])
            for line in socket.middleware.all_lines():
                action: Any = line.oldest_undecided
                if action is not None and self._is_held(before, action, now):
                    line.report_held("ack_timeout")

    def _is_held(self, before: dict[Hashable, float], key: Hashable, now: float) -> bool:
        since = self._seen[key] = before.get(key, now)
        return now - since >= self._limit

    def _report_call(self, socket: AGServerSocket, procedure: str) -> None:
        self._reporter.line_once(
            f"A call of {clean(procedure)!r} by socket {socket.id} has no answer after "
            "ack_timeout: its handler must return, or in a loop call request.end() or "
            "request.error()",
            ("unanswered", procedure),
            socket=socket,
            procedure=procedure,
        )

    def handshake_timed_out(self, socket: AGServerSocket) -> None:
        """Log why a socket's handshake timed out; the caller closes the socket."""
        line = socket.middleware.handshake_line
        if line is not None and line.oldest_undecided is not None:
            line.report_held("handshake_timeout")
        elif socket.messaging.unanswered:
            self._reporter.line(
                "A handshake was not done within handshake_timeout: the auth engine, or a listener "
                "of 'handshake', held it up",
                logging.WARNING,
                "handshake",
                socket=socket,
            )

    def ticked(self, late: float) -> None:
        """Log a tick that was `late` seconds late: the event loop was blocked."""
        handler, self._handling.latest = self._handling.latest, None
        if late > LATE_SECONDS:
            last = "" if handler is None else f". The last plain handler was {handler.place}"
            self._reporter.line(
                f"The event loop was blocked for {late:.1f} s, and every socket with it: a handler "
                f"that computes or makes a blocking call, or a suspended machine{last}",
                logging.WARNING,
                "blocked",
                lag_seconds=round(late, 3),
            )
