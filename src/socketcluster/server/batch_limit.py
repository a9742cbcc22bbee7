"""How many packets a batch may have, beside how many channels a socket may have.

A client that batches subscribes to all its channels in one batch when it connects again. Were that
too long, it would be closed each time and never come back.
"""

from __future__ import annotations

DEFAULT_CHANNELS = 1000
_ROOM = 1000
"""Packets that a client may send in a batch beside its subscriptions."""

_WITHOUT_CHANNEL_LIMIT = 10_000


def default_batch_items(channel_limit: int | None) -> int:
    """`max_batch_items` for a `socket_channel_limit`."""
    return channel_limit + _ROOM if channel_limit else _WITHOUT_CHANNEL_LIMIT


def batch_problem(batch_items: int, channel_limit: int | None) -> str | None:
    """What is wrong with two limits that contradict each other."""
    if batch_items > (channel_limit or 0):
        return None
    return (
        f"The max_batch_items option ({batch_items}) must be above socket_channel_limit "
        f"({channel_limit}): a client that connects again may subscribe to all its channels in one "
        "batch. Raise max_batch_items, leave it out, or lower socket_channel_limit"
    )
