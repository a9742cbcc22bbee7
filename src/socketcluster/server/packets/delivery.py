"""Delivery: passes a client's events to their receivers, and its calls to their procedures.

Large data waits for a consumer as the bytes received. Data that middleware has seen waits as a
value, and counts with the memory that such a value takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.errors import InvalidMessageError
from socketcluster.protocol.packets import Unparsed
from socketcluster.protocol.state import CLOSED
from socketcluster.server.socket import AGServerSocket
from socketcluster.sockets.messaging import unknown_procedure
from socketcluster.streams import MADE_WEIGHT, NO_VALUE

_LIGHT = (str, int, float, bool, type(None))


def deliver(
    socket: AGServerSocket, event: str, cid: int | float | None, data: Any, size: int = 0
) -> None:
    """Pass an event to its handler and its receivers, or a call to its procedure.

    `size` is the size of the encoded data in bytes if the backlog has to count it, else 0.
    """
    handling = socket.context.handling
    if cid is None:
        if event in handling.receivers:
            handling.receivers[event].carry_out(socket, data, size=_weight(data, size))
        if size and socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(event, _weight(data, size), lambda: data)
        else:
            socket.streams.put_event(event, data)
        return
    if event in handling.procedures:
        handling.procedures[event].carry_out(socket, cid, data, size=_weight(data, size))
        return
    request = socket.context.make_call(socket, cid, event, data)
    socket.messaging.unanswered[cid] = event
    if size and socket.streams.procedures is not None:
        has_consumer = socket.streams.procedures.write_deferred(
            event, _weight(data, size), lambda: request
        )
    else:
        has_consumer = socket.streams.put_call(event, request)
    if not has_consumer:
        answer_unknown_procedure(socket, event, request)


def _weight(data: Any, size: int) -> int:
    return size if type(data) in _LIGHT else size * MADE_WEIGHT


def deliver_unparsed(
    socket: AGServerSocket, event: str, cid: int | float | None, data: Unparsed
) -> None:
    """Deliver data like `deliver`; it is parsed when the first consumer takes it."""
    handling = socket.context.handling
    if cid is None:
        if event in handling.receivers:
            handling.receivers[event].carry_out(socket, data)
        if socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(event, data.size, _event_data(socket, data))
        return
    if event in handling.procedures:
        handling.procedures[event].carry_out(socket, cid, data)
        return
    call = WaitingCall(socket, cid, event, data)
    if socket.streams.procedures is None or not socket.streams.procedures.write_deferred(
        event, data.size, call.request
    ):
        call.answer_error(unknown_procedure(event))


def answer_unknown_procedure(socket: AGServerSocket, name: str, request: Any) -> None:
    """Answer a request whose procedure has no consumer."""
    if socket.life.state == CLOSED:
        request.sent = True  # The client left meanwhile.
    else:
        request.error(unknown_procedure(name))


def _event_data(socket: AGServerSocket, data: Unparsed) -> Callable[[], Any]:
    def make() -> Any:
        try:
            return data.parse()
        except InvalidMessageError as error:
            socket.emit_error(error)
            socket.inbound.rejections.count_malformed()
            return NO_VALUE

    return make


class WaitingCall:
    """A call that waits for a consumer. If it is dropped, it is answered like a dropped request."""

    __slots__ = ("_cid", "_data", "_done", "_event", "_socket")

    def __init__(
        self, socket: AGServerSocket, cid: int | float, event: str, data: Unparsed
    ) -> None:
        self._socket = socket
        self._cid = cid
        self._event = event
        self._data = data
        self._done = False
        socket.messaging.unanswered[cid] = event

    def request(self) -> Any:
        """Make the AGRequest; return NO_VALUE if the call is answered with an error instead."""
        self._done = True
        socket = self._socket
        try:
            data = self._data.parse()
        except InvalidMessageError as error:
            socket.emit_error(error)
            self.answer_error(error)
            socket.inbound.rejections.count_malformed()
            return NO_VALUE
        try:
            return socket.context.make_call(socket, self._cid, self._event, data)
        except Exception as error:
            socket.middleware.fail(error)
            return NO_VALUE

    def answer_error(self, error: BaseException) -> None:
        """Answer the call with an error."""
        self._done = True
        if self._socket.life.state != CLOSED:
            self._socket.messaging.respond(self._cid, None, error)

    def __del__(self) -> None:
        try:
            if not self._done:
                self._socket.messaging.request_dropped(self._cid, self._event)
        except (AttributeError, RuntimeError):
            pass  # Partly constructed, or the loop is closed: an answer is impossible.
