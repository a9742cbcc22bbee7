"""Subscription data: kept until middleware decides on the subscriptions again."""

from __future__ import annotations

from socketcluster.errors import ResourceLimitError


class SubscriptionData:
    """The subscription data of one socket, bounded by `max_subscription_data`.

    It is kept encoded, so that its size is known and no function can change it.
    """

    __slots__ = ("_data", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self._limit = limit
        self._data: dict[str, bytes] = {}
        self._size = 0

    def put(self, channel: str, data: bytes | None) -> None:
        """Store the data of a channel; None removes it.

        Raises:
            ResourceLimitError: the data would exceed the limit; nothing has changed.
        """
        size = self._size - len(self._data.get(channel, b"")) + len(data or b"")
        if size > self._limit:
            raise ResourceLimitError(
                f"The data of the socket's subscriptions exceeds {self._limit} bytes "
                "(max_subscription_data)"
            )
        self._size = size
        if data is None:
            self._data.pop(channel, None)
        else:
            self._data[channel] = data

    def get(self, channel: str) -> bytes | None:
        """The data of a channel; None without any."""
        return self._data.get(channel)
