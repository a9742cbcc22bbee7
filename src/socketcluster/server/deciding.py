"""The middleware of one socket: its lines, and what is put before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketcluster.action import AGAction
from socketcluster.middleware import (
    MIDDLEWARE_HANDSHAKE,
    MIDDLEWARE_OUTBOUND,
    Blocked,
    MiddlewareLine,
)
from socketcluster.server.outbound import Decide

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer


class DecidingMethods:
    """Puts the actions of a socket before middleware."""

    if not TYPE_CHECKING:  # The attributes are slots of the class that mixes this in.
        __slots__ = ()

    server: AGServer
    handshake_line: MiddlewareLine | None
    _lines: dict[str, MiddlewareLine] | None

    def emit_error(self, error: BaseException) -> None: ...

    async def decide(self, type: str, actions: list[AGAction]) -> Any:
        """Have middleware decide on an action, taken out of the list so that only the middleware
        function holds it; returns its data.

        Raises:
            Exception: what the client may know of why it was blocked.
        """
        line = self._line(type)
        try:
            return await line.decide(actions.pop())
        except Blocked as blocked:
            if blocked.for_server is not None and self.server.options.middleware_emit_failures:
                if type == MIDDLEWARE_HANDSHAKE:
                    self.server.emit_warning(blocked.for_server)
                else:
                    self.emit_error(blocked.for_server)
            raise blocked.for_client from None

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
            line = self._lines[type] = MiddlewareLine(type, function, self.emit_error)
        return line

    def _outbound_decision(self) -> Decide | None:
        return self._decide_publish if MIDDLEWARE_OUTBOUND in self.server.middleware else None

    async def _decide_publish(self, channel: str, payload: bytes) -> Any:
        # Decoded anew for each socket: what one function changes reaches no other.
        action = AGAction(AGAction.PUBLISH_OUT, socket=self)  # type: ignore[arg-type]
        action.channel = channel
        action.data = self.server.wire.decode_payload(payload)
        actions = [action]
        del action
        try:
            data = await self.decide(MIDDLEWARE_OUTBOUND, actions)
        except Exception:
            return None
        return {"event": "#publish", "data": {"channel": channel, "data": data}}
