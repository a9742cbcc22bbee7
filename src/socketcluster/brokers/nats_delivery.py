"""Republished messages of a NATS link: from their headers to envelopes.

Source: NATS documentation, "Streams" (RePublish).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from socketcluster.brokers.adapter import LinkListener
from socketcluster.brokers.nats_marks import IDLE_ROUNDS, ROUNDS
from socketcluster.brokers.nats_names import epoch_of
from socketcluster.brokers.nats_streams import (
    MARK,
    Followed,
    Histories,
    HistoryStream,
    StreamMessage,
    parse_mark,
)
from socketcluster.errors import BrokerError
from socketcluster.protocol.envelopes import envelop_stored

MAX_HELD = 16 * 1024 * 1024
"""How many bytes of messages wait until the epoch of their stream is known. Past it they are
dropped, which their successors tell."""

_PLACE = re.compile(
    rb"\r\nNats-Stream: ([^\r]*)\r\nNats-Subject: [^\r]*\r\nNats-Sequence: (\d{1,19})"
    rb"\r\n(?:Nats-Time-Stamp: [^\r]*\r\n)?Nats-Last-Sequence: (\d{1,19})\r"
)


class _Message(NamedTuple):
    """A republished message."""

    stream: HistoryStream
    subject: bytes
    channel: str
    sequence: int
    last: int
    mark: int | None
    payload: bytes


class Delivery:
    """Delivers the stored publishes of the channels that a link is subscribed to.

    Args:
        histories: the streams that the link knows.
        listener: the link's.
        channel_of: returns the channel of a subject that the link is subscribed to.
        open_soon: called with a stream that has to be read before its messages are delivered;
            `release` follows.
    """

    def __init__(
        self,
        histories: Histories,
        listener: LinkListener,
        channel_of: Callable[[bytes], str | None],
        open_soon: Callable[[HistoryStream], None],
    ) -> None:
        self._histories = histories
        self._listener = listener
        self._channel_of = channel_of
        self._open_soon = open_soon
        self._rules: dict[bytes, HistoryStream] = {}  # By the subject of the channel.
        self._held: dict[str, list[_Message]] = {}
        self._held_bytes = 0

    def received(self, subject: bytes, headers: bytes, payload: bytes) -> bool:
        """Handle a message if it is a stored publish; return whether it is.

        Another version of the application may have another rule for the channel. A publish of that
        one has no place in the history that this one follows, so it counts as a plain one.
        """
        place = _PLACE.search(headers)
        channel = self._channel_of(subject)
        stream = None if place is None else self._histories.find(place[1].decode(errors="replace"))
        if place is None or channel is None or stream is None:
            return False
        if self._rules.get(subject, stream) is not stream:
            return False
        sequence, last = int(place[2]), int(place[3])
        at = headers.find(MARK)
        mark = None
        if at >= 0:
            mark = parse_mark(headers[at + len(MARK) :].partition(b"\r")[0], sequence)
        message = _Message(stream, subject, channel, sequence, last, mark, payload)
        if sequence <= stream.newest or (not last and subject in stream.followed):
            # The stream was made anew, or has forgotten the message before.
            stream.created = ""
        if stream.ready:
            self._deliver(message)
        elif self._held_bytes + len(payload) <= MAX_HELD:
            self._held.setdefault(stream.name, []).append(message)
            self._held_bytes += len(payload)
            self._open_soon(stream)
        return True

    def release(self, stream: HistoryStream, failure: BrokerError | None) -> None:
        """Deliver the messages that waited for a stream, or drop them if it could not be read."""
        held = self._held.pop(stream.name, [])
        self._held_bytes -= sum(len(message.payload) for message in held)
        if failure is None:
            for message in held:
                self._deliver(message)
        elif held:
            self._listener.link_failed(failure)

    def _deliver(self, message: _Message) -> None:
        stream, subject, sequence = message.stream, message.subject, message.sequence
        followed = stream.followed.get(subject)
        if followed is None:
            followed = stream.followed[subject] = Followed()
        stream.newest = max(stream.newest, sequence)
        # The message before may be a mark, or forgotten: the link knows the place before these.
        is_next = not message.last or message.last == followed.end
        previous = followed.top if is_next else message.last
        followed.end = sequence
        followed.idle = min(followed.idle, 0)
        if message.mark is not None:
            followed.top = previous if is_next and previous else message.mark
            return
        followed.top = sequence
        epoch = epoch_of(stream.epoch, subject)
        payload = envelop_stored(epoch, sequence, min(previous, sequence - 1), message.payload)
        try:
            self._listener.message_received(message.channel, payload)
        except Exception as error:
            self._listener.link_failed(BrokerError(str(error)))

    def follow(self, subject: bytes, stream: HistoryStream, newest: StreamMessage) -> None:
        """Note the newest message of a channel, whose history was read."""
        if self._channel_of(subject) is None:
            return
        self._rules[subject] = stream
        followed = stream.followed.setdefault(subject, Followed())
        if newest.sequence >= followed.end:
            followed.end, followed.top = newest.sequence, newest.place
        is_old = newest.stored_at < time.time() - stream.seconds * IDLE_ROUNDS / ROUNDS
        followed.idle = IDLE_ROUNDS if is_old else 0

    def forget(self, subject: bytes) -> None:
        """Forget a channel that the link is no longer subscribed to."""
        self._rules.pop(subject, None)
        for stream in self._histories.by_name.values():
            stream.followed.pop(subject, None)
