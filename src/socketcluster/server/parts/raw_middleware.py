"""INBOUND_RAW middleware of one socket.

It sees each message on arrival, in order, even while earlier messages are being carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW, AGAction
from socketcluster.protocol.packets import internal_message, public_message
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.sequencer import Sequencer


class RawMiddleware:
    """Runs messages through the middleware one by one.

    `on_decided(received, message)` is called with each message as received and as the middleware
    left it, None if it was blocked; `on_idle` after the last.
    """

    __slots__ = ("_middleware", "_on_decided", "_sequencer")

    def __init__(
        self,
        middleware: SocketMiddleware,
        on_decided: Callable[[bytes, bytes | None], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._middleware = middleware
        self._on_decided = on_decided
        self._sequencer = Sequencer[bytes](self._start, on_idle)

    @property
    def busy(self) -> bool:
        """Whether a message waits for the middleware."""
        return self._sequencer.running > 0

    def put(self, message: bytes) -> None:
        """Submit a message."""
        self._sequencer.put(message)

    def _start(self, message: bytes) -> None:
        if not self._middleware.has(MIDDLEWARE_INBOUND_RAW):
            self._finish(message, message)  # The function was removed meanwhile.
            return

        def on_verdict(error: BaseException | None, data: Any) -> None:
            self._finish(message, None if error is not None else internal_message(data))

        self._middleware.put(
            MIDDLEWARE_INBOUND_RAW, AGAction.MESSAGE, on_verdict, data=public_message(message)
        )

    def _finish(self, received: bytes, message: bytes | None) -> None:
        try:
            self._on_decided(received, message)
        finally:
            self._sequencer.done()

    def close(self) -> None:
        """Drop the messages that wait."""
        self._sequencer.clear()
