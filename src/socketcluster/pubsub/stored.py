"""Stored publishes: from this process to the broker, and back, in order, to the subscribers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, cast

from socketcluster.brokers.base import Broker
from socketcluster.brokers.storing import StoringBroker, broker_name, stores
from socketcluster.errors import BrokerError, InvalidOptionsError, SocketClusterError
from socketcluster.history.numbers import Numbers
from socketcluster.history.options import History
from socketcluster.history.reading import ReadBroker, SharedReads
from socketcluster.history.stored_channel import StoredChannel
from socketcluster.protocol.envelopes import STORED, TRACE, open_envelope, read_stored
from socketcluster.protocol.payloads import NumberedPayload, Payloads
from socketcluster.pubsub.fanout import FanOut, Subscriber
from socketcluster.pubsub.frame_limit import FrameLimit
from socketcluster.pubsub.gaps import GapReports
from socketcluster.pubsub.index import OnBrokerError
from socketcluster.pubsub.rule_table import RuleTable
from socketcluster.streams import NO_VALUE, StreamDemux


class StoredEntry(Protocol):
    """The entry of a channel, as stored publishes see it."""

    @property
    def stored(self) -> StoredChannel | None: ...
    @property
    def exchange_subscribed(self) -> bool: ...
    @property
    def subscribers(self) -> dict[Subscriber, None]: ...


class StoredPublishes:
    """Publishes with history, and makes the `StoredChannel` of each entry that a rule names.

    Args:
        broker: stores publishes, if a rule has history.
        channels: channel → entry; only read here.
        rules: the rules of channels.
        fan_out: delivers to the entries' sockets.
        outputs: channel → stream of the exchange's consumers.
        payloads: decodes and frames.
        on_error: called with errors that no call can raise.
        gaps: reports publishes that were lost.
        limit: refuses publishes that no socket can receive.

    Attributes:
        rules: those of the arguments.
        numbers: counts.
        reads: the reads of histories.
        on_epoch: called when a channel's position is of another epoch, before newer publishes.
    """

    __slots__ = (
        "_broker",
        "_channels",
        "_fan_out",
        "_gaps",
        "_limit",
        "_on_error",
        "_outputs",
        "_payloads",
        "numbers",
        "on_epoch",
        "reads",
        "rules",
    )

    def __init__(
        self,
        broker: Broker,
        channels: Mapping[str, StoredEntry],
        rules: RuleTable,
        fan_out: FanOut,
        outputs: StreamDemux[Any],
        payloads: Payloads,
        on_error: OnBrokerError,
        gaps: GapReports,
        limit: FrameLimit,
    ) -> None:
        self._broker = cast("StoringBroker", broker)
        self._channels = channels
        self._fan_out = fan_out
        self._outputs = outputs
        self._payloads = payloads
        self._on_error = on_error
        self._gaps = gaps
        self._limit = limit
        self.rules: RuleTable = rules
        self.on_epoch: Callable[[str], None] = lambda _: None
        self.numbers: Numbers = Numbers()
        self.reads: SharedReads = SharedReads(cast("ReadBroker", broker), self.numbers)

    def follow(self, channel: str) -> StoredChannel | None:
        """Make the follower of a channel; None if it has no history."""
        history = self.history_of(channel)
        return None if history is None else StoredChannel(channel, history, self.reads, self)

    def history_of(self, channel: str) -> History | None:
        """Return what the rule of a channel says about its history."""
        rule = self.rules.find(channel)
        return None if rule is None else rule.history

    def publish(
        self, channel: str, payload: bytes, history: History, id: str | None = None
    ) -> Awaitable[None] | None:
        """Store and send a publish; None means that the broker has done it.

        Raises:
            BrokerError: the broker refused it.
        """
        self.numbers.published += 1
        return self._broker.publish_stored(channel, payload, history.retention, id)

    def check_broker(self) -> None:
        """Check that the broker stores, if a rule needs it.

        Raises:
            InvalidOptionsError: it stores nothing.
        """
        rule = next((rule for rule in self.rules if rule.history is not None), None)
        if rule is not None and not stores(self._broker):
            raise InvalidOptionsError(
                f"The rule for {rule.pattern.text!r} has history, and {broker_name(self._broker)} "
                "stores no publishes. Use a broker that does, such as Redis, or remove the history",
                "channels",
            )

    def fills(self, channel: str) -> bool:
        """Whether the history of a channel fills the gap of an outage."""
        entry = self._channels.get(channel)
        return entry is not None and entry.stored is not None and entry.stored.position is not None

    def resync(self, channels: Collection[str] | None, seconds: float) -> None:
        """Read the missing messages of channels, or of all, after an outage of some seconds."""
        for channel in list(self._channels if channels is None else channels):
            entry = self._channels.get(channel)
            if entry is not None and entry.stored is not None:
                entry.stored.resync(seconds)

    # What the broker delivers

    def received(self, stored: StoredChannel, message: bytes) -> bool:
        """Take a message of the broker if it is in an envelope of the kind STORED.

        Returns False for another message.
        """
        opened = open_envelope(message)
        if opened is None or opened[0] != STORED:
            return False
        place = read_stored(opened[1])
        if place is None:
            reason = "the fields of its envelope are wrong"
            self._foreign(stored.name, reason)
        else:
            stored.received(*place, opened[2])
        return True

    def _foreign(self, channel: str, reason: str) -> None:
        text = f"A message on the channel {channel!r} of the backend is foreign: {reason}"
        self._on_error(BrokerError(text), "foreign", channel)

    # Reports of a `StoredChannel`

    def readable(self, channel: str, payload: bytes) -> bytes | None:
        """See `StoredSink`."""
        try:
            payload = self._plain(payload)
            if len(payload) > self._limit.fitting:
                self._limit.check(channel, payload)
        except SocketClusterError as error:
            self._foreign(channel, str(error))
            return None
        return payload

    def _plain(self, payload: bytes) -> bytes:
        """Check a stored payload, and remove the envelope of a trace.

        Raises:
            InvalidMessageError: it cannot be decoded.
        """
        try:
            self._payloads.check(payload)
        except SocketClusterError:
            opened = open_envelope(payload)
            if opened is None or opened[0] != TRACE:
                raise
            self._payloads.check(opened[2])
            return opened[2]
        return payload

    def deliver_stored(self, channel: str, offset: int, payload: bytes) -> None:
        """See `StoredSink`."""
        entry = self._channels.get(channel)
        if entry is None:
            return
        try:
            if entry.exchange_subscribed:
                self._outputs.write_payload(channel, payload, self._decode, NO_VALUE)
            if entry.subscribers:
                numbered = NumberedPayload(payload)
                numbered.offset = offset
                frame_of = self._payloads.numbered_frame
                self._fan_out.publish(channel, entry.subscribers, numbered, frame_of)
        except Exception as error:  # The caller has other publishes to deliver.
            self._on_error(error, "delivery", channel)

    def _decode(self, payload: bytes) -> Any:
        try:
            return self._payloads.decode(payload)
        except SocketClusterError as error:
            self._on_error(error)
            return NO_VALUE

    def epoch_changed(self, channel: str) -> None:
        """See `StoredSink`."""
        self.on_epoch(channel)

    def history_lost(self, channel: str, seconds: float, reason: str) -> None:
        """See `StoredSink`."""
        self.numbers.unfilled += 1
        text = f"Publishes of the channel {channel!r} may be missing: {reason}"
        self._gaps.channel_lost(channel, seconds * 1000, BrokerError(text))

    def history_failed(self, channel: str, error: BaseException, action: str = "history") -> None:
        """See `StoredSink`."""
        self._on_error(error, action, channel)
