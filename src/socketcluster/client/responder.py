"""The responder of a client: answers the server's calls over the connection they arrived by."""

from __future__ import annotations

import contextlib
from typing import Any

from socketcluster.client.connection import ClientConnection
from socketcluster.client.reporting import Events
from socketcluster.client.writer import ClientWriter
from socketcluster.errors import ResourceLimitError, dehydrate_error, internal_error
from socketcluster.protocol.state import OPEN
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.messaging import not_open
from socketcluster.sockets.request import report_dropped, report_failed


class ConnectionResponder:
    """The `Responder` and `HandlerResponder` of the calls that arrived over one connection.

    After the connection is closed, a handler's answer is dropped; that of a loop emits an 'error'.

    Attributes:
        unanswered: the calls that handlers have not answered yet: from the cid to the procedure.
    """

    __slots__ = ("_binding", "_connection", "_events", "unanswered")

    def __init__(self, connection: ClientConnection, events: Events, binding: LoopBinding) -> None:
        self._connection = connection
        self._events = events
        self._binding = binding
        self.unanswered: dict[int | float, str] = {}

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """See `Responder.respond`."""
        self._binding.check()
        writer = self._open_writer()
        if writer is None:
            self._events.emit_error(not_open())
            return
        packet: dict[str, Any] = {"rid": rid}
        if error is not None:
            packet["error"] = dehydrate_error(error)
        elif data is not None:
            packet["data"] = data
        writer.send(packet)

    def _open_writer(self) -> ClientWriter | None:
        writer = self._connection.writer
        return None if writer is None or writer.closed else writer

    def answer(self, rid: int | float, data: Any) -> None:
        """See `HandlerResponder.answer`.

        Raises:
            EncodeError: the codec cannot encode `data`.
            ResourceLimitError: there is no room for the answer.
        """
        writer = self._open_writer()
        if writer is not None:
            writer.send({"rid": rid} if data is None else {"rid": rid, "data": data})
        self.unanswered.pop(rid, None)

    def answer_error(self, rid: int | float, error: BaseException) -> None:
        """See `HandlerResponder.answer_error`."""
        self.unanswered.pop(rid, None)
        writer = self._open_writer()
        if writer is None:
            return
        try:
            writer.send({"rid": rid, "error": dehydrate_error(error)})
        except ResourceLimitError as full:  # There is no room for the answer.
            self._events.emit_error(full)
            with contextlib.suppress(ResourceLimitError):
                writer.send({"rid": rid, "error": dehydrate_error(internal_error())})

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
