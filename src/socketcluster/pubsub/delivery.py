"""Delivery of publishes: from this process to the broker, and from the broker to the subscribers.

A publish is checked once, decoded at most once, and framed once for all sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from socketcluster.brokers.base import Broker
from socketcluster.errors import BrokerError, SocketClusterError
from socketcluster.protocol.envelopes import open_envelope
from socketcluster.protocol.payloads import Payloads
from socketcluster.pubsub.fanout import FanOut
from socketcluster.pubsub.frame_limit import FrameLimit
from socketcluster.pubsub.gaps import GapReports
from socketcluster.pubsub.index import ChannelEntry, OnBrokerError
from socketcluster.pubsub.stored import StoredPublishes
from socketcluster.streams import NO_VALUE, SMALL, StreamDemux


class PublishDelivery:
    """A `BrokerListener` that delivers publishes to sockets and to the exchange's consumers.

    Args:
        broker: carries publishes to all processes.
        channels: channel → entry, as the index keeps them; only read here.
        fan_out: delivers to the entries' sockets.
        outputs: channel → stream of the exchange's consumers.
        payloads: decodes and frames.
        on_error: called with errors that no call can raise.
        gaps: reports outages.
        limit: refuses publishes that no socket can receive.
        stored: publishes to channels with history; None if no channel can have any.

    Attributes:
        published: publishes of this process that were handed to the broker, or refused.
        published_here: publishes of the exchange itself among them.
        received: publishes that the broker's backend delivered, those of this process included.
        stored: that of the arguments.
    """

    __slots__ = (
        "_broker",
        "_channels",
        "_decoded",
        "_fan_out",
        "_fitting",
        "_gaps",
        "_limit",
        "_on_error",
        "_outputs",
        "_payloads",
        "_publish_elsewhere",
        "published",
        "published_here",
        "received",
        "stored",
    )

    def __init__(
        self,
        broker: Broker,
        channels: Mapping[str, ChannelEntry],
        fan_out: FanOut,
        outputs: StreamDemux[Any],
        payloads: Payloads,
        on_error: OnBrokerError,
        gaps: GapReports,
        limit: FrameLimit | None = None,
        stored: StoredPublishes | None = None,
    ) -> None:
        self._broker = broker
        self._channels = channels
        self._fan_out = fan_out
        self._outputs = outputs
        self._payloads = payloads
        self._on_error = on_error
        self._gaps = gaps
        self._limit = limit or FrameLimit(payloads)
        self._fitting = self._limit.fitting
        self.stored: StoredPublishes | None = stored
        self._publish_elsewhere: Callable[[str, bytes], Awaitable[None] | None] = broker.publish
        self.use_rules()
        # A small payload that is about to be delivered, and its value.
        self._decoded: tuple[bytes, Any] | None = None
        self.published: int = 0
        self.published_here: int = 0
        self.received: int = 0

    def use_rules(self) -> None:
        """Choose how channels without an entry are published to, when a rule was added."""
        if self.stored is not None and self.stored.rules.has_history:
            self._publish_elsewhere = self._publish_by_rule

    def publish(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        """Publish a payload through the broker; None means that the broker accepted it already.

        Raises:
            InvalidMessageError: the exchange is subscribed and the payload cannot be decoded.
            ResourceLimitError: it is larger than the buffer of a socket.
            BrokerError: the broker refused it.
        """
        self.published += 1
        if len(payload) > self._fitting:
            self._limit.check(channel, payload)
        entry = self._channels.get(channel)
        if entry is None:
            return self._publish_elsewhere(channel, payload)
        if entry.direct:
            return self._broker.publish(channel, payload)
        return self._publish_indirectly(entry, channel, payload)

    def publish_once(self, channel: str, payload: bytes, id: str | None) -> Awaitable[None] | None:
        """Publish a payload that is stored once if it is published again with the same id.

        On a channel without history the id has no effect. Raises as `publish` does.
        """
        history = None if self.stored is None else self.stored.history_of(channel)
        if history is None or self.stored is None:
            return self.publish(channel, payload)
        self.published += 1
        if len(payload) > self._fitting:
            self._limit.check(channel, payload)
        entry = self._channels.get(channel)
        if entry is not None and entry.exchange_subscribed:
            self._payloads.check(payload)
        return self.stored.publish(channel, payload, history, id)

    def _publish_by_rule(self, channel: str, payload: bytes) -> Awaitable[None] | None:
        assert self.stored is not None
        history = self.stored.history_of(channel)
        if history is None:
            return self._broker.publish(channel, payload)
        return self.stored.publish(channel, payload, history)

    def _publish_indirectly(
        self, entry: ChannelEntry, channel: str, payload: bytes
    ) -> Awaitable[None] | None:
        """Publish to a channel that is stored, or that the exchange is subscribed to."""
        if entry.stored is not None and self.stored is not None:
            if entry.exchange_subscribed:
                self._payloads.check(payload)
            return self.stored.publish(channel, payload, entry.stored.history)
        self._check(payload, True)
        try:
            return self._broker.publish(channel, payload)
        finally:
            self._decoded = None

    def _check(self, payload: bytes, exchange_subscribed: bool) -> None:
        """Refuse a payload before delivery, rather than lose it later.

        The value of a small payload is kept until its delivery. Decoding it again would take some
        3 to 6 µs for 100 bytes, more than a delivery to a socket.

        Raises:
            InvalidMessageError: the payload cannot be decoded.
        """
        if exchange_subscribed and len(payload) <= SMALL:
            self._decoded = (payload, self._payloads.decode(payload))
        else:
            self._payloads.check(payload)

    # Reports of the broker

    def message_received(self, channel: str, payload: bytes) -> None:
        """See `BrokerListener`."""
        entry = self._channels.get(channel)
        if entry is None:
            return
        try:
            if not entry.direct and self._is_stored(entry, payload):
                return
            if entry.exchange_subscribed:
                decoded, self._decoded = self._decoded, None
                value = NO_VALUE if decoded is None or decoded[0] is not payload else decoded[1]
                # A consumer that is behind keeps the payload as bytes: its value may take thirty
                # times the memory.
                self._outputs.write_payload(channel, payload, self._decode, value)
            if entry.subscribers:
                frame_of = self._payloads.publish_frame
                self._fan_out.publish(channel, entry.subscribers, payload, frame_of)
        except Exception as error:  # The caller has other publishes to deliver.
            self._on_error(error, "delivery", channel)

    def _is_stored(self, entry: ChannelEntry, message: bytes) -> bool:
        """Hand over a message that is stored; return whether it is."""
        return (
            entry.stored is not None
            and self.stored is not None
            and self.stored.received(entry.stored, message)
        )

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        """Deliver a publish from a backend if the codec can decode it. See `BrokerListener`."""
        self.received += 1
        self._receive(channel, payload)

    def _receive(self, channel: str, payload: bytes) -> None:
        entry = self._channels.get(channel)
        if entry is not None:
            if not entry.direct and self._is_stored(entry, payload):
                return
            try:
                self._check(payload, entry.exchange_subscribed)
            except SocketClusterError as error:
                # Looked for here, so that other messages do not pay for it.
                opened = open_envelope(payload)
                if opened is not None and open_envelope(opened[2]) is None:  # No node nests them.
                    self._receive(channel, opened[2])
                    return
                reason = f"A message on the channel {channel!r} of the backend is foreign: {error}"
                self._on_error(BrokerError(reason), "foreign", channel)
                return
            if len(payload) > self._fitting:
                try:
                    self._limit.check(channel, payload)
                except SocketClusterError as error:
                    self._decoded = None
                    reason = (
                        f"A message on the channel {channel!r} of the backend is dropped: {error}"
                    )
                    self._on_error(BrokerError(reason), "foreign", channel)
                    return
            self.message_received(channel, payload)
            self._decoded = None

    def _decode(self, payload: bytes) -> Any:
        try:
            return self._payloads.decode(payload)
        except SocketClusterError as error:
            self.broker_failed(error)
            return NO_VALUE

    def broker_failed(self, error: BaseException) -> None:
        """See `BrokerListener`."""
        self._on_error(error)

    def backend_lost(
        self,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """See `BrokerListener`."""
        self._gaps.lost(error, channels, server)

    def backend_recovered(
        self,
        duration: float,
        error: BrokerError,
        channels: Collection[str] | None = None,
        server: str | None = None,
    ) -> None:
        """See `BrokerListener`."""
        self._gaps.recovered(duration, error, channels, server)
        if self.stored is not None and self.stored.rules.has_history:
            self.stored.resync(channels, duration / 1000)
