"""The garbage collector rests while a message with very many lists is decoded and used.

Each list made counts as a reason to collect, and to collect is to look at every one of them,
though none is garbage: lists nested 100 deep in 1 MiB take 13 times as long as an ordinary message
of that size, and 5 times without the collector. It would run as soon as it may again, for what it
has counted; after a second the value has mostly been used and dropped, and counts no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc

MANY_CONTAINERS = 10_000
REST_SECONDS = 1.0


class _Rest:
    """While it exists the collector does not run of itself; it ends with a loop that is closed,
    too."""

    __slots__ = ()

    def __init__(self) -> None:
        gc.disable()

    def __call__(self) -> None:
        """It is over, for nothing refers to it any more."""

    def __del__(self) -> None:
        gc.enable()


def rest_collector() -> object:
    """Let the collector rest for a second, or without an event loop as long as the caller keeps
    what this returns. It does nothing where the collector is off anyway."""
    if not gc.isenabled():
        return None
    rest = _Rest()
    with contextlib.suppress(RuntimeError):  # There is no loop.
        asyncio.get_running_loop().call_later(REST_SECONDS, rest)
    return rest
