"""The drain: ends the sockets of a closing server, spread over time, and none within a call.

Each socket has a turn, 500 a second, or more often if `drain_spread` would not suffice for all. An
idle socket is closed in its turn, a busy one as soon as it is idle. Until then its messages are
carried out as ever, so that no message that was received is lost.

A call may be on its way when its socket is closed. So if clients find another server, an idle
socket is closed right after its next message was carried out, for which it has a second: the client
has just had its answer, and is least likely to have sent another call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from socketcluster.protocol.frames import may_be_sent
from socketcluster.protocol.state import CLOSE_NO_STATUS, CLOSED
from socketcluster.runtime.isolation import for_each
from socketcluster.server.hub import Hub, drop_failed
from socketcluster.server.options import ServerOptions
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.calls import has_read
from socketcluster.sockets.handling import Handling

SOCKETS_PER_SECOND = 500
"""How many sockets have their turn in a second, unless `drain_spread` demands more."""

POLL_SECONDS = 0.01
"""The time between two looks at the sockets."""

LISTENING_SHARE = 0.5
"""The part of `drain_timeout` in which the messages of a busy socket are still carried out. Without
an end of it a socket that always has a call under way would lose its last ones."""

QUIET_SECONDS = 1.0
"""How long an idle socket may wait for a message, if clients find another server."""

CLOSE_BATCH = 200
"""How many of the last sockets to close before the event loop turns."""

REASON = "The server is closing"

_GOING_AWAY = 1001


def drain_code(options: ServerOptions, knows_peers: bool) -> int:
    """Return the code that a closing server closes its sockets with; 1005 for no code.

    Clients come back at once after a close without a code. That helps only if another node or
    worker takes them.
    """
    code = options.drain_code
    if code == "auto":
        return CLOSE_NO_STATUS if knows_peers else _GOING_AWAY
    return code


class Drain:
    """The drain of one server, from the moment when it stops accepting.

    Several tasks may `run` it at the same time: they share its pace.

    Attributes:
        deadline: the loop's time at which the drain ends.
    """

    __slots__ = (
        "_began",
        "_busy",
        "_code",
        "_handling",
        "_hub",
        "_listening_until",
        "_quiet",
        "_rate",
        "_turn_count",
        "_waiting",
        "deadline",
    )

    def __init__(
        self, hub: Hub, handling: Handling, options: ServerOptions, code: Callable[[], int]
    ) -> None:
        """Begin; `code()` returns the close code of the sockets that are closed next."""
        self._hub = hub
        self._handling = handling
        self._code = code
        self._began = asyncio.get_running_loop().time()
        timeout = options.milliseconds("drain_timeout") / 1000
        self.deadline: float = self._began + timeout
        self._listening_until = self._began + timeout * LISTENING_SHARE
        self._waiting: deque[AGServerSocket] = deque(hub.sockets())
        self._turn_count = 0
        self._busy: list[AGServerSocket] = []
        self._quiet: dict[AGServerSocket, tuple[int, float]] = {}
        spread = min(options.milliseconds("drain_spread") / 1000, timeout)
        self._rate = max(SOCKETS_PER_SECOND, len(self._waiting) / max(spread, POLL_SECONDS))

    async def run(self, spared: Container[asyncio.Task[Any]]) -> None:
        """Close the sockets that are or become idle, and wait for handlers, until the deadline.

        The handlers that run in the tasks `spared` are not waited for.
        """
        loop = asyncio.get_running_loop()
        hub = self._hub
        while loop.time() < self.deadline:
            self._advance(loop.time(), spared)
            if not (hub.clients or hub.pending or self._handling.busy(spared)):
                return
            await asyncio.sleep(POLL_SECONDS)
            await has_read()  # A call that has arrived is not lost.

    def _advance(self, now: float, spared: Container[asyncio.Task[Any]]) -> None:
        turns = self._take_turns(now)
        if self._code() == CLOSE_NO_STATUS:
            for socket in turns:
                self._quiet[socket] = (socket.inbound.received, now + QUIET_SECONDS)
        sockets = self._busy + turns
        self._busy = [socket for socket in sockets if self._has_to_wait(socket, now, spared)]
        busy = set(self._busy)
        self._close([socket for socket in sockets if socket not in busy])
        if now >= self._listening_until:
            for_each(self._busy, lambda socket: socket.close_input(), drop_failed)
        if not self._waiting and not self._busy:
            # Connections whose upgrade was answered before the listeners stopped.
            self._waiting.extend(self._hub.sockets())

    def _take_turns(self, now: float) -> list[AGServerSocket]:
        due = int((now - self._began + POLL_SECONDS) * self._rate) - self._turn_count
        turns = [self._waiting.popleft() for _ in range(min(due, len(self._waiting)))]
        self._turn_count += len(turns)
        return turns

    def _has_to_wait(
        self, socket: AGServerSocket, now: float, spared: Container[asyncio.Task[Any]]
    ) -> bool:
        if self._is_busy(socket, spared):
            self._quiet.pop(socket, None)  # It is closed as soon as it is idle.
            return True
        received, until = self._quiet.get(socket, (0, 0.0))
        if socket.inbound.received == received and now < until and not socket.life.ended:
            return True
        self._quiet.pop(socket, None)
        return False

    def _is_busy(self, socket: AGServerSocket, spared: Container[asyncio.Task[Any]]) -> bool:
        """Whether a message is not yet carried out, or a call awaits its answer."""
        return (
            socket.inbound.busy
            or (socket.state != CLOSED and socket.messaging.busy)
            or self._handling.socket_busy(socket, spared)
        )

    async def close_rest(self) -> None:
        """Close the sockets that are left, busy or not."""
        sockets = self._hub.sockets()
        for start in range(0, len(sockets), CLOSE_BATCH):
            self._close(sockets[start : start + CLOSE_BATCH])
            await asyncio.sleep(0)

    def _close(self, sockets: list[AGServerSocket]) -> None:
        if sockets:
            code = self._code()
            sent = code if may_be_sent(code) else None
            sockets = [socket for socket in sockets if not socket.life.ended]
            for_each(sockets, lambda socket: socket.disconnect(sent, REASON), drop_failed)
