"""A socket joins a channel, with what it missed."""

from __future__ import annotations

from collections.abc import Callable

from socketcluster.brokers.storing import Position
from socketcluster.errors import BrokerError
from socketcluster.history.replay import Recovered
from socketcluster.pubsub.fanout import Subscriber
from socketcluster.pubsub.index import ChannelIndex, OnBrokerError


class Recoveries:
    """Lets sockets join channels.

    Args:
        index: has the channels.
        max_bytes: the most bytes of data that a socket receives again as it joins.
        on_error: called with the error of a history that cannot be read.
    """

    __slots__ = ("_index", "_max_bytes", "_on_error")

    def __init__(self, index: ChannelIndex, max_bytes: int, on_error: OnBrokerError) -> None:
        self._index = index
        self._max_bytes = max_bytes
        self._on_error = on_error

    async def recover(
        self,
        subscriber: Subscriber,
        channel: str,
        since: Position | None,
        on_joined: Callable[[Recovered], None],
    ) -> None:
        """Add a socket to a channel's subscribers, with what it missed since a position.

        `on_joined` is called in the turn in which the socket joins: its later messages follow
        those that `on_joined` was given. If the channel has no history, or the history cannot be
        read, the socket joins without it. Cancelling this leaves the socket unsubscribed.

        Raises:
            BrokerError: the broker refused the channel.
        """
        index, place = self._index, object()
        entry = index.hold(channel, place)
        try:
            await index.settled(entry)
            recovered = Recovered([], None, False)
            if entry.stored is not None:
                try:
                    await entry.stored.replay.prepare(since)
                except BrokerError as error:
                    self._on_error(error, "history", channel)
                recovered = entry.stored.replay.recover(since, self._max_bytes)
            if not index.join(entry, subscriber):  # It receives the live ones already.
                recovered = Recovered([], recovered.position, False)
            on_joined(recovered)
        except BaseException:
            index.unsubscribe_socket(subscriber, channel)
            raise
        finally:
            index.release(channel, entry, place)
