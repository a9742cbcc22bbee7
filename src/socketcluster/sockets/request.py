"""AGRequest: a remote procedure call that awaits its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeGuard

from socketcluster.errors import (
    BrokerError,
    InvalidActionError,
    InvalidArgumentsError,
    ResourceLimitError,
    SocketClusterError,
    UsageError,
    internal_error,
)
from socketcluster.generics import DataT
from socketcluster.runtime.reporting import Reporter, clean


class Responder(Protocol):
    """The way back to the caller: a server's socket, or a client's connection."""

    def respond(self, rid: int | float, data: Any, error: BaseException | str | None) -> None:
        """Send `{"rid", "data"}` or `{"rid", "error"}`."""

    def request_dropped(self, rid: int | float, procedure: str) -> None:
        """Answer a request that was garbage-collected without a response. Finalizers call it."""

    def request_failed(self, procedure: str, error: BaseException) -> None:
        """Log an error whose text the caller does not receive."""


class HandlerResponder(Protocol):
    """The way back to the caller of a handler. A closed socket drops the answer."""

    def answer(self, rid: int | float, data: Any) -> None: ...
    def answer_error(self, rid: int | float, error: BaseException) -> None: ...
    def request_dropped(self, rid: int | float, procedure: str) -> None: ...
    def request_failed(self, procedure: str, error: BaseException) -> None: ...


def report_failed(
    reporter: Reporter, procedure: str, error: BaseException, socket: Any = None
) -> None:
    """Log the error that a procedure's handler raised."""
    text = f"The handler of {clean(procedure)!r} failed"
    reporter.fault(text, error, kind=procedure, socket=socket, procedure=procedure)


def report_dropped(reporter: Reporter, procedure: str, socket: Any = None) -> None:
    """Log that a procedure's handler dropped a call without an answer."""
    reporter.line(
        f"A call of {clean(procedure)!r} was dropped unanswered: its handler ended, or went on, "
        "without request.end() or request.error()",
        logging.WARNING,
        ("dropped", procedure),
        socket=socket,
        procedure=procedure,
    )


def _is_meant(error: BaseException) -> TypeGuard[SocketClusterError]:
    """Return whether a handler raised an error for the caller."""
    return isinstance(error, SocketClusterError) and not isinstance(error, UsageError)


def error_for_caller(error: BaseException, report: Callable[[], None]) -> SocketClusterError:
    """Return the caller's error of a failed handler; call `report` if the caller learns less."""
    if not _is_meant(error):
        report()
        return internal_error()
    if isinstance(error, BrokerError) and not error.is_remote:
        report()
    return error


def answer_failure(
    responder: HandlerResponder, rid: int | float, procedure: str, error: Exception
) -> None:
    """Answer a call with the error of its handler; log one that the caller receives less of."""
    responder.answer_error(
        rid, error_for_caller(error, partial(responder.request_failed, procedure, error))
    )


class AGRequest(Generic[DataT]):
    """A remote procedure call to answer, as `socket.procedure(name)` yields it.

    Answer it with `end(data)` or `error(exception)`, once. `with request:` answers with the error
    that its block raises, and continues after the block: an error of this package, or derived from
    one, is sent as it is; any other exception is logged in full, and the caller receives a plain
    `InternalServerError`. It receives the same if a request is dropped without an answer.

    Attributes:
        socket: the caller's socket.
        id: the caller's number for the call, `cid` on the wire.
        procedure: the name of the procedure.
        data: the argument; `AGRequest[Add]` has one of the type `Add`.
        sent: whether the request was answered.

    Source: SocketCluster protocol, "RPC"; npm ag-request.
    """

    __slots__ = ("_responder", "data", "id", "procedure", "sent", "socket")

    data: DataT
    socket: Any

    def __init__(
        self,
        socket: Any,
        id: int | float,
        procedure: str,
        data: DataT = None,  # type: ignore[assignment]
        responder: Responder | None = None,
    ) -> None:
        self._responder: Responder = socket.messaging if responder is None else responder
        self.socket = socket
        self.id: int | float = id
        self.procedure: str = procedure
        self.data = data
        self.sent: bool = False

    def end(self, data: Any = None) -> None:
        """Answer with a result. On a closed socket the answer is dropped, with a warning.

        Raises:
            InvalidActionError: the request was already answered.
            EncodeError: the codec cannot encode `data`. The request can still be
                answered.
            ResourceLimitError: the answer is larger than `max_outbound_buffer`, or a client has no
                room for it. This is logged. The request can still be answered.
        """
        if self.sent:
            raise self._sent_already()
        try:
            self._responder.respond(self.id, data, None)
        except ResourceLimitError as error:
            self._responder.request_failed(self.procedure, error)
            raise
        self.sent = True

    def error(self, error: BaseException | str) -> None:
        """Answer with an error. The caller receives its name, message and `public_fields`.

        Raises:
            InvalidActionError: the request was already answered.
            InvalidArgumentsError: `error` is neither an exception nor a text.
        """
        if self.sent:
            raise self._sent_already()
        if not isinstance(error, BaseException | str):
            raise InvalidArgumentsError(
                f"request.error() takes an exception or a text, not {type(error).__name__}"
            )
        self._responder.respond(self.id, None, error)
        self.sent = True
        if isinstance(error, BrokerError) and not error.is_remote:  # The caller receives less.
            self._responder.request_failed(self.procedure, error)

    def _sent_already(self) -> InvalidActionError:
        return InvalidActionError(f"Response to request {self.id} has already been sent")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        meant = _is_meant(error)
        if self.sent or not meant:
            self._responder.request_failed(self.procedure, error)
        if not self.sent:
            self.error(error if meant else internal_error())
        return True

    def __del__(self) -> None:
        try:
            if not self.sent:
                self._responder.request_dropped(self.id, self.procedure)
        except (AttributeError, RuntimeError):
            pass  # It is incomplete, or its loop is closed: no answer is possible.

    def __repr__(self) -> str:
        return f"<AGRequest {self.procedure!r} id={self.id}{' sent' if self.sent else ''}>"
