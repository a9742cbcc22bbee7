"""What a server does with its sockets as time goes by, and with errors."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.events import ErrorEvent, WarningEvent
from socketcluster.protocol.state import CLOSE_HANDSHAKE_TIMEOUT, CLOSE_PONG_TIMEOUT
from socketcluster.runtime.isolation import for_each
from socketcluster.runtime.reporting import Reporter, one_line
from socketcluster.server.keepalive import Ticker
from socketcluster.server.listeners import ServerListeners
from socketcluster.server.memory_limit import Buffered
from socketcluster.server.parts.leaving import give_up
from socketcluster.server.silence import hears
from socketcluster.server.watchdog import Watch

if TYPE_CHECKING:
    from socketcluster.server.options import ServerOptions
    from socketcluster.server.socket import AGServerSocket


class Supervision(ServerListeners):
    """The server's sockets and its errors.

    `reporter` logs: what the same fault repeats is counted, not logged again.
    """

    reporter: Reporter
    options: ServerOptions
    clients: dict[str, AGServerSocket]
    pending_clients: dict[str, AGServerSocket]
    ticker: Ticker
    watch: Watch
    buffered: Buffered

    def welcome(self, socket: AGServerSocket) -> None:
        """A socket has completed its handshake."""
        self.pending_clients.pop(socket.id, None)
        self.clients[socket.id] = socket

    def forget(self, socket: AGServerSocket) -> None:
        """A socket is lost."""
        self.pending_clients.pop(socket.id, None)
        self.clients.pop(socket.id, None)

    def tick(self, now: float) -> None:
        """Ping, time out, expire, bound what is held: what the ticker does."""
        options = self.options
        within = options.milliseconds("handshake_timeout") / 1000
        for_each(
            list(self.pending_clients.values()),
            partial(self._check_handshake, now, within),
            give_up,
        )
        sockets = [*self.clients.values(), *self.pending_clients.values()]
        self.buffered.check(sockets)
        interval = options.milliseconds("ping_interval") / 1000
        timeout = options.milliseconds("ping_timeout") / 1000
        for_each(sockets, partial(self._check_life, now, interval, timeout), give_up)
        self.watch.look(now, [*self.clients.values(), *self.pending_clients.values()])

    def _check_handshake(self, now: float, within: float, socket: AGServerSocket) -> None:
        if now - socket.opened_at >= within:
            self.watch.handshake_timed_out(socket)
            socket.disconnect(CLOSE_HANDSHAKE_TIMEOUT)

    def _check_life(
        self, now: float, interval: float, timeout: float, socket: AGServerSocket
    ) -> None:
        if not self.options.ping_timeout_disabled:
            if not hears(socket, now, timeout):
                socket.disconnect(CLOSE_PONG_TIMEOUT)
                return
            time = self.ticker.time
            if time >= socket.next_ping:
                socket.next_ping = time + interval
                socket.ping()
        if socket.auth.expires_at is not None:
            socket.auth.check_expiry()

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error'; without a listener it is logged with its traceback."""
        if self.get_listener_consumer_count("error") == 0:
            self.reporter.fault(one_line(error), error)
        self.emit("error", ErrorEvent(error))

    def emit_warning(self, warning: BaseException) -> None:
        """Emit 'warning', what a client did wrong as a rule; without a listener it is logged at
        DEBUG, in one line."""
        if self.get_listener_consumer_count("warning") == 0:
            self.reporter.line(one_line(warning), logging.DEBUG, type(warning).__qualname__)
        self.emit("warning", WarningEvent(warning))

    def report_broker(self, what: str, error: BaseException) -> None:
        """Log a failure of the broker in something: in one line, unless it is unexpected."""
        if isinstance(error, SocketClusterError):
            self.reporter.line(one_line(error), logging.WARNING, ("broker", what))
        else:
            self.reporter.fault(f"The broker failed: {one_line(error)}", error)

    def report_engine(self, error: BaseException) -> None:
        """Log what an auth engine raised that says nothing of a token."""
        if not isinstance(error, SocketClusterError):
            self.reporter.fault("The auth engine failed to verify a token", error)
        elif isinstance(error, BrokerError):
            self.report_broker("authentication", error)

    def broker_failed(self, error: BaseException) -> None:
        """The broker failed in something that no caller hears of: logged, emitted as 'warning'."""
        self.report_broker("background", error)
        self.emit("warning", WarningEvent(error))

    def report_fault(self, error: BaseException) -> None:
        """A fault of this side that no caller hears of: logged in full, and emitted as 'error'."""
        self.reporter.fault(f"Unexpected {one_line(error)}", error)
        self.emit("error", ErrorEvent(error))
