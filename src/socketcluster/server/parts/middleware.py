"""The middleware of one socket: runs its actions through the functions that decide on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from socketcluster.literals import ActionType, MiddlewareType
from socketcluster.middleware import (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_OUTBOUND,
    AGAction,
    Blocked,
    MiddlewareFunction,
    MiddlewareLine,
)
from socketcluster.middleware.action import UNCHANGED
from socketcluster.presence.rule import PREFIX
from socketcluster.protocol.wire import Wire
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.counts import Counts
from socketcluster.server.parts.decision import Decision, OnVerdict

_IMMUTABLE = (str, bytes, int, float, bool, type(None))


class MiddlewareOwner(Protocol):
    """The middleware's view of its socket."""

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error' on the socket and 'warning' on the server."""

    def disconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the socket."""


class MiddlewareContext(Protocol):
    """The middleware's view of its server."""

    @property
    def middleware(self) -> Mapping[MiddlewareType, MiddlewareFunction]: ...
    @property
    def wire(self) -> Wire: ...
    @property
    def options(self) -> ServerOptions: ...
    @property
    def reporter(self) -> Reporter: ...
    @property
    def loop_binding(self) -> LoopBinding: ...
    @property
    def counts(self) -> Counts: ...
    def emit_warning_about(self, warning: BaseException, **about: Any) -> None: ...
    def report_fault(self, error: BaseException, socket: Any = None) -> None: ...


class SocketMiddleware:
    """Runs a socket's actions through its middleware, with a line for each function in use.

    Attributes:
        handshake_line: the line that decided on the upgrade, and decides on '#handshake'.
    """

    __slots__ = ("_context", "_lines", "_socket", "handshake_line")

    def __init__(
        self,
        socket: MiddlewareOwner,
        context: MiddlewareContext,
        handshake_line: MiddlewareLine | None,
    ) -> None:
        self._socket = socket
        self._context = context
        self._lines: dict[MiddlewareType, MiddlewareLine] | None = None
        self.handshake_line: MiddlewareLine | None = handshake_line
        if handshake_line is not None:
            handshake_line.socket, handshake_line.request = socket, None

    async def decide(self, type: MiddlewareType, kind: ActionType, **fields: Any) -> Any:
        """Wait for the decision on an action of this socket; return its data.

        The action is made here from `kind` and `fields`, so that only the middleware function holds
        it: an action that the function drops is blocked. Cancelling leaves it undecided.

        Raises:
            Exception: the reason for the client, if the action was blocked.
        """
        try:
            return await self._line(type).decide(kind, socket=self._socket, **fields)
        except Blocked as blocked:
            self._report(type, kind, blocked)
            raise blocked.for_client from None

    def put(
        self, type: MiddlewareType, kind: ActionType, on_verdict: OnVerdict, **fields: Any
    ) -> Decision:
        """Submit an action, and return its decision.

        `on_verdict(error, data)` is called exactly once: `(None, data)` if the action was allowed,
        `(reason for the client, None)` if not.
        """
        decision = Decision(on_verdict, self.fail)

        def callback(blocked: Blocked | None, data: Any) -> None:
            if blocked is None:
                decision.make(None, data)
            else:
                self._report(type, kind, blocked)
                decision.make(blocked.for_client, None)

        self._line(type).submit(AGAction(kind, socket=self._socket, **fields), callback)
        return decision

    def put_publish(self, channel: str, payload: bytes, callback: Callable[[Any], None]) -> None:
        """Submit a publish to this socket.

        `callback` is called exactly once: with the '#publish' packet, with UNCHANGED if middleware
        allowed the publish as it is, or with None if it was blocked.
        """
        # Each socket gets its own value, so that a function's changes reach no other socket.
        data = self._context.wire.payloads.decode(payload)
        verdict = _PublishVerdict(self, channel, data, callback)
        self._line(MIDDLEWARE_OUTBOUND).submit(
            AGAction(AGAction.PUBLISH_OUT, socket=self._socket, channel=channel, data=data), verdict
        )

    def for_viewer(self) -> ViewerMiddleware:
        """Make the middleware that takes the place of this one."""
        made = ViewerMiddleware(self._socket, self._context, None)
        made.adopt(self._lines, self.handshake_line)
        return made

    def has(self, type: MiddlewareType) -> bool:
        """Whether a middleware type has a function."""
        return type in self._context.middleware

    def fail(self, error: BaseException) -> None:
        """Report a fault of this side, and close the socket with 1011."""
        self._context.report_fault(error, self._socket)
        self._socket.disconnect(1011)

    def report(self, blocked: Blocked) -> None:
        """Count a blocked publish, and report it if `middleware_emit_failures` is set."""
        self._report(MIDDLEWARE_OUTBOUND, AGAction.PUBLISH_OUT, blocked)

    def _report(self, type: MiddlewareType, kind: ActionType, blocked: Blocked) -> None:
        self._context.counts.blocked[kind] += 1
        if blocked.for_server is not None and self._context.options.middleware_emit_failures:
            if type == MIDDLEWARE_HANDSHAKE:
                self._context.emit_warning_about(blocked.for_server, socket=self._socket)
            else:
                self._socket.emit_error(blocked.for_server)

    def _line(self, type: MiddlewareType) -> MiddlewareLine:
        if type == MIDDLEWARE_HANDSHAKE:
            assert self.handshake_line is not None
            return self.handshake_line
        context = self._context
        function = context.middleware[type]
        if self._lines is None:
            self._lines = {}
        line = self._lines.get(type)
        if line is None or line.function is not function:
            if line is not None:
                line.close()
            line = self._lines[type] = MiddlewareLine(
                type,
                function,
                self._socket.emit_error,
                context.reporter,
                context.loop_binding,
                socket=self._socket,
            )
        return line

    # Ending

    def all_lines(self) -> list[MiddlewareLine]:
        """The lines of the functions in use for this socket."""
        lines = list((self._lines or {}).values())
        return [*lines, self.handshake_line] if self.handshake_line is not None else lines

    def close(self) -> None:
        """End each function's loop after it has decided the waiting actions."""
        for line in self.all_lines():
            line.close()

    def kill(self) -> None:
        """End each function's loop now, and block the waiting actions."""
        for line in self.all_lines():
            line.kill()


