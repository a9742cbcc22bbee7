"""Marks: small messages in the streams of idle channels.

A stream drops old messages. Once it has dropped the newest one of a channel, no reader could tell
whether there were later ones. So a process that is subscribed to the channel sets a mark before.
"""

from __future__ import annotations

import asyncio

from socketcluster.brokers.nats_requests import Requests
from socketcluster.brokers.nats_streams import Histories, HistoryStream

ROUNDS = 8
IDLE_ROUNDS = 2
"""A channel is marked if no message came in more than two rounds. A stream keeps messages for eight
rounds."""

MARKS_AT_ONCE = 1000


class Marks:
    """Marks the idle channels of one link.

    Args:
        histories: the streams that the link knows.
        requests: the link's.
        channels: how the subjects of channels begin.
    """

    def __init__(self, histories: Histories, requests: Requests, channels: str) -> None:
        self._histories = histories
        self._requests = requests
        self._channels = channels
        self._due: list[tuple[HistoryStream, bytes]] = []

    def check(self) -> None:
        """Mark channels that are due, at most `MARKS_AT_ONCE`. To be called about once a second.

        Raises:
            BrokerError: no answer can arrive at this link.
        """
        now = asyncio.get_running_loop().time()
        for stream in self._histories.by_name.values():
            if stream.ready and stream.marked_at + stream.seconds / ROUNDS <= now:
                stream.marked_at = now
                self._look_for_idle(stream)
        due, self._due = self._due[:MARKS_AT_ONCE], self._due[MARKS_AT_ONCE:]
        for stream, subject in due:
            followed = stream.followed.get(subject)
            if followed is not None and followed.idle > IDLE_ROUNDS:
                stored = stream.start + subject.decode().removeprefix(self._channels)
                self._requests.send(stored, b"Sc-Mark: %d" % followed.top, b"", None)
        self._requests.flush()

    def _look_for_idle(self, stream: HistoryStream) -> None:
        for subject, followed in stream.followed.items():
            if followed.idle >= 0:  # Else its history was never read.
                followed.idle += 1
                if followed.idle > IDLE_ROUNDS:
                    self._due.append((stream, subject))
