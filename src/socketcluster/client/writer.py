"""What a client has still to write: past the limit it is refused, and the connection kept."""

from __future__ import annotations

from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.wire import Wire
from socketcluster.writer import Flusher, FrameWriter


class ClientWriter(FrameWriter):
    """A `FrameWriter` that raises ResourceLimitError for what does not fit any more."""

    __slots__ = ("_accepting",)

    def __init__(self, connection: Connection, wire: Wire, limit: int) -> None:
        super().__init__(connection, wire, limit, lambda: None, Flusher())
        self._accepting = False

    def send_accepted(self, packet: Any) -> None:
        """Send what was accepted already, whether it fits or not."""
        self._accepting = True
        try:
            self.send(packet)
        finally:
            self._accepting = False

    def flush_batch(self) -> None:
        """See `FrameWriter.flush_batch`. The packets were accepted one by one."""
        self._accepting = True
        try:
            super().flush_batch()
        finally:
            self._accepting = False

    def _make_room(self) -> None:
        if not self._accepting:
            self._room += len(self._frames.pop())
            raise buffer_full(self._limit)

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        if not self._accepting and self.get_buffer_size() + size > self._limit:
            raise buffer_full(self._limit)
        super()._hold(queue, item, size)


def buffer_full(limit: int) -> ResourceLimitError:
    """The error for what does not fit any more."""
    return ResourceLimitError(
        f"More than {limit} bytes would wait to be sent (the max_outbound_buffer option)"
    )
