"""What a client has still to write: past the limit it is refused, and the connection kept."""

from __future__ import annotations

from typing import Any

from socketcluster.engines.base import Connection
from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.wire import Wire
from socketcluster.writer import Flusher, FrameWriter


class ClientWriter(FrameWriter):
    """A `FrameWriter` that raises ResourceLimitError for what does not fit any more."""

    __slots__ = ()

    def __init__(self, connection: Connection, wire: Wire, limit: int) -> None:
        super().__init__(connection, wire, limit, lambda: None, Flusher())

    def _make_room(self) -> None:
        self._room += len(self._frames.pop())
        raise buffer_full(self._limit)

    def _hold(self, queue: Any, item: Any, size: int) -> None:
        if self.get_buffer_size() + size > self._limit:
            raise buffer_full(self._limit)
        super()._hold(queue, item, size)


def buffer_full(limit: int) -> ResourceLimitError:
    """The error for what does not fit any more."""
    return ResourceLimitError(
        f"More than {limit} bytes would wait to be sent (the max_outbound_buffer option)"
    )
