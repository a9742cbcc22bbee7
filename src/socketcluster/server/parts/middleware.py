"""The middleware of one socket: its lines, and what is put before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from socketcluster.middleware import (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_OUTBOUND,
    Blocked,
    MiddlewareLine,
)
from socketcluster.middleware.action import UNCHANGED, AGAction
from socketcluster.server.parts.decision import Decision, Proceed

if TYPE_CHECKING:
    from socketcluster.server.parts.inbound import Inbound
    from socketcluster.server.server import AGServer


_UNCHANGEABLE = (str, bytes, int, float, bool, type(None))


class DecidingMixin:
    """Puts the actions of a socket before middleware."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    server: AGServer
    inbound: Inbound
    handshake_line: MiddlewareLine | None
    _lines: dict[str, MiddlewareLine] | None

    def emit_error(self, error: BaseException) -> None: ...

    async def decide(self, type: str, kind: str, **fields: Any) -> Any:
        """Have middleware decide on an action of this socket; returns its data.

        The action is made of `kind` and `fields` on the way, so that only the middleware function
        holds it: one that it drops is blocked.

        Raises:
            Exception: the reason for the client why it was blocked.
        """
        try:
            return await self._line(type).decide(kind, socket=self, **fields)
        except Blocked as blocked:
            self._report(type, blocked)
            raise blocked.for_client from None

    def put_before(self, type: str, kind: str, proceed: Proceed, **fields: Any) -> Decision:
        """`decide` without a task. `proceed(error, data)` is called once: with the reason for the
        client why the action was blocked, or with None and its data."""
        decision = Decision(proceed, self.inbound.fault)

        def then(blocked: Blocked | None, data: Any) -> None:
            if blocked is None:
                decision.made(None, data)
            else:
                self._report(type, blocked)
                decision.made(blocked.for_client, None)

        self._line(type).submit(AGAction(kind, socket=self, **fields), then)
        return decision

    def _report(self, type: str, blocked: Blocked) -> None:
        if blocked.for_server is not None and self.server.options.middleware_emit_failures:
            if type == MIDDLEWARE_HANDSHAKE:
                self.server.emit_warning(blocked.for_server)
            else:
                self.emit_error(blocked.for_server)

    def _line(self, type: str) -> MiddlewareLine:
        if type == MIDDLEWARE_HANDSHAKE:
            assert self.handshake_line is not None
            return self.handshake_line
        function = self.server.middleware[type]
        if self._lines is None:
            self._lines = {}
        line = self._lines.get(type)
        if line is None or line.function is not function:
            if line is not None:
                line.close()
            line = self._lines[type] = MiddlewareLine(
                type, function, self.emit_error, self.server.reporter, self.server.loop_binding
            )
        return line

    def _decide_publish(self, channel: str, payload: bytes, then: Callable[[Any], None]) -> None:
        # Decoded anew for each socket: what one function changes reaches no other.
        data = self.server.wire.payloads.decode(payload)
        decision = _PublishDecision(self, channel, data, then)
        self._line(MIDDLEWARE_OUTBOUND).submit(
            AGAction(AGAction.PUBLISH_OUT, socket=self, channel=channel, data=data), decision
        )


class _PublishDecision:
    """What follows from a decision on a publish. There is one for each subscriber at the same
    time: closures would be five more objects for the garbage collector to look at."""

    __slots__ = ("_channel", "_original", "_socket", "_then")

    def __init__(
        self, socket: DecidingMixin, channel: str, original: Any, then: Callable[[Any], None]
    ) -> None:
        self._socket = socket
        self._channel = channel
        self._original = original
        self._then = then

    def __call__(self, blocked: Blocked | None, data: Any) -> None:
        try:
            if blocked is not None:
                self._socket._report(MIDDLEWARE_OUTBOUND, blocked)
                self._then(None)
            elif data is self._original and type(data) in _UNCHANGEABLE:
                self._then(UNCHANGED)
            else:  # Of what can be changed in place nobody knows whether it was.
                data = {"channel": self._channel, "data": data}
                self._then({"event": "#publish", "data": data})
        except Exception as fault:  # Called inside of `allow` or `block`.
            self._socket.inbound.fault(fault)
