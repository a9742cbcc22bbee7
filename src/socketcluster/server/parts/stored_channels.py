"""Channels with history, as the sockets of one server share them: positions and signatures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from socketcluster.brokers.storing import Page, Position, StoredMessage
from socketcluster.history.options import History
from socketcluster.history.since import SinceSigner
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.server.parts.positions import PositionsClock
from socketcluster.server.parts.replays import Replays
from socketcluster.streams import NO_VALUE

RESULTS = ("recovered", "incomplete", "refused")
"""The ends of a recovery: all missed publishes came; some are no longer stored, or they are too
much; or the client has no right to them."""


class Start(NamedTuple):
    """Where a socket's subscription to a stored channel first began.

    Attributes:
        position: the client may read the publishes behind it.
        user: the user that it counts for; None for every one.
        since: the signed text of it.
    """

    position: Position
    user: str | None
    since: str


class RecoveryCounts(Protocol):
    """Counts recoveries by their result."""

    @property
    def recoveries(self) -> Counter[str]: ...


class StoredChannels:
    """The channels with history, for the sockets of one server.

    Args:
        exchange: knows the rules and the positions.
        wire: frames replayed publishes.
        signer: signs where subscriptions began.
        identify: returns the user of a socket.
        counts: counts recoveries.
        max_outbound_buffer: bytes that wait for one socket; a replay may take half of it.

    Attributes:
        clock: sends `$positions` to sockets that asked.
        replays: makes the frames of replays.
        replay_bytes: the most bytes that a replay may have.
    """

    __slots__ = (
        "_counts",
        "_exchange",
        "_identify",
        "_payloads",
        "_signer",
        "clock",
        "replay_bytes",
        "replays",
    )

    def __init__(
        self,
        exchange: AGExchange,
        wire: Wire,
        signer: SinceSigner,
        identify: Callable[[Any], str | None],
        counts: RecoveryCounts,
        max_outbound_buffer: int,
    ) -> None:
        self._exchange = exchange
        self._payloads = wire.payloads
        self._signer = signer
        self._identify = identify
        self._counts = counts
        self.clock: PositionsClock = PositionsClock()
        self.replay_bytes: int = max_outbound_buffer // 2
        self.replays: Replays = Replays(wire, self.replay_bytes)

    def history_of(self, channel: str) -> History | None:
        """Return what the rule of a channel says about its history; None if it has none."""
        return self._exchange.stored.history_of(channel)

    def position(self, channel: str) -> Position | None:
        """Return the position of the newest publish that this process has delivered."""
        stored = self._exchange.stored_channel(channel)
        return None if stored is None else stored.position

    def count(self, result: str) -> None:
        """Count a recovery by its result."""
        self._counts.recoveries[result] += 1

    # Where subscriptions began

    def user(self, socket: Any) -> str | None:
        """Return the user of a socket."""
        return self._identify(socket)

    def start(self, user: str | None, channel: str, position: Position) -> Start:
        """Begin a subscription at a position."""
        return Start(position, user, self._signer.sign(user, channel, position))

    def present_start(self, user: str | None, channel: str, start: Start | None) -> Start | None:
        """Return a start as it counts now: another user, or another history, begins anew.

        None if the channel's position is not known yet.
        """
        stored = self._exchange.stored_channel(channel)
        if stored is None or stored.position is None:
            return start
        if start is not None and start.user is not None and start.user != user:
            return self.start(user, channel, stored.position)
        if start is None or start.position.epoch != stored.position.epoch:
            return self.start(user, channel, stored.log.began or stored.position)
        return start

    def narrowed_start(
        self, channel: str, start: Start | None, position: Position | None
    ) -> Start | None:
        """Return a start that is not before a position; None if there is neither."""
        if start is None or position is None:
            return None
        is_before = start.position.epoch != position.epoch or start.position < position
        return self.start(start.user, channel, position) if is_before else start

    def read_since(self, user: str | None, channel: str, epoch: str, since: str) -> Start | None:
        """Return where a `since` says that a subscription began; None if it is not valid here."""
        verified = self._signer.verify(since, user, channel, epoch)
        if verified is None:
            return None
        position, owner = verified
        return self.start(owner, channel, position)

    # Publishes

    def own_id(self, user: str | None, id: str) -> str:
        """Return a client's id of a publish as one of its user: an id of another has no effect.

        Clients without a user share theirs, so that they can repeat a publish on a new connection.
        """
        owner = "" if user is None else f"{len(user)}:{user}"
        text = f"{owner} {id}".encode(errors="surrogatepass")
        # With this letter it is longer than an id of the server's application may be.
        return f"c{hashlib.sha256(text).hexdigest()}"

    # Publishes of a history

    async def read(
        self, channel: str, history: History, since: Position | None, limit: int, reverse: bool
    ) -> Page:
        """Read a channel's history; see `StoringBroker.history`.

        Raises:
            BrokerError: the backend is away, or refused.
        """
        reads = self._exchange.stored.reads
        return await reads.read(channel, history.retention, since, limit, reverse)

    def data_of(self, channel: str, message: StoredMessage) -> Any:
        """Return the data of a message for an answer; NO_VALUE if it is foreign."""
        payload = self._exchange.stored.readable(channel, message.payload)
        return NO_VALUE if payload is None else self._payloads.embedded(payload)
