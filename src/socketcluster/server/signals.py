"""SIGINT and SIGTERM: the first one stops gracefully, a second one ends the process."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Calls `stop` at SIGINT and SIGTERM, as long as it is entered; a context manager.

    A second signal ends the process at once, with status 1, unless `forgiving`. Only the main
    thread of the main interpreter can handle signals; elsewhere it does nothing. A handler that the
    program has installed itself stays, and is called alone. At the end what was there before is
    back. Several at the same time are all called.
    """

    _entered: ClassVar[list[StopSignals]] = []
    _replaced: ClassVar[dict[signal.Signals, tuple[Any, Any]]] = {}
    _loop: ClassVar[asyncio.AbstractEventLoop | None] = None

    def __init__(self, stop: Callable[[], None], *, forgiving: bool = False) -> None:
        self._stop = stop
        self._forgiving = forgiving
        self._stopping = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                # Of a loop that was given up nothing is left.
                self._entered.clear()
                self._replaced.clear()
            if not self._entered:
                self._install(loop)
            self._entered.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self in self._entered:
            self._entered.remove(self)
            if not self._entered:
                self._restore()

    @classmethod
    def _install(cls, loop: asyncio.AbstractEventLoop) -> None:
        StopSignals._loop = loop
        for number in NUMBERS:
            before = signal.getsignal(number)
            if not _is_nobodys(before):
                continue
            try:
                loop.add_signal_handler(number, cls._received)
            except (ValueError, RuntimeError, NotImplementedError):
                continue  # Another interpreter, or a loop that knows no signals.
            cls._replaced[number] = (before, signal.getsignal(number))

    @classmethod
    def _restore(cls) -> None:
        assert cls._loop is not None
        for number, (before, ours) in cls._replaced.items():
            now = signal.getsignal(number)
            cls._loop.remove_signal_handler(number)
            signal.signal(number, before if now is ours else now)
        cls._replaced.clear()
        StopSignals._loop = None

    @classmethod
    def _received(cls) -> None:
        for entered in list(cls._entered):
            entered._signalled()

    def _signalled(self) -> None:
        if self._stopping and not self._forgiving:
            os._exit(1)
        self._stopping = True
        self._stop()


def _is_nobodys(handler: Any) -> bool:
    """Whether a handler is the system's, Python's, or that of `asyncio.run`, which cancels."""
    if isinstance(handler, functools.partial):
        return getattr(handler.func, "__module__", None) == "asyncio.runners"
    return handler in (signal.SIG_DFL, signal.default_int_handler)
