"""The subscriptions of a socket of a server with histories: recovery, and `$positions`.

They stand in place of `Subscriptions`, and treat channels without history alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

from socketcluster.brokers.storing import Position
from socketcluster.history.options import History
from socketcluster.history.replay import Recovered
from socketcluster.middleware.action import Recovering
from socketcluster.protocol.state import CLOSED, PENDING
from socketcluster.pubsub.fanout import Run
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.recover_request import RECOVER, asks_for_positions, read_recover
from socketcluster.server.parts.stored_channels import Start, StoredChannels
from socketcluster.server.parts.subscription_data import SentData
from socketcluster.server.parts.subscription_errors import abandoned_error, limit_reached
from socketcluster.server.parts.subscriptions import (
    Subscriptions,
    SubscriptionsContext,
    SubscriptionsOwner,
)

ROOM_SECONDS = 0.02
"""How often to look whether a slow client has room for a replay."""

MAX_POSITIONS = 100
"""How many channels one `$positions` of the clock has; others follow a second later."""

_ABSENT = object()

Answer = Callable[[dict[str, Any]], None]
"""Answers '#subscribe', given the data of the answer."""


class Resumed(NamedTuple):
    """Where the session of a socket has a channel.

    Attributes:
        position: the newest publish that the client is known to have.
        start: where its subscription first began.
    """

    position: Position
    start: Start


class SessionPositions(Protocol):
    """The session of one socket, which knows where the client's former socket was."""

    def waiting(self) -> Awaitable[None] | None:
        """Return what to wait for until `take` can answer; None if it can now."""

    def take(self, channel: str) -> Resumed | None:
        """Return where the session has a channel; None if it does not know it."""


class StoredSocket(SubscriptionsOwner, Protocol):
    """A socket whose subscriptions are replaced."""

    subscribed: Subscriptions

    @property
    def context(self) -> SubscriptionsContext: ...


class RecoveryRequest(NamedTuple):
    """The request of a client, or of its session, to recover a stored channel.

    Attributes:
        tells_positions: whether the client wants `$positions`.
        recovering: the position to recover from, which middleware may narrow.
        start: where the subscription first began; None if it begins now.
        user: the user of the socket when it asked.
        asked: whether a recovery was asked for.
        is_latest: whether the channel gives each subscriber its newest publish.
    """

    tells_positions: bool
    recovering: Recovering
    start: Start | None
    user: str | None
    asked: bool
    is_latest: bool


