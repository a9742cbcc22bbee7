"""The clock of `$positions`: once a second, sockets that asked receive positions of channels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

SECONDS = 1.0
"""From the end of one round to the start of the next."""

TOLD_PER_TURN = 100
"""How many sockets to tell before other callbacks of the loop run."""


class Asker(Protocol):
    """The subscriptions of one socket that asked for positions of some of its channels."""

    def tell_changed(self) -> None:
        """Send the positions that changed since they were last sent."""

    def tell(self, channel: str) -> None:
        """Send the position of one channel."""


class PositionsClock:
    """Tells the sockets of one server. Its timer runs while a socket asks."""

    __slots__ = ("_by_channel", "_channels_of", "_timer")

    def __init__(self) -> None:
        self._by_channel: dict[str, dict[Asker, None]] = {}
        self._channels_of: dict[Asker, int] = {}
        self._timer: asyncio.Handle | None = None

    @property
    def count(self) -> int:
        """How many sockets it tells."""
        return len(self._channels_of)

    def add(self, channel: str, asker: Asker) -> None:
        """Tell a socket about one more channel."""
        askers = self._by_channel.setdefault(channel, {})
        if asker not in askers:
            askers[asker] = None
            self._channels_of[asker] = self._channels_of.get(asker, 0) + 1
        if self._timer is None:
            self._wait()

    def discard(self, channel: str, asker: Asker) -> None:
        """Tell a socket about a channel no more."""
        askers = self._by_channel.get(channel)
        if askers is None or asker not in askers:
            return
        del askers[asker]
        if not askers:
            del self._by_channel[channel]
        self._channels_of[asker] -= 1
        if not self._channels_of[asker]:
            del self._channels_of[asker]
        if not self._channels_of and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def epoch_changed(self, channel: str) -> None:
        """Tell at once about a channel that has another epoch, before any newer publish of it."""
        for asker in list(self._by_channel.get(channel, ())):
            asker.tell(channel)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._begin)

    def _begin(self) -> None:
        self._go_on(iter(list(self._channels_of)))

    def _go_on(self, askers: Iterator[Asker]) -> None:
        count = 0
        for asker in islice(askers, TOLD_PER_TURN):
            count += 1
            if asker in self._channels_of:
                asker.tell_changed()
        if not self._channels_of:
            return
        if count == TOLD_PER_TURN:
            self._timer = asyncio.get_running_loop().call_soon(self._go_on, askers)
        else:
            self._wait()
