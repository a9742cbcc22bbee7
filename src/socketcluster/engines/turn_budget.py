"""The budget of one connection in one loop turn, in units of work.

When a connection has used up its budget, it waits for the next turn, so that a fast sender does
not delay the others.
"""

from __future__ import annotations

TURN_BUDGET = 128
"""Units of work that one connection may use in one loop turn."""


def turn_cost(size: int) -> int:
    """Units of work for a message or frame of `size` bytes: one, and one for each 256 bytes.

    So a budget is 128 small messages, or 32 KiB.
    """
    return 1 + (size >> 8)