class StoredSubscriptions(Subscriptions):
    """The subscriptions of one socket, some of them to channels with history.

    Attributes:
        starts: where each subscription to a stored channel first began.
        session: positions of the client's former socket; None without a session.
    """

    __slots__ = ("_sent_positions", "_shared", "session", "starts")

    def __init__(
        self, socket: SubscriptionsOwner, context: SubscriptionsContext, shared: StoredChannels
    ) -> None:
        super().__init__(socket, context)
        self._shared = shared
        self._sent_positions: dict[str, Position | None] = {}
        self.starts: dict[str, Start] = {}
        self.session: SessionPositions | None = None

    @property
    def shared(self) -> StoredChannels:
        """The part that the sockets of the server share."""
        return self._shared

    def read_request(self, channel: str, data: Any, history: History) -> RecoveryRequest:
        """Read the `$recover` of a subscription, or ask the session.

        A position that the client cannot prove a right to is None.
        """
        socket, shared = self._socket, self._shared
        tells = asks_for_positions(data)
        asked = read_recover(data[RECOVER]) if tells else None
        resumed = None if self.session is None else self.session.take(channel)
        user = shared.user(socket)
        position: Position | None = None
        start: Start | None = None
        if asked is not None:
            position = asked.position
            start = shared.read_since(user, channel, position.epoch, asked.since)
            if start is None and not history.before_subscribing:
                position = None
        elif resumed is not None:
            position, start = resumed
        if position is not None and start is not None and position.epoch == start.position.epoch:
            position = max(position, start.position)
        is_asked = resumed is not None or (tells and data[RECOVER] is not None)
        if not history.recover:
            position, is_asked = None, False
        elif history.recover == "latest" and (known := asked or resumed) is not None:
            position = known.position  # The newest publish is for every subscriber.
        is_latest = history.recover == "latest"
        return RecoveryRequest(tells, Recovering(position), start, user, is_asked, is_latest)

    def recover(
        self,
        channel: str,
        options: dict[str, Any],
        data: SentData | None,
        request: RecoveryRequest,
        answer: Answer,
    ) -> Awaitable[None]:
        """Subscribe to a stored channel; send the missed publishes, then the answer.

        Raises:
            BrokerError: a limit is reached or the broker refused.
        """
        limit = self._context.options.socket_channel_limit
        if limit and channel not in self.channels and len(self.channels) >= limit:
            raise limit_reached(self._socket.id, channel, limit)
        self._store_data(channel, data)
        self.channels[channel] = PENDING
        return self._recover(channel, options, request, answer)

    def subscribe_again(
        self,
        channel: str,
        options: dict[str, Any],
        data: SentData | None,
        request: RecoveryRequest,
        answer: Answer,
    ) -> None:
        """Answer another subscription to a channel; publishes go on, and none come twice.

        Raises:
            BrokerError: the data exceeds its limit.
        """
        self._store_data(channel, data)
        self._complete(channel, options, request, answer, False)

    async def _recover(
        self, channel: str, options: dict[str, Any], request: RecoveryRequest, answer: Answer
    ) -> None:
        is_done = False

        def joined(recovered: Recovered) -> None:
            nonlocal is_done
            if self.channels.get(channel) == PENDING and self._socket.life.state != CLOSED:
                is_done = True
                self._joined(channel, options, request, answer, recovered)
            else:  # It has left or was kicked out meanwhile.
                self._context.exchange.unsubscribe_socket(self._socket.outbound, channel)

        self._pending = waiting = asyncio.ensure_future(self._join(channel, request, joined))
        if self._socket.life.state == CLOSED:  # The client left before this task began.
            self.abandon_pending()
        try:
            await waiting
        except Exception as error:
            self._pending = None
            self._leave(channel)
            raise self._broker_refusal(channel, error) from error
        except asyncio.CancelledError:
            self._leave(channel)
            if self._pending is None:
                raise abandoned_error(channel) from None
            raise
        self._pending = None
        if not is_done:
            self._leave(channel)
            raise abandoned_error(channel)

    async def _join(
        self, channel: str, request: RecoveryRequest, joined: Callable[[Recovered], None]
    ) -> None:
        outbound, position = self._socket.outbound, request.recovering.position
        if position is not None or request.is_latest:
            # A client that recovers many channels reads one replay before it gets another. Nothing
            # reports that there is room.
            while _is_behind(outbound, self._shared.replay_bytes):  # noqa: ASYNC110
                await asyncio.sleep(ROOM_SECONDS)
        await self._context.exchange.recover_socket(outbound, channel, position, joined)

    def _leave(self, channel: str) -> None:
        self._remove(channel)
        self._context.exchange.unsubscribe_socket(self._socket.outbound, channel)

    def _joined(
        self,
        channel: str,
        options: dict[str, Any],
        request: RecoveryRequest,
        answer: Answer,
        recovered: Recovered,
    ) -> None:
        """Send the missed publishes, the position and the answer, in the turn of joining."""
        messages, position, is_whole = recovered
        start = request.start
        if start is not None and request.user != self._shared.user(self._socket):
            # It has become another user's, who is refused what the former one missed.
            start = None
            if not request.is_latest:
                messages, is_whole = [], False
        if position is not None and messages:
            run = self._shared.replays.run_of(channel, position.epoch, messages)
            if run is not None and not self._replay(run):
                is_whole = False
        is_whole = is_whole and request.recovering.position is not None
        if request.recovering.narrowed:  # Reading back must not show what middleware left out.
            start = self._shared.narrowed_start(channel, start, request.recovering.position)
        self._count(request, is_whole)
        self._begin(channel, start, position)
        self._complete(channel, options, request, answer, is_whole)

    def _complete(
        self,
        channel: str,
        options: dict[str, Any],
        request: RecoveryRequest,
        answer: Answer,
        is_whole: bool,
    ) -> None:
        if request.tells_positions:
            self._sent_positions[channel] = None
            self._shared.clock.add(channel, self)
            self._tell([channel])
        if self._socket.life.state == CLOSED:  # Its buffer was too small for all this.
            return
        self._subscribed(channel, options)
        answer({**self._place(channel), "recovered": is_whole})

    def _replay(self, run: Run) -> bool:
        """Send missed publishes; return False, and send none, if they are too much."""
        if len(run.frames) > 1 and run.size > self._shared.replay_bytes:
            return False
        try:
            self._socket.outbound.publish(run, False)
        except Exception as error:
            self._socket.outbound.failed(error)
        return True

    def _count(self, request: RecoveryRequest, is_whole: bool) -> None:
        if request.asked:
            had_right = request.recovering.position is not None
            result = "incomplete" if had_right else "refused"
            self._shared.count("recovered" if is_whole else result)

    def _begin(self, channel: str, start: Start | None, position: Position | None) -> None:
        """Keep where the subscription first began."""
        if position is None:
            return
        if start is None or start.position.epoch != position.epoch or start.position > position:
            start = self._shared.start(self._shared.user(self._socket), channel, position)
        self.starts[channel] = start

    def start_of(self, channel: str) -> Start | None:
        """Return where the subscription to a stored channel began, as it counts now."""
        user = self._shared.user(self._socket)
        start = self._shared.present_start(user, channel, self.starts.get(channel))
        if start is not None:
            self.starts[channel] = start
        return start

    def _place(self, channel: str) -> dict[str, Any]:
        position, start = self._shared.position(channel), self.start_of(channel)
        if position is None or start is None:
            return {"epoch": None, "offset": None, "since": None}
        return {"epoch": position.epoch, "offset": position.offset, "since": start.since}

    def _remove(self, channel: str) -> str | None:
        self.starts.pop(channel, None)
        if self._sent_positions.pop(channel, _ABSENT) is not _ABSENT:
            self._shared.clock.discard(channel, self)
        return super()._remove(channel)

    # Positions

    def tell_changed(self) -> None:
        """See `Asker`."""
        position_of = self._shared.position
        changed = [name for name, sent in self._sent_positions.items() if position_of(name) != sent]
        for channel in changed[:MAX_POSITIONS]:  # To the end: others are first the next time.
            del self._sent_positions[channel]
        self._tell(changed[:MAX_POSITIONS])

    def tell(self, channel: str) -> None:
        """See `Asker`."""
        self._tell([channel])

    def _tell(self, channels: Iterable[str]) -> None:
        # `transmit` writes the publishes first that were delivered until now.
        data: dict[str, Any] = {}
        for channel in channels:
            position = self._sent_positions[channel] = self._shared.position(channel)
            if position is not None:
                data[channel] = self._place(channel)
        if data and self._socket.life.state != CLOSED:
            try:
                self._socket.messaging.transmit_in_any_state("$positions", data)
            except Exception as error:
                self._socket.outbound.failed(error)


def _is_behind(outbound: Outbound, limit: int) -> bool:
    return not outbound.closed and outbound.get_buffer_size() > limit


def stored_subscriptions(socket: StoredSocket, shared: StoredChannels) -> StoredSubscriptions:
    """Return the subscriptions of a socket, which can recover from now on."""
    former = socket.subscribed
    if isinstance(former, StoredSubscriptions):
        return former
    socket.subscribed = made = StoredSubscriptions(socket, socket.context, shared)
    made.take_over(former)
    return made
