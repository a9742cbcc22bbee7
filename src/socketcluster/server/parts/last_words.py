"""The last words of a client: messages received before its connection was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LastWords:
    """The time between a lost connection and the 'disconnect' event of its socket.

    Meanwhile the messages received before are carried out, in order, for at most `seconds`. Then
    `on_end(in_time)` is called once: with True if all are done, with False if the time is up.

    Attributes:
        code, reason: how the connection was lost.
    """

    __slots__ = ("_on_end", "_timer", "code", "reason")

    def __init__(
        self, code: int, reason: str | None, seconds: float, on_end: Callable[[bool], None]
    ) -> None:
        self.code: int = code
        self.reason: str | None = reason
        self._on_end = on_end
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, on_end, False)

    def done(self) -> None:
        """Report that all messages are carried out."""
        self._timer.cancel()
        self._on_end(True)

    def cancel(self) -> None:
        """Stop, because the socket closes for another reason."""
        self._timer.cancel()
