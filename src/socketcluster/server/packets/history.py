"""The `$history` call: a client reads back the publishes of a channel that it is subscribed to."""

from __future__ import annotations

from typing import Any, NamedTuple

from socketcluster.brokers.storing import Page, Position
from socketcluster.errors import BrokerError, InvalidRequestError, SocketClusterError
from socketcluster.history.options import History
from socketcluster.protocol.packets import AnyPacket, checked_channel
from socketcluster.protocol.state import CLOSED, SUBSCRIBED
from socketcluster.server.packets.replies import answer_error, reject
from socketcluster.server.parts.decision import Pending
from socketcluster.server.parts.recover_request import read_position
from socketcluster.server.parts.stored_channels import StoredChannels
from socketcluster.server.parts.stored_subscriptions import StoredSubscriptions
from socketcluster.server.parts.subscription_errors import subscription_error
from socketcluster.server.socket import AGServerSocket
from socketcluster.streams import NO_VALUE

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_PUBLICATION_BYTES = 64
"""More than a publication of an answer has beside its data."""


class HistoryQuery(NamedTuple):
    """The part of a history that a client wants to read."""

    channel: str
    since: Position | None
    limit: int
    reverse: bool


class HistoryCalls:
    """Answers the `$history` calls of a server's clients."""

    __slots__ = ("_shared",)

    def __init__(self, shared: StoredChannels) -> None:
        self._shared = shared

    def read(self, socket: AGServerSocket, packet: AnyPacket) -> Pending | None:
        """Carry out a call."""
        if packet.cid is None or socket.life.state == CLOSED:
            return None
        socket.auth.check_expiry()
        try:
            query = _query(packet.data, socket.context.options.max_channel_name_length)
            history = self._check_subscribed(socket, query.channel)
        except SocketClusterError as error:
            reject(socket, packet, error)
            return None
        return self._answer(socket, packet, query, history)

    def _check_subscribed(self, socket: AGServerSocket, channel: str) -> History:
        if socket.subscribed.channels.get(channel) != SUBSCRIBED:
            raise InvalidRequestError(
                f"The history of the {channel} channel is for its subscribers: subscribe first"
            )
        history = self._shared.history_of(channel)
        if history is None or not isinstance(socket.subscribed, StoredSubscriptions):
            raise InvalidRequestError(f"The {channel} channel keeps no history")
        return history

    async def _answer(
        self, socket: AGServerSocket, packet: AnyPacket, query: HistoryQuery, history: History
    ) -> None:
        assert packet.cid is not None
        try:
            query, page = await self._read(socket, query, history)
        except BrokerError as error:
            socket.context.report_broker("history", error, query.channel)
            text = f"The history of the {query.channel} channel cannot be read now"
            answer_error(socket, packet, subscription_error(text))
        except SocketClusterError as error:
            reject(socket, packet, error)
        else:
            if socket.life.state != CLOSED:
                socket.outbound.answer(packet.cid, self._describe(query, page))

    async def _read(
        self, socket: AGServerSocket, query: HistoryQuery, history: History
    ) -> tuple[HistoryQuery, Page]:
        """Read a page, without publishes from before the subscription; return its query, too."""
        if history.before_subscribing:
            return query, await self._read_page(socket, query, history)
        begin, asked = self._begin(socket, query.channel), query.since
        is_known = asked is None or asked.epoch == begin.epoch
        if not query.reverse:
            since = max(asked, begin) if asked and is_known else begin
            query = HistoryQuery(query.channel, since, query.limit, False)
        page = await self._read_page(socket, query, history)
        begin = self._begin(socket, query.channel)  # A later one, if it has another user now.
        shown = [message for message in page.messages if message.offset > begin.offset]
        if page.top.epoch != begin.epoch:
            shown, is_known = [], False
        return query, Page(shown, page.top, page.complete and is_known)

    async def _read_page(
        self, socket: AGServerSocket, query: HistoryQuery, history: History
    ) -> Page:
        channel, since, limit, reverse = query
        page = await self._shared.read(channel, history, since, limit, reverse)
        self._check_subscribed(socket, channel)  # It may have been kicked out meanwhile.
        return page

    def _begin(self, socket: AGServerSocket, channel: str) -> Position:
        """Return the position that a subscriber may read behind."""
        assert isinstance(socket.subscribed, StoredSubscriptions)
        start = socket.subscribed.start_of(channel)
        if start is None:
            raise BrokerError("The position of the channel is not known yet")
        return start.position

    def _describe(self, query: HistoryQuery, page: Page) -> dict[str, Any]:
        room, since, top = self._shared.replay_bytes, query.since, page.top
        end = top.offset  # Where a further read goes on.
        if query.reverse:
            end = 0
        elif since is not None and since.epoch == top.epoch:
            end = min(since.offset, top.offset)
        publications: list[dict[str, Any]] = []
        for message in page.messages:
            room -= len(message.payload) + _PUBLICATION_BYTES
            if room < 0 and publications:
                break
            end = message.previous if query.reverse else message.offset
            data = self._shared.data_of(query.channel, message)
            if data is not NO_VALUE:
                publications.append({"data": data, "offset": message.offset})
        return {
            "publications": publications,
            "epoch": top.epoch,
            "offset": end,
            "complete": page.complete,
        }


def _query(data: Any, max_name: int) -> HistoryQuery:
    """Read the data of a call.

    Raises:
        InvalidRequestError: it is not of the right form.
    """
    fields = data if isinstance(data, dict) else {}
    channel = fields.get("channel")
    if not isinstance(channel, str):
        raise InvalidRequestError("A $history call needs the name of a channel")
    channel = checked_channel(channel, "History", max_name)
    limit, reverse = fields.get("limit", DEFAULT_LIMIT), fields.get("reverse", False)
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequestError(
            f"The limit of a $history call must be a whole number from 1 to {MAX_LIMIT}"
        )
    if not isinstance(reverse, bool):
        raise InvalidRequestError("The field reverse of a $history call must be true or false")
    asked = fields.get("since")
    since = read_position(asked)
    if since is None and asked is not None:
        raise InvalidRequestError(
            "The field since of a $history call must be an object with an epoch and an offset"
        )
    return HistoryQuery(channel, since, limit, reverse)
