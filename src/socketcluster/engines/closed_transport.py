"""A transport that stands in for one that was lost."""

from __future__ import annotations

import asyncio
from typing import Any


class _ClosedTransport(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        pass

    abort = pause_reading = resume_reading = close


CLOSED_TRANSPORT = _ClosedTransport()
"""Discards writes and never reads. A connection that refers to it no longer keeps its former
transport, and the buffers there, alive."""
