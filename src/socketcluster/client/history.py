"""The history of channels, as a client reads it from its server.

Source: docs/history.md, "Reading back".
"""

from __future__ import annotations

import asyncio
from typing import Any

from socketcluster.client.messaging import ClientMessaging
from socketcluster.client.settings import Settings
from socketcluster.client.subscriptions import Subscriptions
from socketcluster.errors import (
    InvalidArgumentsError,
    InvalidMessageError,
    TimeoutError,
    UnknownProcedureError,
    UsageError,
)
from socketcluster.history.since import MAX_OFFSET
from socketcluster.options import checked_name
from socketcluster.position import Position
from socketcluster.pubsub.pages import HistoryPage, HistoryPublication

MAX_LIMIT = 1000
"""The most publishes that a server returns at once."""


class ClientHistory:
    """Reads the histories of the channels that a client is subscribed to."""

    __slots__ = ("_messaging", "_settings", "_subscriptions")

    def __init__(
        self, settings: Settings, messaging: ClientMessaging, subscriptions: Subscriptions
    ) -> None:
        self._settings = settings
        self._messaging = messaging
        self._subscriptions = subscriptions

    async def read(
        self, channel: str, since: Position | None, limit: int, reverse: bool
    ) -> HistoryPage:
        """See `HistoryMixin.history`."""
        checked_name("A channel's name", channel)
        query = {"channel": self._subscriptions.decorated(channel)}
        query |= _checked_query(since, limit, reverse)
        await self._wait_subscribed(channel)
        try:
            answer = await self._messaging.invoke("$history", query)
        except UnknownProcedureError as error:
            raise UsageError(
                "The server keeps no histories: its option channels has no rule with history"
            ) from error
        return _page(answer)

    async def _wait_subscribed(self, channel: str) -> None:
        """Wait until the channel is subscribed to: a server tells its history to subscribers."""
        settled = self._subscriptions.settled(channel)
        if settled is None:
            raise UsageError(
                f"The client is not subscribed to {channel!r}, and a server tells a channel's "
                f"history to subscribers: call subscribe({channel!r}) first"
            )
        milliseconds = self._settings.options.milliseconds("ack_timeout")
        done, _ = await asyncio.wait([settled], timeout=milliseconds / 1000)
        if not done:
            raise TimeoutError(
                f"The subscription to {channel!r} was not answered within ack_timeout"
            )
        error = settled.result()
        if error is not None:
            raise error


class HistoryMixin:
    """Reading back. Its counterpart at a server is `AGExchange.history`."""

    __slots__ = ()

    _history: ClientHistory

    async def history(
        self,
        channel: str,
        since: Position | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> HistoryPage:
        """Read the stored publishes of a channel that the client is subscribed to.

        It waits for a subscription that is not complete. `since` is a position, such as that of a
        page or a 'recoverFail' event: read the publishes behind it. With `reverse` read from the
        newest to the oldest, and those before `since`. `limit` is at most 1000. Publishes from
        before the subscription are left out, unless the server's rule has `before_subscribing`.

        Raises:
            UsageError: the client has not subscribed to the channel, or the server keeps no
                histories.
            InvalidArgumentsError: an argument is wrong.
            TimeoutError: the subscription or the call was not answered in time.
            SocketClusterError: any other error that `invoke` raises, such as that the channel has
                no history, or that the subscription is refused.
        """
        return await self._history.read(channel, since, limit, reverse)


def _checked_query(since: Any, limit: Any, reverse: Any) -> dict[str, Any]:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgumentsError(
            f"The limit must be a whole number from 1 to {MAX_LIMIT}, not {limit!r}"
        )
    if not isinstance(reverse, bool):
        raise InvalidArgumentsError(f"reverse must be True or False, not {reverse!r}")
    query: dict[str, Any] = {"limit": limit, "reverse": reverse}
    if since is not None:
        if not isinstance(since, Position):
            raise InvalidArgumentsError(
                f"since must be a Position, such as that of a former page, or None, not {since!r}"
            )
        if not isinstance(since.epoch, str):
            raise InvalidArgumentsError(f"The epoch of since must be text, not {since.epoch!r}")
        if type(since.offset) is not int or not 0 <= since.offset <= MAX_OFFSET:
            raise InvalidArgumentsError(
                f"The offset of since must be a whole number from 0 to {MAX_OFFSET}, "
                f"not {since.offset!r}"
            )
        query["since"] = {"epoch": since.epoch, "offset": since.offset}
    return query


def _page(answer: Any) -> HistoryPage:
    try:
        publications = [
            HistoryPublication(item["data"], _offset(item["offset"]))
            for item in answer["publications"]
        ]
        epoch, complete = answer["epoch"], answer["complete"]
        if not isinstance(epoch, str) or not isinstance(complete, bool):
            raise TypeError
        return HistoryPage(publications, Position(epoch, _offset(answer["offset"])), complete)
    except (KeyError, TypeError):
        raise InvalidMessageError(
            "The server's answer to $history is no page of a history"
        ) from None


def _offset(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value
