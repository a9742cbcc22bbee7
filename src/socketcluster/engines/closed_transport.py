"""ClosedTransport: replaces a lost transport, and discards writes."""

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

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


CLOSED_TRANSPORT = _ClosedTransport()
"""Discards writes and never reads. A connection that refers to it no longer keeps its former
transport, and the buffers there, alive."""