class ViewerMiddleware(SocketMiddleware):
    """The middleware of a socket that sees the members of channels, in place of its former one.

    Outbound middleware is asked about the channel whose members a publish shows.
    """

    __slots__ = ()

    def adopt(
        self,
        lines: dict[MiddlewareType, MiddlewareLine] | None,
        handshake_line: MiddlewareLine | None,
    ) -> None:
        """Take over the lines of the former middleware."""
        self._lines = lines
        self.handshake_line = handshake_line

    def put_publish(self, channel: str, payload: bytes, callback: Callable[[Any], None]) -> None:
        """See `SocketMiddleware.put_publish`."""
        if not channel.startswith(PREFIX):
            super().put_publish(channel, payload, callback)
            return
        data = self._context.wire.payloads.decode(payload)
        action = AGAction(
            AGAction.PUBLISH_OUT,
            socket=self._socket,
            channel=channel[len(PREFIX) :],
            data=data,
            presence=True,
        )
        verdict = _PublishVerdict(self, channel, data, callback)
        self._line(MIDDLEWARE_OUTBOUND).submit(action, verdict)


class _PublishVerdict:
    """Carries out the decision on one publish to one socket.

    A class, because a publish needs one for each subscriber at the same time. Closures would be
    five more objects for the garbage collector to visit, and a publish through outbound middleware
    took 1.7 times as long with them.
    """

    __slots__ = ("_callback", "_channel", "_middleware", "_original")

    def __init__(
        self,
        middleware: SocketMiddleware,
        channel: str,
        original: Any,
        callback: Callable[[Any], None],
    ) -> None:
        self._middleware = middleware
        self._channel = channel
        self._original = original
        self._callback = callback

    def __call__(self, blocked: Blocked | None, data: Any) -> None:
        try:
            if blocked is not None:
                self._middleware.report(blocked)
                self._callback(None)
            elif data is self._original and type(data) in _IMMUTABLE:
                self._callback(UNCHANGED)
            else:  # A mutable value may have been changed in place.
                data = {"channel": self._channel, "data": data}
                self._callback({"event": "#publish", "data": data})
        except Exception as fault:  # This runs inside `allow` or `block`.
            self._middleware.fail(fault)
