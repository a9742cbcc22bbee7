"""Router: the decorators that declare handlers, in a module of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

from socketcluster.errors import InvalidArgumentsError, UsageError
from socketcluster.handlers.dependencies import Provider, Scope
from socketcluster.handlers.handler import (
    ChannelHandler,
    EventHandler,
    HandlerOptions,
    Order,
    ProcedureHandler,
    ReceiverHandler,
)
from socketcluster.handlers.signature import EMPTY, Signature, local_names
from socketcluster.handlers.tables import HandlerTables
from socketcluster.history.options import History
from socketcluster.literals import ClientEventName, MiddlewareType, ServerEventName
from socketcluster.middleware import MIDDLEWARE_TYPES, MiddlewareFunction
from socketcluster.options import Duration, check_async_function, check_text
from socketcluster.patterns import Pattern
from socketcluster.presence.options import Presence
from socketcluster.runtime.reporting import application_place, place_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
M = TypeVar("M", bound=MiddlewareFunction)

SERVER_SOURCES = frozenset({"socket", "server", "exchange"})
"""The names of parameters that every handler of a server may have."""

CLIENT_SOURCES = frozenset({"socket", "client"})
"""The names of parameters that every handler of a client may have."""


class CommonDecorators:
    """The decorators that a server, a client and a router have in common.

    Attributes:
        handlers: all that was declared.
    """

    __slots__ = ()

    handlers: HandlerTables
    _source_names: ClassVar[frozenset[str]]
    """The names of parameters that every handler may have."""

    @overload
    def on(self, event: ServerEventName | ClientEventName) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    def on(self, event: str) -> Callable[[F], F]:
        """Handle an event of the server or the client; loops over it see it afterwards.

        The function may ask for the `event`, for its `socket` if it has one, and for the same as
        other handlers. An async function's calls for several events run at the same time.

        Raises:
            UsageError: as `procedure`.
        """
        check_name("on", event)
        check_text("An event's name", event)
        options = HandlerOptions()
        scope = local_names(1)

        def declare(function: F) -> F:
            signature = Signature(function, scope)
            signature.check_names(self._source_names | {"event"})
            self.handlers.add_event(EventHandler(event, signature, options))
            return function

        return declare

    @overload
    def provide(self, function: F) -> F: ...
    @overload
    def provide(self, *, scope: Scope = "message") -> Callable[[F], F]: ...
    def provide(
        self, function: Callable[..., Any] | None = None, *, scope: Scope = "message"
    ) -> Callable[..., Any]:
        """Provide the values of a type, the function's return annotation, to handlers.

        `@server.provide` or `@server.provide(scope="socket")`. The function may ask for `socket`,
        `server` and `exchange`, and for other provided types. It may `yield` its value, and clean
        up behind that: a handler's error is raised at the `yield`.

        Args:
            function: a plain or an async function.
            scope: "message" calls it once for each message; "socket" until the socket's token
                changes or the socket leaves; "server" until the server closes.

        Raises:
            UsageError: the type has a provider, or has none as annotation.
        """
        names = local_names(1)

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            signature = Signature(function, names)
            signature.check_names(self._source_names)
            self.handlers.add_provider(Provider(signature, scope))
            return function

        return declare if function is None else declare(function)

    def include(self, router: Router, *, prefix: str = "") -> None:
        """Take over what a router has declared so far.

        The prefix goes before the names of its procedures and receivers and its channel patterns.

        Raises:
            UsageError: a name has a handler already.
        """
        self.handlers.include(router.handlers, prefix)


class Decorators(CommonDecorators):
    """The decorators. A handler is a plain or an async function.

    **A plain function runs in the read callback and must not block**: while it computes or waits,
    every socket does. Make it `async`, or give it `thread=True`.

    Its parameters are filled by name or by type: `data` with the message's data, which is checked
    by its annotation; `socket`, `server` and `exchange`; any other one by its type, with the value
    of a provider. What a wrong declaration raises names the function's place.
    """

    __slots__ = ()

    _source_names = SERVER_SOURCES

    def procedure(
        self,
        name: str | None = None,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Callable[[F], F]:
        """Answer the calls of a procedure with what the function returns.

        A plain function runs in the read callback and must not block. An error of this package, or
        derived from one, is sent to the caller; any other exception is logged in full, and the
        caller receives an `InternalServerError`.

        Args:
            name: of the procedure; by default the function's.
            order: of an async function, the calls of one socket: "socket" carries them out one
                after the other, "free" up to `at_once` at the same time.
            at_once: 100 by default.
            timeout: milliseconds or a timedelta that an async function has; then it is cancelled
                and the call answered with a TimeoutError.
            thread: run a plain function in a worker thread, where it may block. It reaches the
                socket with `socket.server.from_thread`.
            cancel_on_disconnect: cancel an async function when its socket leaves. By default it
                runs to its end, and its answer is dropped.

        Raises:
            UsageError: the procedure has a handler, an option does not fit the function, a
                parameter is unknown, or an annotation cannot be resolved.
        """
        check_name("procedure", name)
        options = HandlerOptions(order, at_once, timeout, thread, cancel_on_disconnect)
        return lambda function: declare(
            self.handlers, self._source_names, ProcedureHandler, name, options, function
        )

    def receiver(
        self,
        name: str | None = None,
        *,
        order: Order = "socket",
        at_once: int | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        cancel_on_disconnect: bool = False,
    ) -> Callable[[F], F]:
        """Handle the peer's events of one name; loops over the receiver see them afterwards.

        The options are those of `procedure`. With the order "latest" an async function handles one
        event at a time, and a newer event replaces the one that waits.

        Raises:
            UsageError: as `procedure`.
        """
        check_name("receiver", name)
        options = HandlerOptions(order, at_once, timeout, thread, cancel_on_disconnect)
        return lambda function: declare(
            self.handlers, self._source_names, ReceiverHandler, name, options, function
        )

    def channel(
        self,
        pattern: str,
        *,
        publish: Any = EMPTY,
        message: Any = EMPTY,
        history: History | None = None,
        presence: Presence | None = None,
    ) -> Callable[[T], T]:
        """Decide who may subscribe to the channels of a pattern, and publish to them.

        Decorate a class with the methods `subscribe` and `publish`, one of them or both, or a
        function that decides on both actions alike. They may ask for the parameters of the
        pattern, for `channel`, the whole name, and for the same as other handlers; the methods for
        `data` too. False, or an exception, refuses. The result of the method `publish` is
        published; None leaves the data as it is. Handlers run after INBOUND middleware, and only
        for clients: the exchange is not restricted.

        Args:
            pattern: "room/{room}"; see `socketcluster.patterns`.
            publish: the type of the publishes, which is checked; False refuses those of clients.
            message: the type of the messages that subscribers receive, for the descriptions of the
                server; by default that of the publishes or of the result of `publish`.
            history: what to keep of the publishes, as in a `ChannelRule`.
            presence: whether to tell who is subscribed, and how, as in a `ChannelRule`.

        Raises:
            UsageError: the pattern is wrong or has a handler, or as `procedure`; or with
                `history` or `presence` the pattern has a rule, or the server is started.
        """
        parsed = _pattern(pattern)
        scope, line = local_names(1), application_place()

        def declare(target: T) -> T:
            handler = ChannelHandler(parsed, target, publish, message, scope, line)
            handler.use_rule(history, presence)
            names = SERVER_SOURCES | {"data", "channel", *parsed.parameters}
            if handler.subscribe is not None:
                handler.subscribe.check_names(names, parsed.text)
            if handler.publish is not None:
                handler.publish.check_names(names, parsed.text)
            self.handlers.add_channel(handler)
            return target

        return declare

    def middleware(self, type: MiddlewareType) -> Callable[[M], M]:
        """Set the middleware function of a type; see `AGServer.set_middleware`.

        Raises:
            UsageError: the type is unknown or has a function, or the function is not async.
        """
        if type not in MIDDLEWARE_TYPES:
            raise UsageError(f"Middleware {type!r} is not one of {sorted(MIDDLEWARE_TYPES)}")

        def declare(function: M) -> M:
            check_async_function("Middleware", function, "stream")
            self.handlers.add_middleware(type, function)
            return function

        return declare


class Router(Decorators):
    """Collects handlers in a module: `router = Router()`, later `server.include(router)`.

    A client includes one too, if it has no channels and no middleware.
    """

    __slots__ = ("handlers",)

    _source_names = SERVER_SOURCES | CLIENT_SOURCES  # Its owner decides later.

    def __init__(self) -> None:
        self.handlers: HandlerTables = HandlerTables()

    def __repr__(self) -> str:
        tables = self.handlers
        return (
            f"<Router procedures={len(tables.procedures)} receivers={len(tables.receivers)} "
            f"channels={len(tables.channels)}>"
        )


def declare(
    tables: HandlerTables,
    sources: frozenset[str],
    kind: type[ProcedureHandler] | type[ReceiverHandler],
    name: str | None,
    options: HandlerOptions,
    function: F,
) -> F:
    """Declare the handler of a procedure or of an event of the peer.

    `sources` are the names of the parameters that it may have beside `data`. Annotations may use
    the local names of the caller's caller.

    Raises:
        UsageError: see `Decorators.procedure`.
    """
    signature = Signature(function, local_names(2))
    signature.check_names(sources | {"data"})
    if name is None:
        name = getattr(function, "__name__", None)
        if name is None:
            raise signature.error("it has no name of its own: give one")
    handler = kind(name, signature, options)
    if isinstance(handler, ProcedureHandler):
        tables.add_procedure(handler)
    else:
        tables.add_receiver(handler)
    return function


def check_name(decorator: str, name: Any) -> None:
    """Check what a decorator was given as a name.

    Raises:
        UsageError: it is the function to decorate.
        InvalidArgumentsError: it is no text.
    """
    if callable(name):
        raise UsageError(f"{place_of(name)}: write @{decorator}() with parentheses")
    if name is not None:
        check_text("The name of a procedure or an event", name)


def _pattern(text: str) -> Pattern:
    try:
        return Pattern(text)
    except InvalidArgumentsError as error:
        raise UsageError(f"{application_place()}: {error}") from error
