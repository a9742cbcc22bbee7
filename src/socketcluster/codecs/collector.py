"""The garbage collector rests while a message with very many lists is decoded and used.

Each list made counts as a reason to collect, and to collect is to look at every one of them,
though none is garbage: lists nested 100 deep in 1 MiB take 13 times as long as an ordinary message
of that size, and 5 times without the collector. It would run as soon as it may again, for what it
has counted; after a second the value has mostly been used and dropped, and counts no more.

After a rest it runs for at least as long as it rested: no peer can keep it off for good. It rests
by its threshold, so that an application which turns it off meanwhile finds it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from time import monotonic

MANY_CONTAINERS = 10_000
REST_SECONDS = 1.0
_RESTING = 2_000_000_011
"""A threshold that is never reached, and that no application sets."""


class _Rest:
    """While it exists the collector does not run of itself; it ends with a loop that is closed,
    too. A threshold that was set meanwhile is left as it is."""

    __slots__ = ("_began", "_threshold")

    no_other_before = 0.0

    def __init__(self) -> None:
        self._began = monotonic()
        self._threshold = gc.get_threshold()[0]
        gc.set_threshold(_RESTING)

    def __call__(self) -> None:
        """It is over, for nothing refers to it any more."""

    def __del__(self) -> None:
        now = monotonic()
        _Rest.no_other_before = now + (now - self._began)
        if gc.get_threshold()[0] == _RESTING:
            gc.set_threshold(self._threshold)


def rest_collector() -> object:
    """Let the collector rest for a second, or without an event loop as long as the caller keeps
    what this returns. It does nothing where the collector is off anyway, or has rested lately."""
    if not gc.isenabled() or gc.get_threshold()[0] in (0, _RESTING):
        return None
    if monotonic() < _Rest.no_other_before:
        return None
    rest = _Rest()
    with contextlib.suppress(RuntimeError):  # There is no loop.
        asyncio.get_running_loop().call_later(REST_SECONDS, rest)
    return rest
