"""Garbage collection pauses: while a message with very many lists is decoded and used.

Each new list counts toward the next collection, and a collection visits all lists, though none is
garbage. Lists nested 100 deep in 1 MiB take 13 times as long to decode as an ordinary message of
that size, and 5 times with the collector paused. If the pause ended with the decoding, a collection
would follow at once. After a second most values have been used and dropped.

After a pause the collector runs for at least as long as it paused, so that no peer can keep it off.
A pause changes only the threshold, so that an application can still disable the collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from time import monotonic

MANY_CONTAINERS = 10_000
PAUSE_SECONDS = 1.0
_PAUSED = 2_000_000_011
"""A threshold that is never reached, and that no application uses."""


class _Pause:
    """A pause of the collector, for as long as this object exists.

    It ends with its loop, too. A threshold that the application sets meanwhile stays.
    """

    __slots__ = ("_began", "_threshold")

    no_other_before = 0.0

    def __init__(self) -> None:
        self._began = monotonic()
        self._threshold = gc.get_threshold()[0]
        gc.set_threshold(_PAUSED)

    def __call__(self) -> None:
        """End the pause: the loop drops the last reference after this call."""

    def __del__(self) -> None:
        now = monotonic()
        _Pause.no_other_before = now + (now - self._began)
        if gc.get_threshold()[0] == _PAUSED:
            gc.set_threshold(self._threshold)


def pause_collector() -> object:
    """Pause the collector for a second; without an event loop, while the caller keeps the result.

    Do nothing if the collector is off, or paused a short time ago.
    """
    if not gc.isenabled() or gc.get_threshold()[0] in (0, _PAUSED):
        return None
    if monotonic() < _Pause.no_other_before:
        return None
    pause = _Pause()
    with contextlib.suppress(RuntimeError):  # There is no loop.
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, pause)
    return pause
