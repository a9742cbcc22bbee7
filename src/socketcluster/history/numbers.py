"""Numbers: counts of one process, of the stored publishes of all its channels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Numbers:
    """Counts of one process.

    Attributes:
        count: stored publishes that were delivered; a moment in the order of all channels.
        published: stored publishes of this process that the broker was given, or refused.
        reads: reads of histories.
        filled: gaps that were filled from the history.
        unfilled: gaps of which publishes are missing.
    """

    count: int = 0
    published: int = 0
    reads: int = 0
    filled: int = 0
    unfilled: int = 0
