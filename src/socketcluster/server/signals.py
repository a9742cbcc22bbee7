"""SIGINT and SIGTERM: the first one stops gracefully, a second one ends the process."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context manager that calls `stop` at SIGINT and SIGTERM.

    `received` is called at once, even while the event loop is blocked. A second signal ends the
    process at once, with status 1, unless `forgiving`. Only the main thread of the main interpreter
    can handle signals; elsewhere this does nothing. A handler that the program has installed itself
    is kept, and only that one is called. Leaving the last context restores the former handlers.
    Several contexts at the same time are all called.
    """

    _entered: ClassVar[list[StopSignals]] = []
    _replaced: ClassVar[dict[signal.Signals, tuple[Any, Any]]] = {}
    _loop: ClassVar[asyncio.AbstractEventLoop | None] = None

    def __init__(
        self,
        stop: Callable[[], None],
        *,
        forgiving: bool = False,
        received: Callable[[], None] | None = None,
    ) -> None:
        self._stop = stop
        self._forgiving = forgiving
        self._on_received = received
        self._has_received = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                # Contexts of an abandoned loop were never left.
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
            former = signal.getsignal(number)
            if not _is_default(former):
                continue
            try:
                loop.add_signal_handler(number, cls._received)
            except (ValueError, RuntimeError, NotImplementedError):
                continue  # Another interpreter, or a loop without signal handlers.
            signal.signal(number, functools.partial(_receive, signal.getsignal(number)))
            signal.siginterrupt(number, False)
            cls._replaced[number] = (former, signal.getsignal(number))

    @classmethod
    def _restore(cls) -> None:
        assert cls._loop is not None
        for number, (former, ours) in cls._replaced.items():
            current = signal.getsignal(number)
            cls._loop.remove_signal_handler(number)
            signal.signal(number, former if current is ours else current)
        cls._replaced.clear()
        StopSignals._loop = None

    @classmethod
    def _received(cls) -> None:
        for entered in list(cls._entered):
            entered.handle_signal()

    def handle_signal(self) -> None:
        """Call `stop`; the event loop does this in its turn."""
        self._stop()

    @classmethod
    def receive_all(cls) -> None:
        """Take a signal for all contexts; the signal handler does this at once."""
        for entered in list(cls._entered):
            entered.receive()

    def receive(self) -> None:
        """Call `received`, or end the process at the second signal."""
        if self._has_received and not self._forgiving:
            os._exit(1)
        self._has_received = True
        if self._on_received is not None:
            self._on_received()


def _receive(loop_handler: Any, number: int, frame: FrameType | None) -> None:
    """Handle a signal: the loop may be blocked, and its callback comes later."""
    StopSignals.receive_all()
    if callable(loop_handler):
        loop_handler(number, frame)


def _is_default(handler: Any) -> bool:
    """Whether a handler is the system's, Python's, or the cancelling one of `asyncio.run`."""
    if isinstance(handler, functools.partial):
        return getattr(handler.func, "__module__", None) == "asyncio.runners"
    return handler in (signal.SIG_DFL, signal.default_int_handler)
