"""Keepalive of a client's connection: answers pings, and times out a silent server.

Source: SocketCluster protocol 2, "Pings"; npm socketcluster-client.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from socketcluster.client.writer import ClientWriter
from socketcluster.engines.base import Connection
from socketcluster.errors import ResourceLimitError
from socketcluster.sockets.calls import after_reading

CHECKS_PER_TIMEOUT = 4
"""How often within its timeout a connection is checked for signs of life."""


class Keepalive:
    """Watches one connection: any byte from the server is a sign of life.

    Silence is counted in checks, not by the clock. While this process stands still nothing is read,
    and a stall counts for one check, however long it was.

    Attributes:
        timeout: seconds of silence after which the connection counts as lost; from a quarter less
            to a quarter more.
    """

    __slots__ = (
        "_activity",
        "_connection",
        "_last_pong",
        "_on_timeout",
        "_paused",
        "_pong",
        "_silent_checks",
        "_stopped",
        "_timer",
        "_writer",
        "timeout",
    )

    def __init__(
        self,
        connection: Connection,
        writer: ClientWriter,
        pong: str,
        timeout: float,
        on_timeout: Callable[[], None] | None,
    ) -> None:
        """`on_timeout` is called after silence; None tolerates it."""
        self._connection = connection
        self._writer = writer
        self._pong = pong
        self._on_timeout = on_timeout
        self._last_pong = -math.inf
        self._paused = False
        self._stopped = False
        self._activity = connection.get_activity()
        self._silent_checks = 0
        self.timeout: float = timeout
        self._timer = self._arm()

    def restart(self, timeout: float) -> None:
        """Expect a sign of life within `timeout` seconds from now on."""
        self.timeout = timeout
        self._timer.cancel()
        self._activity = self._connection.get_activity()
        self._silent_checks = 0
        self._timer = self._arm()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped = True
        self._timer.cancel()

    def answer_ping(self) -> None:
        """Send a pong."""
        self._last_pong = asyncio.get_running_loop().time()
        # The frames of a full buffer already show the server that this side is alive.
        with contextlib.suppress(ResourceLimitError):
            self._writer.send_message(self._pong)

    def reading_paused(self) -> None:
        """Send a pong at each check, because pings are not read while reading is paused."""
        self._paused = True
        now = asyncio.get_running_loop().time()
        if self._last_pong + self.timeout / CHECKS_PER_TIMEOUT <= now:
            self.answer_ping()

    def reading_resumed(self) -> None:
        """Expect signs of life again."""
        self._paused = False
        self._silent_checks = 0

    def _arm(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self.timeout / CHECKS_PER_TIMEOUT, self._check)

    def _check(self) -> None:
        self._timer = self._arm()
        activity = self._connection.get_activity()
        if self._paused:
            self._silent_checks = 0
            self.answer_ping()
        elif activity != self._activity:
            self._silent_checks = 0
        else:
            self._silent_checks += 1
            if self._silent_checks >= CHECKS_PER_TIMEOUT and self._on_timeout is not None:
                after_reading(self._time_out)
        self._activity = activity

    def _time_out(self) -> None:
        if self._stopped or self._paused or self._on_timeout is None:
            return
        if self._connection.get_activity() == self._activity:
            self._on_timeout()
