"""Subscription data: kept until middleware decides on the subscriptions again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from socketcluster.errors import ResourceLimitError
from socketcluster.pubsub.gaps import GapReports


class SentData(NamedTuple):
    """The data of a subscription as the client sent it.

    Attributes:
        encoded: the data, encoded, so that its size is known and no function can change it.
        asks_for_gaps: whether the client wants the event `$gap` after gaps of the channel.
    """

    encoded: bytes
    asks_for_gaps: bool = False


class SubscriptionData:
    """The subscription data of one socket, bounded by `max_subscription_data`.

    It is the `GapSubscriber` of the channels whose data asks for that.

    Args:
        limit: bytes of all data.
        gaps: the gap reports of the exchange.
        send_gap: sends `$gap` to the client.
    """

    __slots__ = ("_data", "_gaps", "_limit", "_send_gap", "_size")

    def __init__(self, limit: int, gaps: GapReports, send_gap: Callable[[str, int], None]) -> None:
        self._send_gap = send_gap
        self._limit = limit
        self._gaps = gaps
        self._data: dict[str, bytes] = {}
        self._size = 0

    def send_gap(self, channel: str, duration: int) -> None:
        """See `GapSubscriber`."""
        self._send_gap(channel, duration)

    def put(self, channel: str, sent: SentData | None) -> None:
        """Store the data of a channel; None removes it.

        Raises:
            ResourceLimitError: the data would exceed the limit; nothing has changed.
        """
        added = 0 if sent is None else len(sent.encoded)
        size = self._size - len(self._data.get(channel, b"")) + added
        if size > self._limit:
            raise ResourceLimitError(
                f"The data of the socket's subscriptions exceeds {self._limit} bytes "
                "(max_subscription_data)"
            )
        self._size = size
        if sent is None:
            self._data.pop(channel, None)
        else:
            self._data[channel] = sent.encoded
        if sent is not None and sent.asks_for_gaps:
            self._gaps.add(channel, self)
        else:
            self._gaps.discard(channel, self)

    def get(self, channel: str) -> bytes | None:
        """The data of a channel; None without any."""
        return self._data.get(channel)
