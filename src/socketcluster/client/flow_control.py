"""Inbound flow control of a client: pauses reading while a loop over its streams is far behind.

TCP then slows the server down. But the answer to a call arrives after the messages that such a loop
has not taken: a loop that calls the server would wait for itself. While a call waits for its answer
the client therefore reads on, up to a higher limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Protocol

from socketcluster.client.options import ClientOptions
from socketcluster.errors import ResourceLimitError
from socketcluster.streams import Gauge

_LIMIT_FACTOR_WHILE_CALLING = 10
"""The factor on the limits of a loop's backlog while a call waits for its answer."""


class Readable(Protocol):
    """The connection, as flow control needs it."""

    @property
    def reading(self) -> bool:
        """Whether the connection is read from."""
        ...

    def read(self, wanted: bool) -> None:
        """Read from it, or pause."""


class FlowControl:
    """Pauses and resumes the reading of one client.

    Attributes:
        gauge: measures the backlog of the client's consumers.
    """

    __slots__ = ("_behind", "_calls", "_connection", "_emit_error", "_get_backpressure", "gauge")

    def __init__(
        self,
        options: ClientOptions,
        calls: Sized,
        emit_error: Callable[[BaseException], None],
        get_backpressure: Callable[[], int],
    ) -> None:
        """`get_backpressure` returns the highest backpressure of the gauge's consumers."""
        self._calls = calls
        self._get_backpressure = get_backpressure
        self._emit_error = emit_error
        self._behind = False
        self._connection: Readable | None = None
        self.gauge: Gauge = Gauge(
            options.max_inbound_backlog, self._changed, options.max_inbound_backlog_bytes
        )

    def configure(self, options: ClientOptions) -> None:
        """Use other limits. A consumer keeps the number of values that it was made with."""
        self.gauge.limit = options.max_inbound_backlog
        self.gauge.size_limit = options.max_inbound_backlog_bytes

    def connected(self, connection: Readable) -> None:
        """Control an open connection, from the next `update` on.

        The answer to the handshake was read before, however far behind a loop is.
        """
        self._connection = connection

    def disconnected(self) -> None:
        """Stop controlling the connection."""
        self._connection = None

    def _changed(self, behind: bool) -> None:
        self._behind = behind
        self.update()

    def received(self) -> None:
        """Check the limits again: a message has been delivered to its consumers."""
        if self._behind:
            self.update()

    def update(self) -> None:
        """Pause or resume reading, depending on the backlog and the waiting calls."""
        connection = self._connection
        if connection is None:
            return
        if not self._behind or not self._calls:
            connection.read(not self._behind)
            return
        gauge = self.gauge
        longest = gauge.limit * _LIMIT_FACTOR_WHILE_CALLING
        largest = gauge.size_limit * _LIMIT_FACTOR_WHILE_CALLING
        has_room = self._get_backpressure() < longest and gauge.size < largest
        if connection.reading and not has_room:
            message = (
                f"A loop is {longest} messages behind, or loops {largest} bytes: until they have "
                "caught up no answers are read (see the options max_inbound_backlog and "
                "max_inbound_backlog_bytes)"
            )
            self._emit_error(ResourceLimitError(message))
        connection.read(has_room)
