"""What takes the place of a transport that is lost."""

from __future__ import annotations

import asyncio
from typing import Any


class _Gone(asyncio.Transport):
    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        pass

    abort = pause_reading = resume_reading = close


GONE = _Gone()
"""A transport that writes nothing and reads nothing."""
