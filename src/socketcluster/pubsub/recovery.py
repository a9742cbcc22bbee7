"""A socket joins a channel, with what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from socketcluster.brokers.storing import Position
from socketcluster.errors import BrokerError
from socketcluster.history.replay import Recovered
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.pubsub.fanout import Subscriber
from socketcluster.pubsub.index import ChannelIndex, OnBrokerError

AWAY_SECONDS = 7.0
"""How long sockets wait for a backend that is away: clients wait 10 seconds for an answer."""

RETRY_SECONDS = 0.1


class Recoveries:
    """Lets sockets join channels.

    Args:
        index: has the channels.
        max_bytes: the most bytes of data that a socket receives again as it joins.
        on_error: called with the error of a history that cannot be read.
    """

    __slots__ = ("_index", "_max_bytes", "_on_error", "_waiting_ends")

    def __init__(self, index: ChannelIndex, max_bytes: int, on_error: OnBrokerError) -> None:
        self._index = index
        self._max_bytes = max_bytes
        self._on_error = on_error
        self._waiting_ends: float | None = None

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
        read, the socket joins without it; for a backend that is away it waits some seconds first.
        Cancelling this leaves the socket unsubscribed.

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
                    await self._prepare(entry.stored, since)
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

    async def _prepare(self, stored: StoredChannel, since: Position | None) -> None:
        """Read what a position needs; wait while the backend is away.

        All wait together: a socket subscribes to its channels one after the other.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        loop, waited = asyncio.get_running_loop(), False
        while True:
            failure: BrokerError | None = None
            try:
                await stored.replay.prepare(since)
            except BrokerError as error:
                failure = error
            if since is None or not stored.history.recover:
                break
            if failure is None and stored.position is not None:
                self._waiting_ends = None
                break
            if waited and not stored.replay.is_away:  # It refused.
                break
            if self._waiting_ends is None:
                self._waiting_ends = loop.time() + AWAY_SECONDS
            if loop.time() >= self._waiting_ends:
                break
            waited = True  # The broker may notice a loss a little later.
            await asyncio.sleep(RETRY_SECONDS)
        if failure is not None:
            raise failure
