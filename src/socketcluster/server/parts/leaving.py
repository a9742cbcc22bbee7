"""How a socket ends: closed by this side, or lost, with the client's last words in between.

Source: SocketCluster documentation, AGServerSocket ('disconnect', 'connectAbort', 'close', 'end').
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    ResourceLimitError,
)
from socketcluster.events import CloseEvent, ConnectAbortEvent, DisconnectEvent, EndEvent
from socketcluster.protocol.state import CLOSED, OPEN, close_error
from socketcluster.server.events import ClosureEvent, ConnectionAbortEvent, DisconnectionEvent
from socketcluster.server.parts.last_words import LastWords

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


def leave(socket: AGServerSocket, code: int, reason: str | None, told: str) -> None:
    """Close after what was sent, with one reason for the events and one for the client."""
    if socket.state != CLOSED:
        try:
            socket.outbound.flush_batch()
            socket.outbound.flush_now()
        except Exception as error:
            give_up(socket, error)
            return
        end(socket, code, reason)
        socket.connection.close(code, told)
    elif socket.last_words is not None:
        end(socket, code, reason)


def lose(socket: AGServerSocket, code: int, reason: str | None) -> None:
    """The connection is gone: carry out the messages received before, then end the socket."""
    if socket.state == CLOSED:
        return
    if not socket.inbound.waiting:
        end(socket, code, reason)
        return
    if socket.state == OPEN:
        socket.state = CLOSED
        _silence(socket, code, reason)
    elif socket.introduction is None:
        # A handshake that needs to wait for nothing is decided in this turn.
        asyncio.get_running_loop().call_soon(abort_undecided, socket)
    seconds = socket.server.options.milliseconds("last_words_timeout") / 1000
    socket.last_words = LastWords(code, reason, seconds, partial(_last_words_over, socket))
    socket.inbound.when_idle(socket.last_words.done)
    socket.subscribed.give_up_pending()


def lost_in_handshake(socket: AGServerSocket) -> None:
    """The handshake is complete, and the connection was lost meanwhile."""
    words = socket.last_words
    assert words is not None
    socket.state = CLOSED
    _silence(socket, words.code, words.reason)


def abort_undecided(socket: AGServerSocket) -> None:
    """End a lost socket whose handshake has not been decided."""
    if socket.last_words is not None and not socket.was_opened:
        end(socket, 1006, None)


def _last_words_over(socket: AGServerSocket, in_time: bool) -> None:
    words = socket.last_words
    if words is None:
        return
    if not in_time:
        socket.emit_error(
            ResourceLimitError(
                f"{socket.get_inbound_backpressure()} messages of socket {socket.id} were dropped: "
                "they were not carried out within last_words_timeout after it left"
            )
        )
    end(socket, words.code, words.reason)


def _silence(socket: AGServerSocket, code: int, reason: str | None) -> None:
    """Nothing can be sent any more, and no answer can come."""
    socket.cancel_batching()
    socket.outbound.close()
    _abort_calls(socket, code, reason)


def _abort_calls(socket: AGServerSocket, code: int, reason: str | None) -> None:
    if socket.calls is not None:
        failure = "disconnect" if socket.was_opened else "connectAbort"
        socket.calls.abort(failure, code, reason)


def give_up(socket: AGServerSocket, error: Exception) -> None:
    """This side failed in something with a socket: report it, and drop that socket alone."""
    socket.server.report_fault(error)
    # What else fails with it is not worth another report.
    with contextlib.suppress(Exception):
        socket.connection.abort()
    with contextlib.suppress(Exception):
        end(socket, 1011, None)
    socket.server.forget(socket)


def end(socket: AGServerSocket, code: int, reason: str | None) -> None:
    """Emit the events of the end, once. The code of a lost connection wins."""
    if socket.ended:
        return
    words, socket.last_words = socket.last_words, None
    if words is not None:
        words.cancel()
        code, reason = words.code, words.reason
    reason = reason or SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
    socket.state = CLOSED
    server = socket.server
    server.forget(socket)
    socket.inbound.close()
    if socket.introduction is not None:
        socket.introduction.cancel()
    socket.cancel_batching()
    _abort_calls(socket, code, reason)
    if socket.was_opened:
        socket.emit("disconnect", DisconnectEvent(code, reason))
        server.emit("disconnection", DisconnectionEvent(socket, code, reason))
    else:
        socket.emit("connectAbort", ConnectAbortEvent(code, reason))
        server.emit("connectionAbort", ConnectionAbortEvent(socket, code, reason))
    socket.emit("close", CloseEvent(code, reason))
    server.emit("closure", ClosureEvent(socket, code, reason))
    if code not in SOCKET_PROTOCOL_IGNORE_STATUSES:
        socket.emit_error(close_error(code, reason))
    socket.subscribed.leave_all()
    socket.outbound.close()
    socket.emit("end", EndEvent())
    # After those who wait for these events have been woken.
    asyncio.get_running_loop().call_soon(_clean_up, socket)


def _clean_up(socket: AGServerSocket) -> None:
    socket.kill_all_middlewares()
    mode = socket.server.options.socket_stream_cleanup_mode
    if mode == "kill":
        socket.kill_all_streams()
    elif mode == "close":
        socket.close_all_streams()
    if mode != "none":
        socket.finish_all_streams()
