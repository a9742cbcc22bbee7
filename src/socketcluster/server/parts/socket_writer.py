"""The writer of a socket at its limit: refuses a large message, drops droppable ones, overflows."""

from __future__ import annotations

from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.frames import DroppableFrame
from socketcluster.sockets.writer import FrameWriter


def too_large(size: int, limit: int) -> ResourceLimitError:
    """Return the error for a message that is larger than the whole buffer."""
    return ResourceLimitError(
        f"The message has {size} bytes, and a socket's buffer holds {limit} "
        "(max_outbound_buffer). Send less data, or in several messages"
    )


class SocketWriter(FrameWriter):
    """A `FrameWriter` that raises ResourceLimitError for a frame that can never be sent.

    Its client reads too slowly if more waits than the buffer holds, although each frame fits.
    """

    __slots__ = ()

    def frame_dropped(self) -> None:
        """Called for each droppable frame that is dropped."""

    def flush_batch(self) -> None:
        """See `FrameWriter.flush_batch`."""
        try:
            super().flush_batch()
        except ResourceLimitError:  # Each packet fits, and all of them wait to be sent.
            self.overflow()

    def _make_room(self) -> None:
        if self._find_room():
            return
        newest = self._frames[-1]
        if len(newest) > self._limit:
            self._frames.pop()
            self._room += len(newest)
            raise too_large(len(newest), self._limit)
        kept: list[bytes] = []
        for frame in self._frames:
            if self._room < 0 and type(frame) is DroppableFrame:
                self._room += len(frame)
                self.frame_dropped()
            else:
                kept.append(frame)
        self._frames = kept
        if self._room < 0:
            self.overflow()
