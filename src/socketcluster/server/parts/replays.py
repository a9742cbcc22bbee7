"""Replays: the frames of stored publishes, made once for all clients that come back at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from socketcluster.brokers.storing import StoredMessage
from socketcluster.protocol.payloads import NumberedPayload
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.fanout import Run

KEPT_SECONDS = 5.0
"""How long frames stay after the first one was made. Clients that lost a server come back in
seconds; to frame their publishes for each of them would take most of the time of a recovery."""


class Replays:
    """Makes runs of stored publishes.

    Args:
        wire: frames them.
        limit: bytes of the frames that are kept.
    """

    __slots__ = ("_frames", "_limit", "_size", "_timer", "_wire")

    def __init__(self, wire: Wire, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._frames: dict[tuple[object, str, str, int], tuple[NumberedPayload, bytes]] = {}
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def run_of(self, channel: str, epoch: str, messages: Sequence[StoredMessage]) -> Run | None:
        """Return readable messages of an epoch as one run; None without any."""
        run: Run | None = None
        for message in messages:
            key = (self._wire.codec, channel, epoch, message.offset)
            found = self._frames.get(key)
            payload, frame = self._frame(key, message) if found is None else found
            if run is None:
                run = Run(channel, payload, frame)
            else:
                run.add(payload, frame)
        return run

    def _frame(
        self, key: tuple[object, str, str, int], message: StoredMessage
    ) -> tuple[NumberedPayload, bytes]:
        payload = NumberedPayload(message.payload)
        payload.offset = message.offset
        made = payload, self._wire.payloads.numbered_frame(key[1], payload)
        self._size += len(made[1])
        if self._size > self._limit:
            self.clear()
            self._size = len(made[1])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self.clear)
        self._frames[key] = made
        return made

    def clear(self) -> None:
        """Drop all frames."""
        self._frames.clear()
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
