"""The decorators of a client, and its events for handlers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from socketcluster.client.handling import ClientHandling
from socketcluster.client.listeners import ClientListeners
from socketcluster.errors import UsageError
from socketcluster.generics import DataT, TypeForm
from socketcluster.handlers.handler import (
    HandlerOptions,
    Order,
    ProcedureHandler,
    ReceiverHandler,
)
from socketcluster.handlers.router import CLIENT_SOURCES, CommonDecorators, F, check_name, declare
from socketcluster.options import Duration, check_text
from socketcluster.runtime.reporting import application_place
from socketcluster.sockets.handling import Handling
from socketcluster.sockets.request import AGRequest
from socketcluster.sockets.streams import ProcedureMixin, ReceiverMixin
from socketcluster.streams import ConsumableStream, Consumer
from socketcluster.streams.inbox import Timeout

T = TypeVar("T")

_OF_FUNCTION: Any = object()
"""The name of a handler that has its function's name."""


class HandledStream(ConsumableStream[DataT]):
    """The stream of a procedure or a receiver, and the decorator of its handler.

    `async for request in client.procedure("add")`, or `@client.procedure("add")` over a function.
    """

    __slots__ = ("_declare", "_stream", "name")

    def __init__(
        self,
        name: str,
        stream: Callable[[str], ConsumableStream[DataT]],
        declare: Callable[[Any], Any],
    ) -> None:
        self.name: str = name
        self._stream = stream
        self._declare = declare

    def create_consumer(self, timeout: Timeout = None) -> Consumer[DataT]:
        """See `ConsumableStream.create_consumer`.

        Raises:
            UsageError: the procedure has a handler.
        """
        return self._stream(self.name).create_consumer(timeout)

    def __call__(self, function: F) -> F:
        """Declare the function as the handler. See `HandlersMixin.procedure` for its errors."""
        declared: F = self._declare(function)
        return declared

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class HandlersMixin(CommonDecorators, ReceiverMixin, ProcedureMixin, ClientListeners):
    """The decorators of a client: `procedure`, `receiver`, `on`, `provide` and `include`.

    **A plain function runs in the read callback and must not block**: while it computes or waits,
    the whole event loop does. Make it `async`, or give it `thread=True`.

    The parameters of a function are filled by name or by type: `data` with the message's data,
    which is checked by its annotation; `socket` or `client` with the client; any other one by its
    type, with the value of a provider. A provider's scope is "message", "socket" (until the
    connection is lost or the token changes) or "server" (until the client is closed and does not
    connect again).

    Handlers survive connections. The answer to a call is dropped if the connection that it came by
    is lost; an async function runs to its end all the same.
    """

    __slots__ = ()

    _source_names = CLIENT_SOURCES

    _handlers: ClientHandling

    @property
    def handling(self) -> Handling:
        """The running of the handlers. See `socketcluster.testing.override`."""
        return self._handlers.handling

    @overload
    def procedure(self, name: str) -> HandledStream[AGRequest[Any]]: ...
    @overload
    def procedure(self, name: str, data_type: type[T]) -> ConsumableStream[AGRequest[T]]: ...
    @overload
    def procedure(self, name: str, data_type: TypeForm[T]) -> ConsumableStream[AGRequest[T]]: ...
    @overload
    def procedure(
        self,
        name: str = ...,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Callable[[F], F]: ...
    def procedure(
        self,
        name: Any = _OF_FUNCTION,
        data_type: Any = Any,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Any:
        """The server's calls of this name: a stream to loop over, or a decorator of a handler.

            async for request in client.procedure("add", Add):
                request.end(request.data.a + request.data.b)

            @client.procedure("add")
            def add(data: Add) -> int:
                return data.a + data.b

        A loop with a type gets requests whose data is of that type; a call with other data is
        answered with `InvalidDataError`, and skipped. A function is checked by its annotations.
        An error of this package, or derived from one, that it raises is sent to the server; any
        other exception is logged in full, and the server receives an `InternalServerError`.

        Args:
            name: of the procedure; by default the function's.
            data_type: of a loop's requests.
            order: of an async function: "socket" carries calls out one after the other, "free" up
                to `at_once` at the same time.
            at_once: 100 by default.
            timeout: milliseconds or a timedelta that an async function has; then it is cancelled
                and the call answered with a TimeoutError.
            thread: run a plain function in a worker thread, where it may block. It reaches the
                client with `client.from_thread`.
            cancel_on_disconnect: cancel an async function when the connection is lost. By default
                it runs to its end, and its answer is dropped.

        Raises:
            InvalidArgumentsError: the name is no text, or data of the type cannot be checked.
            UsageError: of a function: the procedure has a handler or a loop, an option does not fit
                it, a parameter is unknown or has no provider, or an annotation cannot be resolved.
                Of a loop: the procedure has a handler.
        """
        options = HandlerOptions(order, at_once, timeout, thread, cancel_on_disconnect)
        if data_type is not Any:
            return self._procedure_stream(_typed(name, options), data_type)
        return self._handled(ProcedureHandler, self._procedure_stream, name, options)

    @overload
    def receiver(self, name: str) -> HandledStream[Any]: ...
    @overload
    def receiver(self, name: str, data_type: type[T]) -> ConsumableStream[T]: ...
    @overload
    def receiver(self, name: str, data_type: TypeForm[T]) -> ConsumableStream[T]: ...
    @overload
    def receiver(
        self,
        name: str = ...,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Callable[[F], F]: ...
    def receiver(
        self,
        name: Any = _OF_FUNCTION,
        data_type: Any = Any,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Any:
        """The server's events of this name: a stream to loop over, or a decorator of a handler.

        An event may have both; loops see it after the handler. A loop with a type gets data of that
        type; other data is skipped, with an 'error' of the client. The options are those of
        `procedure`. With the order "latest" an async function handles one event at a time, and a
        newer event replaces the one that waits.

        Raises:
            InvalidArgumentsError, UsageError: as `procedure`.
        """
        options = HandlerOptions(order, at_once, timeout, thread, cancel_on_disconnect)
        if data_type is not Any:
            return super().receiver(_typed(name, options), data_type)
        return self._handled(ReceiverHandler, super().receiver, name, options)

    def _handled(
        self,
        kind: type[ProcedureHandler] | type[ReceiverHandler],
        stream: Callable[[str], ConsumableStream[Any]],
        name: Any,
        options: HandlerOptions,
    ) -> Any:
        if name is None:
            check_text("The name of a procedure or an event", name)
        is_named = name is not _OF_FUNCTION
        known = name if is_named else None
        check_name("procedure" if kind is ProcedureHandler else "receiver", known)
        declaring: Any = partial(declare, self.handlers, CLIENT_SOURCES, kind, known, options)
        handled = HandledStream(known or "", stream, declaring)
        return handled if is_named else handled.__call__  # Without a name it is no stream.

    def _procedure_stream(
        self, name: str, data_type: Any = Any
    ) -> ConsumableStream[AGRequest[Any]]:
        stream = super().procedure(name, data_type)
        self._handlers.loops[name] = application_place()
        return stream

    # Events of the client

    def emit(self, event: str, data: Any = None) -> None:
        """Emit an event to its handlers and its listeners."""
        if event in self.handlers.events:
            self._handlers.emit(event, data)
        super().emit(event, data)

    def has_listener(self, event: str) -> bool:
        """Return whether an event has a handler or a listener."""
        return event in self.handlers.events or super().has_listener(event)


def _typed(name: Any, options: HandlerOptions) -> Any:
    """Return the name of a stream with a type, which has no options of handlers."""
    if options != HandlerOptions():
        raise UsageError(
            f"{name!r} with a type is a stream, and takes no options of handlers: a handler's type "
            "is the annotation of its parameter `data`"
        )
    return name
