"""The exit limit: ends a process that should have ended, and logs what holds it.

A task that ignores its cancellation, a thread of an executor or a blocked event loop would hold the
process for ever: asyncio and the interpreter wait for all of them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

from socketcluster.runtime.ending import UNKNOWN, places_of, waiting_place

GRACE_SECONDS = 10.0
"""How long a process may take to end after its server has closed, for example for the threads of
`asyncio.to_thread`."""

LOG_SECONDS = 2.0
"""How long the warning may take: a handler of the log may be what hangs."""

STATUS = 1
"""The exit status of a process that was ended."""

_BELOW = ("asyncio.runners", "concurrent.futures.thread")
"""Modules whose frames end the part of a stack that does the work."""

logger: logging.Logger = logging.getLogger("socketcluster")


class ExitLimit:
    """Ends the process after some seconds, unless `cancel` is called before.

    Its thread exists from the first `begin` on. Signal handlers may call the methods.

    Attributes:
        loop: the event loop, whose tasks the warning names.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        # Signal handlers may put into a SimpleQueue.
        self._deadlines: SimpleQueue[float | None] = SimpleQueue()
        self._has_begun = False

    def begin(self, seconds: float) -> None:
        """End the process in so many seconds; a later call can only shorten them."""
        self._deadlines.put(time.monotonic() + seconds)
        if not self._has_begun:
            self._has_begun = True
            threading.Thread(target=self._watch, name="socketcluster-exit", daemon=True).start()

    def cancel(self) -> None:
        """Let the process live on."""
        if self._has_begun:
            self._deadlines.put(None)

    @contextmanager
    def after(self) -> Generator[None]:
        """Begin after the body, which is all that the process does; `cancel` ends the limit."""
        try:
            yield
        finally:
            self.begin(GRACE_SECONDS)

    def _watch(self) -> None:
        deadline = math.inf
        while True:
            try:
                left = max(0.0, deadline - time.monotonic())
                new = self._deadlines.get(timeout=min(left, threading.TIMEOUT_MAX))
            except Empty:
                self._end()
                return
            if new is None:
                return
            deadline = min(new, deadline)

    def _end(self) -> None:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(LOG_SECONDS, exit=True, file=sys.__stderr__)
        try:
            logger.warning("The process ends, although %s", self._describe())
        finally:
            os._exit(STATUS)

    def _describe(self) -> str:
        found = list(_busy_threads())
        if self.loop is not None:
            tasks = {t for t in asyncio.all_tasks(self.loop) if waiting_place(t) != UNKNOWN}
            if tasks:
                found.append(f"a task has not ended: {places_of(tasks)}")
        return "; ".join(found) or "something holds it"


def _busy_threads() -> Iterator[str]:
    """Yield which threads that the interpreter waits for run a function of the application."""
    frames = sys._current_frames()  # noqa: SLF001 - documented, and there is no other way.
    for thread in threading.enumerate():
        if not thread.daemon and thread.ident is not None:
            place = _place(frames.get(thread.ident))
            if place is not None:
                yield f"the thread {thread.name!r} runs {place}"


def _place(frame: FrameType | None) -> str | None:
    """Return the innermost function of the application that a thread runs; None without one."""
    package = __name__.partition(".")[0]
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name in _BELOW:
            return None
        if name.partition(".")[0] not in (package, "uvloop", *sys.stdlib_module_names):
            code = frame.f_code
            return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return None
