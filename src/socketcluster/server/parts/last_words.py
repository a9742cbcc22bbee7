"""The last words of a client: messages received before its connection was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LastWords:
    """The time between a lost connection and the 'disconnect' event of its socket.

    Messages received before are carried out meanwhile, in order, for at most `seconds`.
    `over(in_time)` is called once when they are done or the time is up.

    Attributes:
        code, reason: how the connection was lost.
    """

    __slots__ = ("_over", "_timer", "code", "reason")

    def __init__(
        self, code: int, reason: str | None, seconds: float, over: Callable[[bool], None]
    ) -> None:
        self.code = code
        self.reason = reason
        self._over = over
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, over, False)

    def done(self) -> None:
        """Everything was carried out."""
        self._timer.cancel()
        self._over(True)

    def cancel(self) -> None:
        """The socket closes for another reason."""
        self._timer.cancel()
