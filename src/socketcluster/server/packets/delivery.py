"""What a client sent reaches its consumers: an event the receivers, a call the procedure, a message
whoever listens.

Data that was left as the bytes received waits for a consumer in that form. What middleware has
seen waits as the value that it has seen, and counts for what that may take.
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
    """Give an event to its receivers, a call to its procedure. `size` is that of the bytes which
    the data was made of, if that is more than counts for one message."""
    if cid is None:
        if size and socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(event, _weight(data, size), lambda: data)
        else:
            socket.streams.put_event(event, data)
        return
    request = socket.context.make_request(socket, cid, event, data)
    socket.messaging.unanswered[cid] = event
    if size and socket.streams.procedures is not None:
        found = socket.streams.procedures.write_deferred(
            event, _weight(data, size), lambda: request
        )
    else:
        found = socket.streams.put_call(event, request)
    if not found:
        refuse_unknown(socket, event, request)


def _weight(data: Any, size: int) -> int:
    return size if type(data) in _LIGHT else size * MADE_WEIGHT


def deliver_unparsed(
    socket: AGServerSocket, event: str, cid: int | float | None, data: Unparsed
) -> None:
    """`deliver` data that is parsed when the first consumer takes it."""
    if cid is None:
        if socket.streams.receivers is not None:
            socket.streams.receivers.write_deferred(event, data.size, _event_data(socket, data))
        return
    call = WaitingCall(socket, cid, event, data)
    if socket.streams.procedures is None or not socket.streams.procedures.write_deferred(
        event, data.size, call.request
    ):
        call.refuse(unknown_procedure(event))


def refuse_unknown(socket: AGServerSocket, name: str, request: Any) -> None:
    """Answer a request to a procedure that nobody handles."""
    if socket.life.state == CLOSED:
        request.sent = True  # It left meanwhile.
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
    """A call that nobody has taken yet. Dropped untaken it is answered as a dropped request is."""

    __slots__ = ("_cid", "_data", "_event", "_settled", "_socket")

    def __init__(
        self, socket: AGServerSocket, cid: int | float, event: str, data: Unparsed
    ) -> None:
        self._socket = socket
        self._cid = cid
        self._event = event
        self._data = data
        self._settled = False
        socket.messaging.unanswered[cid] = event

    def request(self) -> Any:
        """Its AGRequest, or NO_VALUE: then the caller has its answer."""
        self._settled = True
        socket = self._socket
        try:
            data = self._data.parse()
        except InvalidMessageError as error:
            socket.emit_error(error)
            self.refuse(error)
            socket.inbound.rejections.count_malformed()
            return NO_VALUE
        try:
            return socket.context.make_request(socket, self._cid, self._event, data)
        except Exception as error:
            socket.middleware.fail(error)
            return NO_VALUE

    def refuse(self, error: BaseException) -> None:
        """Answer it with an error."""
        self._settled = True
        if self._socket.life.state != CLOSED:
            self._socket.messaging.respond(self._cid, None, error)

    def __del__(self) -> None:
        try:
            if not self._settled:
                self._socket.messaging.request_dropped(self._cid, self._event)
        except (AttributeError, RuntimeError):
            pass  # Half made, or its loop is closed: there is nobody to answer.
