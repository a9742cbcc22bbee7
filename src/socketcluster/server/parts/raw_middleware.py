"""INBOUND_RAW middleware of one socket: it sees a message when it comes in, in order, also while
what came before is still being carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.packets import internal_message, public_message
from socketcluster.server.parts.turnstile import Turnstile

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


class RawLine:
    """Puts messages before the middleware, one by one. `decided` is called with each message, and
    with what the middleware made of it, or None if it blocked the message; `on_empty` after the
    last."""

    __slots__ = ("_decided", "_socket", "_turnstile")

    def __init__(
        self,
        socket: AGServerSocket,
        decided: Callable[[bytes, bytes | None], None],
        on_empty: Callable[[], None],
    ) -> None:
        self._socket = socket
        self._decided = decided
        self._turnstile = Turnstile[bytes](self._let_through, on_empty)

    @property
    def busy(self) -> bool:
        """Whether a message is before the middleware, or waits for that."""
        return self._turnstile.busy > 0

    def put(self, message: bytes) -> None:
        """A message came in."""
        self._turnstile.put(message)

    def _let_through(self, message: bytes) -> None:
        if MIDDLEWARE_INBOUND_RAW not in self._socket.server.middleware:
            self._hand_on(message, message)  # It was removed meanwhile.
            return

        def proceed(error: BaseException | None, data: Any) -> None:
            self._hand_on(message, None if error is not None else internal_message(data))

        self._socket.put_before(
            MIDDLEWARE_INBOUND_RAW, AGAction.MESSAGE, proceed, data=public_message(message)
        )

    def _hand_on(self, received: bytes, message: bytes | None) -> None:
        try:
            self._decided(received, message)
        finally:
            self._turnstile.next()

    def close(self) -> None:
        """Hand on nothing more."""
        self._turnstile.clear()
