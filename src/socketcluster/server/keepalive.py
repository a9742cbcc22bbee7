"""Keepalive: pings, missing pongs, handshake timeouts, expired tokens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from functools import partial
from time import perf_counter

from socketcluster.protocol.frames import text_frame
from socketcluster.protocol.state import CLOSE_HANDSHAKE_TIMEOUT, CLOSE_PONG_TIMEOUT, PINGS
from socketcluster.runtime.isolation import for_each
from socketcluster.server.context import SocketContext
from socketcluster.server.hub import Hub, drop_failed
from socketcluster.server.memory_limit import MemoryLimit
from socketcluster.server.socket import AGServerSocket
from socketcluster.server.watchdog import Watchdog

SLICE = 250
"""How many sockets to check in one turn of the loop: that takes a millisecond or two."""

SHARE = 0.8
"""The part of a period over which the slices are spread."""


class Keepalive:
    """Checks all sockets of a server, once a period.

    Many sockets are checked in slices over the period, so that no turn of the loop takes long.
    """

    __slots__ = ("_context", "_hub", "_memory_limit", "_ping_frame", "_round", "_watchdog")

    def __init__(
        self, context: SocketContext, hub: Hub, memory_limit: MemoryLimit, watchdog: Watchdog
    ) -> None:
        self._context = context
        self._hub = hub
        self._memory_limit = memory_limit
        self._watchdog = watchdog
        self._ping_frame = text_frame(PINGS[context.options.protocol_version][0])
        self._round: Iterator[None] | None = None

    def tick(self, now: float) -> None:
        """Ping, time out, expire, and bound the memory; `now` is the ticker's, in seconds."""
        if self._round is not None:  # The loop is late: no socket may be left out.
            for _ in self._round:
                pass
        timeout = self._context.handshake_timeout / 1000
        pending = list(self._hub.pending.values())
        for_each(pending, partial(self._check_handshake, now, timeout), drop_failed)
        sockets = self._hub.sockets()
        self._round = self._check_all(now, sockets)
        slices = max(1, math.ceil(len(sockets) / SLICE))
        self._check_slice(self._round, self._context.ticker.period * SHARE / slices)

    def _check_slice(self, round: Iterator[None], pause: float) -> None:
        try:
            next(round)
        except StopIteration:
            if self._round is round:
                self._round = None
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(pause, self._check_slice, round, pause)

    def _check_all(self, now: float, sockets: list[AGServerSocket]) -> Iterator[None]:
        """Check the sockets of one period, and yield between two slices."""
        context = self._context
        interval, timeout = context.ping_interval / 1000, context.ping_timeout / 1000
        check = partial(self._check_socket, now, interval, timeout)
        self._memory_limit.begin()
        self._watchdog.begin()
        for start in range(0, len(sockets), SLICE):
            if start:
                yield
            some = [s for s in sockets[start : start + SLICE] if not s.life.ended]
            self._memory_limit.add(some)
            for_each(some, check, drop_failed)
            self._watchdog.look(now, some)
        self._memory_limit.enforce()

    def _check_handshake(self, now: float, timeout: float, socket: AGServerSocket) -> None:
        if now - socket.life.opened_at >= timeout:
            self._watchdog.handshake_timed_out(socket)
            socket.disconnect(CLOSE_HANDSHAKE_TIMEOUT)

    def _check_socket(
        self, now: float, interval: float, timeout: float, socket: AGServerSocket
    ) -> None:
        if not self._context.options.ping_timeout_disabled:
            if not is_alive(socket, now, timeout):
                socket.disconnect(CLOSE_PONG_TIMEOUT)
                return
            time = self._context.ticker.time
            if time >= socket.life.next_ping:
                socket.life.next_ping = time + interval
                if self._context.sessions is not None:
                    self._context.sessions.pinged(socket)
                socket.outbound.append(self._ping_frame)
                if self._context.pongs is not None:
                    socket.life.pinged_at = perf_counter()
        if socket.auth.expires_at is not None:
            socket.auth.check_expiry()


def is_alive(socket: AGServerSocket, now: float, timeout: float) -> bool:
    """Whether a socket's peer is alive. `now` is the ticker's.

    It is if it sent anything in the last `timeout` seconds, a part of a message included, or if
    reading was paused.
    """
    inbound = socket.inbound
    if inbound.flow_control.was_paused():
        inbound.last_seen = now
        return True
    silence = now - inbound.last_seen
    if silence > timeout / 2:
        activity = socket.connection.get_activity()
        if inbound.silence is None or inbound.silence[0] != inbound.last_seen:
            inbound.silence = (inbound.last_seen, activity)
        elif activity != inbound.silence[1]:
            inbound.last_seen = now
            inbound.silence = (now, activity)
            silence = 0.0
    return silence <= timeout
