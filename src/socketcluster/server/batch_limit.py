"""The limit on a batch's packets, which depends on the limit on a socket's channels.

A client that batches subscribes to all its channels in one batch when it reconnects. If that batch
exceeded the limit, the server would close the client after each reconnect.
"""

from __future__ import annotations

DEFAULT_CHANNELS = 1000
_EXTRA_ITEMS = 1000
"""Packets of a batch beside the subscriptions."""

_WITHOUT_CHANNEL_LIMIT = 10_000


def default_batch_items(channel_limit: int | None) -> int:
    """The default of `max_batch_items` for a `socket_channel_limit`."""
    return channel_limit + _EXTRA_ITEMS if channel_limit else _WITHOUT_CHANNEL_LIMIT


def batch_problem(batch_items: int, channel_limit: int | None) -> str | None:
    """Describe the contradiction between two limits; None if there is none."""
    if batch_items > (channel_limit or 0):
        return None
    return (
        f"The max_batch_items option ({batch_items}) must be above socket_channel_limit "
        f"({channel_limit}): a client that reconnects may subscribe to all its channels in one "
        "batch. Raise max_batch_items, leave it out, or lower socket_channel_limit"
    )
