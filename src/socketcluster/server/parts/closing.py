"""Closing: the end of a socket, closed by this side or lost, and its last words before that.

Source: SocketCluster documentation, AGServerSocket ('disconnect', 'connectAbort', 'close', 'end').
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from socketcluster.engines.base import Connection
from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    ResourceLimitError,
)
from socketcluster.events import CloseEvent, ConnectAbortEvent, DisconnectEvent, EndEvent
from socketcluster.protocol.state import CLOSE_NO_STATUS, CLOSED, OPEN, close_error
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.last_words import LastWords
from socketcluster.server.parts.life import LAST_WORDS, LEAVING, Life
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.setup import SetupBarrier
from socketcluster.server.parts.subscriptions import Subscriptions
from socketcluster.sockets.batching import Batching


class ClosingObserver(Protocol):
    """Receives the end of a socket; `socket` is the `ClosingOwner`."""

    def forget(self, socket: Any) -> None:
        """Remove the socket from the server's."""

    def connection_lost(self, socket: Any, code: int, reason: str | None) -> None: ...
    def closed(self, socket: Any, code: int, reason: str | None) -> None: ...


class Pausable(Protocol):
    """A socket's rate limits, as its closing sees them."""

    def end_pause(self) -> None: ...


class ClosingOwner(Protocol):
    """Closing's view of its socket: the other parts, all of which it ends, and the events."""

    id: str

    @property
    def life(self) -> Life: ...
    @property
    def connection(self) -> Connection: ...
    @property
    def inbound(self) -> Inbound: ...
    @property
    def outbound(self) -> Outbound: ...
    @property
    def batching(self) -> Batching: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def subscribed(self) -> Subscriptions: ...
    @property
    def setup(self) -> SetupBarrier: ...
    @property
    def rates(self) -> Pausable | None: ...
    def emit(self, event: str, data: Any = None) -> None: ...
    def emit_error(self, error: BaseException) -> None: ...


class ClosingContext(Protocol):
    """Closing's view of its server."""

    @property
    def options(self) -> ServerOptions: ...
    @property
    def observer(self) -> ClosingObserver: ...
    def report_fault(self, error: BaseException, socket: Any = None) -> None: ...


class Closing:
    """Ends one socket, once.

    Attributes:
        code: of the end; None before it.
        last_words: runs while messages of a lost connection are carried out; None otherwise.
    """

    __slots__ = ("_context", "_end_streams", "_socket", "code", "last_words")

    def __init__(
        self, socket: ClosingOwner, context: ClosingContext, end_streams: Callable[[], None]
    ) -> None:
        """Make the closing; it calls `end_streams` last, after consumers of the events have run."""
        self._socket = socket
        self._context = context
        self._end_streams = end_streams
        self.code: int | None = None
        self.last_words: LastWords | None = None

    def leave(self, code: int, reason: str | None, client_reason: str) -> None:
        """Close after the messages sent so far.

        The events have `reason`; the client gets `client_reason`. The code 1005 closes without one.
        """
        socket = self._socket
        if socket.life.state != CLOSED:
            outbound = socket.outbound
            try:
                outbound.flush_batch()
                outbound.flush_now()
            except Exception as error:
                self.fail(error)
                return
            # A close without a code is an error only if the client makes it.
            self.end(code, reason, is_error=code != CLOSE_NO_STATUS)
            socket.connection.close(code, client_reason)
        elif self.last_words is not None:
            self.end(code, reason)

    def overflow(self) -> None:
        """Drop the connection of a client that reads too slowly."""
        if self._socket.life.state != CLOSED:
            limit = self._context.options.max_outbound_buffer
            self.drop(1008, f"More than {limit} bytes wait to be sent (max_outbound_buffer)")

    def drop(self, code: int, reason: str | None) -> None:
        """End the socket and abort its connection."""
        self.end(code, reason)
        self._socket.connection.abort()

    def fail(self, error: Exception) -> None:
        """Report a fault of this side with the socket, and drop that socket alone."""
        self._context.report_fault(error, self._socket)
        # Further errors of a broken socket need no report.
        with contextlib.suppress(Exception):
            self._socket.connection.abort()
        with contextlib.suppress(Exception):
            self.end(1011, None)
        self._context.observer.forget(self._socket)

    # A lost connection

    def lose(self, code: int, reason: str | None) -> None:
        """Carry out the messages received before the connection was lost, then end the socket."""
        socket = self._socket
        if socket.life.state == CLOSED:
            return
        if not socket.inbound.waiting:
            self.end(code, reason)
            return
        if socket.life.state == OPEN:
            socket.life.enter(LAST_WORDS)
            self._silence(code, reason)
        else:
            socket.life.enter(LEAVING)
            if not socket.setup.waits_for_handshake:
                # A handshake without anything to wait for is decided in this loop turn.
                asyncio.get_running_loop().call_soon(self.abort_undecided)
        seconds = self._context.options.milliseconds("last_words_timeout") / 1000
        self.last_words = LastWords(code, reason, seconds, self._last_words_over)
        socket.inbound.when_idle(self.last_words.done)
        if socket.rates is not None:
            socket.rates.end_pause()
        socket.subscribed.abandon_pending()

    def handshake_completed(self) -> None:
        """Begin the last words of a socket that lost its connection during the handshake."""
        words = self.last_words
        if words is not None:
            self._socket.life.enter(LAST_WORDS)
            self._silence(words.code, words.reason)

    def abort_undecided(self) -> None:
        """End a lost socket whose handshake has not been decided."""
        if self._socket.life.phase == LEAVING:
            self.end(1006, None)

    def _last_words_over(self, in_time: bool) -> None:
        words = self.last_words
        if words is None:
            return
        if not in_time:
            inbound = self._socket.inbound
            self._socket.emit_error(
                ResourceLimitError(
                    f"{inbound.received - inbound.processed} messages of socket {self._socket.id} "
                    "were dropped: they were not carried out within last_words_timeout after it "
                    "left"
                )
            )
        self.end(words.code, words.reason)

    def _silence(self, code: int, reason: str | None) -> None:
        """Send nothing more, and expect no answer."""
        self._socket.batching.cancel()
        self._socket.outbound.close()
        self._socket.messaging.abort_calls(code, reason)

    # The end

    def end(self, code: int, reason: str | None, is_error: bool = True) -> None:
        """Emit the events of the end, once. The code of a lost connection wins.

        'error' is not emitted if `is_error` is false, and never for codes that are no errors.
        """
        socket = self._socket
        observer = self._context.observer
        if socket.life.ended:
            return
        words, self.last_words = self.last_words, None
        if words is not None:
            words.cancel()
            code, reason = words.code, words.reason
        self.code = code
        reason = reason or SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
        socket.life.enter(CLOSED)
        observer.forget(socket)
        socket.inbound.close()
        socket.setup.cancel()
        socket.batching.cancel()
        socket.messaging.abort_calls(code, reason)
        if socket.life.was_opened:
            socket.emit("disconnect", DisconnectEvent(code, reason))
        else:
            socket.emit("connectAbort", ConnectAbortEvent(code, reason))
        observer.connection_lost(socket, code, reason)
        socket.emit("close", CloseEvent(code, reason))
        observer.closed(socket, code, reason)
        if is_error and code not in SOCKET_PROTOCOL_IGNORE_STATUSES:
            socket.emit_error(close_error(code, reason))
        socket.subscribed.leave_all()
        socket.outbound.close()
        socket.emit("end", EndEvent())
        asyncio.get_running_loop().call_soon(self._end_streams)
