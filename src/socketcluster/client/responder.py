"""The responder of a client: answers the server's calls over the connection they arrived by."""

from __future__ import annotations

from typing import Any

from socketcluster.client.connection import ClientConnection
from socketcluster.client.reporting import Events
from socketcluster.errors import dehydrate_error, internal_error
from socketcluster.protocol.state import OPEN
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.messaging import not_open
from socketcluster.sockets.request import report_dropped, report_failed


class ConnectionResponder:
    """The `Responder` of the calls that arrived over one connection.

    After the connection is closed, an answer only emits an 'error'.
    """

    __slots__ = ("_binding", "_connection", "_events")

    def __init__(self, connection: ClientConnection, events: Events, binding: LoopBinding) -> None:
        self._connection = connection
        self._events = events
        self._binding = binding

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """See `Responder.respond`."""
        self._binding.check()
        writer = self._connection.writer
        if writer is None or writer.closed:
            self._events.emit_error(not_open())
            return
        packet: dict[str, Any] = {"rid": rid}
        if error is not None:
            packet["error"] = dehydrate_error(error)
        elif data is not None:
            packet["data"] = data
        writer.send(packet)

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        """See `Responder.request_dropped`."""
        self._binding.finalize(self._answer_dropped, rid, procedure)

    def _answer_dropped(self, rid: int | float, procedure: str) -> None:
        if self._connection.state == OPEN:
            report_dropped(self._events.reporter, procedure)
            self.respond(rid, None, internal_error())

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """See `Responder.request_failed`."""
        report_failed(self._events.reporter, procedure, error)
