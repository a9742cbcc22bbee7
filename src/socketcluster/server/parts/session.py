"""SocketSession: how much of each channel with history the client of one socket has received.

At each ping the process's count of stored publishes is noted. The pong confirms it, for a client
handles messages in order. So nothing is done per message, and where a channel was at that count is
looked up only when it is needed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from socketcluster.brokers.storing import Position
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.protocol.payloads import NumberedPayload
from socketcluster.pubsub.fanout import Run
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.stored_channels import Start, StoredChannels
from socketcluster.server.parts.stored_subscriptions import (
    Resumed,
    StoredSocket,
    StoredSubscriptions,
)
from socketcluster.server.parts.subscriptions import SubscriptionsContext, SubscriptionsOwner

MAX_PINGS = 16
"""How many pings without a pong are noted; later ones confirm nothing."""


class Saved(msgspec.Struct, array_like=True, frozen=True):
    """Where a client was in a channel.

    Attributes:
        epoch, offset: the newest publish that it is known to have.
        begin: the offset at which its subscription first began; None if that was in another epoch.
        user: the user that `begin` counts for; None for every one.
    """

    epoch: str
    offset: int
    begin: int | None = None
    user: str | None = None


State = Mapping[str, Saved]
"""Channel → where a client was in it."""


class SessionChannels(Protocol):
    """The channels with history, as the sessions see them."""

    @property
    def delivered(self) -> int:
        """How many stored publishes this process has delivered, of all channels."""
        ...

    def stored(self, channel: str) -> StoredChannel | None:
        """Return a channel that has a subscriber in this process; None without history."""
        ...

    def start(self, user: str | None, channel: str, position: Position) -> Start:
        """Begin a subscription at a position."""
        ...

    def start_of(self, socket: Any, channel: str) -> Start | None:
        """Return where a socket's subscription to a channel began."""
        ...

    def user(self, socket: Any) -> str | None:
        """Return the user of a socket."""
        ...


class SessionSocket(StoredSocket, Protocol):
    """The socket of a session."""

    @property
    def closing(self) -> SessionClosing: ...


class SessionClosing(Protocol):
    """The closing of the socket."""

    @property
    def code(self) -> int | None:
        """The code of its end."""
        ...

    def leave(self, code: int, reason: str | None, client_reason: str) -> None: ...


class _Join(NamedTuple):
    """The subscription to a channel.

    Attributes:
        position: of the client, before its first publish; None if it was not known.
        delivered: how many stored publishes the process had delivered.
        pings: how many pings the client had been sent.
    """

    position: Position | None
    delivered: int
    pings: int


class SessionSubscriptions(StoredSubscriptions):
    """The subscriptions of a socket that has a session.

    Attributes:
        noted: the session, until the socket ends.
    """

    __slots__ = ("_replayed_from", "noted")

    def __init__(
        self, socket: SubscriptionsOwner, context: SubscriptionsContext, shared: StoredChannels
    ) -> None:
        super().__init__(socket, context, shared)
        self._replayed_from: int | None = None
        self.noted: SocketSession | None = None

    def _replay(self, run: Run) -> bool:
        is_sent = super()._replay(run)
        if is_sent:
            self._replayed_from = cast("NumberedPayload", run.payloads[0]).offset - 1
        return is_sent

    def _begin(self, channel: str, start: Start | None, position: Position | None) -> None:
        super()._begin(channel, start, position)
        offset, self._replayed_from = self._replayed_from, None
        if position is not None and offset is not None:
            position = Position(position.epoch, offset)
        if self.noted is not None:
            self.noted.joined(channel, position)

    def _remove(self, channel: str) -> str | None:
        if self.noted is not None:
            self.noted.left(channel)
        return super()._remove(channel)

    def leave_all(self) -> None:
        """See `Subscriptions`. The session keeps where the client was."""
        session, self.noted = self.noted, None
        if session is not None:
            session.ended()
        super().leave_all()


