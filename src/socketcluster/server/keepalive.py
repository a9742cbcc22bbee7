"""Keepalive: pings, missing pongs, handshake timeouts, expired tokens."""

from __future__ import annotations

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


class Keepalive:
    """Checks all sockets of a server, once a tick."""

    __slots__ = ("_context", "_hub", "_memory_limit", "_ping_frame", "_watchdog")

    def __init__(
        self, context: SocketContext, hub: Hub, memory_limit: MemoryLimit, watchdog: Watchdog
    ) -> None:
        self._context = context
        self._hub = hub
        self._memory_limit = memory_limit
        self._watchdog = watchdog
        self._ping_frame = text_frame(PINGS[context.options.protocol_version][0])

    def tick(self, now: float) -> None:
        """Ping, time out, expire, and bound the memory; `now` is the ticker's, in seconds."""
        context, hub = self._context, self._hub
        timeout = context.handshake_timeout / 1000
        pending = list(hub.pending.values())
        for_each(pending, partial(self._check_handshake, now, timeout), drop_failed)
        sockets = hub.sockets()
        self._memory_limit.check(sockets)
        interval, timeout = context.ping_interval / 1000, context.ping_timeout / 1000
        for_each(sockets, partial(self._check_socket, now, interval, timeout), drop_failed)
        self._watchdog.look(now, hub.sockets())

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
