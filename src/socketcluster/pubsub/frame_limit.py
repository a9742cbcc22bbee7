"""FrameLimit: refuses publishes that no socket can receive."""

from __future__ import annotations

import sys

from socketcluster.errors import ResourceLimitError
from socketcluster.protocol.payloads import Payloads

FRAMING_BYTES = 4096
"""More than a publish's frame has beside the payload, with a channel name of usual length."""


class FrameLimit:
    """The most bytes of a publish's frame.

    Attributes:
        bytes: how many a socket's buffer holds.
        fitting: a payload of so many bytes needs no check.
    """

    __slots__ = ("_payloads", "bytes", "fitting")

    def __init__(self, payloads: Payloads, bytes: int = sys.maxsize) -> None:
        self._payloads = payloads
        self.bytes: int = bytes
        self.fitting: int = bytes - FRAMING_BYTES

    def check(self, channel: str, payload: bytes) -> None:
        """Refuse a publish that no socket can receive: its delivery would close each of them.

        Raises:
            ResourceLimitError: it is larger than the buffer of a socket.
        """
        size = len(self._payloads.publish_frame(channel, payload))
        if size > self.bytes:
            raise ResourceLimitError(
                f"The publish has {size} bytes, and subscribers can receive {self.bytes} "
                "(max_outbound_buffer). Publish less data, or where it can be fetched"
            )