class SocketSession:
    """The session of one socket; see `SessionPositions`.

    Attributes:
        id: a hash of the session, by which servers know it.
        socket: the socket.
        looking: the search for the state of the client's former socket; None if it is over.
        is_over: whether the state was handed on, or kept.
    """

    __slots__ = (
        "_channels",
        "_confirmed",
        "_held",
        "_joins",
        "_on_end",
        "_pings",
        "_pongs",
        "_resumed",
        "_sent",
        "_unnoted",
        "_written",
        "id",
        "is_over",
        "looking",
        "socket",
    )

    def __init__(
        self,
        id: str,
        socket: SessionSocket,
        channels: SessionChannels,
        on_end: Callable[[SocketSession], None],
    ) -> None:
        """`on_end(session)` is called at the end of the socket, before it leaves its channels."""
        self.id: str = id
        self.socket: SessionSocket = socket
        self.looking: asyncio.Future[None] | None = None
        self.is_over: bool = False
        self._channels = channels
        self._on_end = on_end
        self._resumed: dict[str, Saved] = {}
        self._joins: dict[str, _Join] = {}
        self._held: deque[tuple[int, int]] = deque()
        self._sent: deque[tuple[int, int]] = deque()
        self._unnoted = 0  # Pings behind those that are noted, and their pongs are to come.
        self._pings = self._pongs = 0
        self._written = channels.delivered
        self._confirmed = 0, self._written

    # Pings

    def pinged(self) -> None:
        """Note how much is written before a ping, which the caller sends now."""
        outbound, count = self.socket.outbound, self._channels.delivered
        outbound.collect_publishes()
        if outbound.batch is not None:
            outbound.flush_batch()
            outbound.start_batch()
        self._note_written(outbound, count)
        self._pings += 1
        if self._unnoted or len(self._sent) >= MAX_PINGS:
            self._unnoted += 1
        else:
            self._sent.append((self._pings, self._written))

    def _note_written(self, outbound: Outbound, count: int) -> None:
        if not outbound.held:
            self._held.clear()
            self._written = count
            return
        # What outbound middleware holds goes out behind this ping: a later one confirms it.
        while self._held and self._held[0][0] <= outbound.prepared - outbound.held:
            self._written = self._held.popleft()[1]
        if len(self._held) < MAX_PINGS:
            self._held.append((outbound.prepared, count))

    def ponged(self) -> None:
        """Take a pong: all that was written before its ping has arrived."""
        if self._sent:
            self._confirmed = self._sent.popleft()
        elif self._unnoted:
            self._unnoted -= 1

    # Subscriptions

    def waiting(self) -> Awaitable[None] | None:
        """See `SessionPositions`."""
        return None if self.looking is None else asyncio.shield(self.looking)

    def take(self, channel: str) -> Resumed | None:
        """See `SessionPositions`. The answer stays the same until the client has joined."""
        saved = self._resumed.get(channel)
        if saved is None:
            return None
        if saved.user is not None and saved.user != self.user:
            return None
        position = Position(saved.epoch, saved.offset)
        begin = position if saved.begin is None else Position(saved.epoch, saved.begin)
        return Resumed(position, self._channels.start(saved.user, channel, begin))

    def joined(self, channel: str, position: Position | None) -> None:
        """Note that the socket joined a channel; its first publish is behind the position."""
        self._resumed.pop(channel, None)
        self._joins[channel] = _Join(position, self._channels.delivered, self._pings)

    def left(self, channel: str) -> None:
        """Note that the socket left a channel."""
        self._joins.pop(channel, None)

    def ended(self) -> None:
        """Call `on_end`."""
        self._on_end(self)

    @property
    def user(self) -> str | None:
        """The user of the socket, whom the session belongs to."""
        return self._channels.user(self.socket)

    # The state

    def resume(self, state: State) -> None:
        """Go on where the client's former socket was."""
        self._resumed = {**state, **self._resumed}

    def state(self) -> State:
        """Return where the client is known to be, in the channels that it has or had."""
        found: dict[str, Saved] = {}
        for channel, join in self._joins.items():
            position = self._position(channel, join)
            if position is not None:
                start = self._channels.start_of(self.socket, channel)
                begin = None
                if start is not None and start.position.epoch == position.epoch:
                    begin = start.position.offset
                user = None if start is None else start.user
                found[channel] = Saved(position.epoch, position.offset, begin, user)
        return {**found, **self._resumed}  # The last ones go first if the state is too long.

    def _position(self, channel: str, join: _Join) -> Position | None:
        pings, count = self._confirmed
        stored = self._channels.stored(channel)
        if pings > join.pings and count >= join.delivered and stored is not None:
            return stored.position_at(count) or join.position
        return join.position
