"""Fan-out: delivers a channel's publishes to its subscribers, in one batch per loop turn.

A run is a sequence of publishes to one channel in one loop turn. Each subscriber receives it at the
end of the turn; or earlier, before anything else is sent to one of the subscribers and before the
subscribers change, so that the order of sending is kept. With 100 subscribers and 16 publishes per
turn this halves the cost of a delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from socketcluster.protocol.frames import DroppableFrame
from socketcluster.pubsub.traffic import Traffic
from socketcluster.sockets.flusher import Flusher, report_unwritable


class Run:
    """Consecutive publishes to one channel, and their frames.

    Attributes:
        size: bytes of all frames.
        droppable: whether the frames may be dropped for a subscriber that is too slow.
    """

    __slots__ = ("channel", "droppable", "frames", "payloads", "size")

    def __init__(self, channel: str, payload: bytes, frame: bytes) -> None:
        self.channel: str = channel
        self.payloads: list[bytes] = [payload]
        self.frames: list[bytes] = [frame]
        self.size: int = len(frame)
        self.droppable: bool = type(frame) is DroppableFrame

    def add(self, payload: bytes, frame: bytes) -> None:
        """Append a publish."""
        self.payloads.append(payload)
        self.frames.append(frame)
        self.size += len(frame)


class Subscriber(Protocol):
    """A subscribed socket, as the fan-out needs it."""

    def publish(self, run: Run, at_end_of_turn: bool) -> None:
        """Send a run: its frames, or new frames of its payloads where middleware has to run.

        At the end of the turn they may be written at once.
        """

    @property
    def failed(self) -> Callable[[Exception], None]:
        """Called with the exception that `publish` raised."""
        ...


class FanOut:
    """Collects one run at a time.

    Attributes:
        subscribers: the collected run's subscribers; None when there is no run.
        dropped: publishes that sockets have dropped because their clients read too slowly.
        traffic: counts deliveries and written frames; None counts nothing.
    """

    __slots__ = ("_flusher", "_run", "dropped", "subscribers", "traffic")

    def __init__(self) -> None:
        self.dropped: int = 0
        self.traffic: Traffic | None = None
        self.subscribers: dict[Subscriber, None] | None = None
        self._run: Run | None = None
        self._flusher = Flusher()

    def use(self, flusher: Flusher) -> None:
        """Deliver at the end of this flusher's loop turns; a collected run is dropped."""
        self._flusher = flusher
        self.subscribers = self._run = None

    def publish(
        self,
        channel: str,
        subscribers: dict[Subscriber, None],
        payload: bytes,
        make_frame: Callable[[str, bytes], bytes],
    ) -> None:
        """Add a publish to the run, or start a new run with it."""
        frame = make_frame(channel, payload)
        if self._run is not None and self.subscribers is subscribers:
            self._run.add(payload, frame)
            return
        self.deliver()
        self._flusher.add(self)  # Before any change: without a running loop this raises.
        self._run = Run(channel, payload, frame)
        self.subscribers = subscribers

    def deliver(self) -> None:
        """Deliver the run now."""
        self._deliver(False)

    def failed(self, error: Exception) -> None:
        """See `Flushable.failed`."""
        report_unwritable(error)

    def flush(self) -> tuple[()]:
        """Deliver the run at the end of the turn; `traffic` counts its frames."""
        self._deliver(True)
        return ()

    def _deliver(self, at_end_of_turn: bool) -> None:
        subscribers, run = self.subscribers, self._run
        if subscribers is None or run is None:
            return
        self.subscribers = self._run = None
        if self.traffic is not None:
            traffic, count = self.traffic, len(subscribers) * len(run.frames)
            traffic.deliveries += count
            if at_end_of_turn:
                traffic.messages += count
                traffic.size += len(subscribers) * run.size
        # A copy, because a subscriber whose buffer is full unsubscribes in this loop.
        for subscriber in list(subscribers):
            try:
                subscriber.publish(run, at_end_of_turn)
            except Exception as error:
                subscriber.failed(error)

    def count_written(self, frames: list[bytes]) -> None:
        """Count frames that a socket wrote outside the flusher."""
        if self.traffic is not None:
            self.traffic.wrote(len(frames))

    def count_later(self, run: Run) -> None:
        """Undo the counting of a run as written, for a socket that counts it when it is so."""
        if self.traffic is not None:
            self.traffic.messages -= len(run.frames)
            self.traffic.size -= run.size
