"""Whether a client reads from its connection: not while a loop over its streams is far behind.

Then TCP slows the server down. But the answer to a call comes after what the loop has not come
to: while a call waits for one, the client reads on for a while, or a loop that calls the server
would wait for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.state import OPEN
from socketcluster.streams import Gauge

if TYPE_CHECKING:
    from socketcluster.client.options import ClientOptions
    from socketcluster.client.socket import AGClientSocket

_AHEAD = 10
"""How many times the limits a loop may be behind while an answer is waited for."""


class Reading:
    """Pauses and resumes the reading of one client.

    Attributes:
        gauge: watches the backpressure of the client's streams.
    """

    __slots__ = ("_behind", "_socket", "gauge")

    def __init__(self, socket: AGClientSocket, options: ClientOptions) -> None:
        self._socket = socket
        self._behind = False
        self.gauge = Gauge(
            options.max_inbound_backlog, self._changed, options.max_inbound_backlog_bytes
        )

    def configure(self, options: ClientOptions) -> None:
        """Other limits from now on."""
        self.gauge.limit = options.max_inbound_backlog
        self.gauge.size_limit = options.max_inbound_backlog_bytes

    def _changed(self, behind: bool) -> None:
        self._behind = behind
        self.update()

    def received(self) -> None:
        """What came in is with the consumers now."""
        if self._behind:
            self.update()

    def update(self) -> None:
        """Read from the present connection if that is right now, or stop."""
        link = self._socket.link
        if link is None or link.state != OPEN:  # The answer to the handshake is always read.
            return
        if not self._behind or not self._socket.calls:
            link.read(not self._behind)
            return
        gauge = self.gauge
        longest, largest = gauge.limit * _AHEAD, gauge.size_limit * _AHEAD
        has_room = self._socket.get_streams_backpressure() < longest and gauge.size < largest
        if link.reading and not has_room:
            message = (
                f"A loop is {longest} messages behind, or loops {largest} bytes: until they have "
                "caught up no answers are read (see the options max_inbound_backlog and "
                "max_inbound_backlog_bytes)"
            )
            self._socket.emit_error(ResourceLimitError(message))
        link.read(has_room)
