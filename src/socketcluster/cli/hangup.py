"""SIGHUP, which an operator sends to restart workers, and the system when a terminal is closed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress


class HangupSignal:
    """Context manager that calls `restart` at SIGHUP, or `stop` if the terminal was closed.

    A handler that the program has installed itself is kept.
    """

    def __init__(self, restart: Callable[[], None], stop: Callable[[], None]) -> None:
        self._restart = restart
        self._stop = stop
        self._had_terminal = has_terminal()
        self._installed = False

    def __enter__(self) -> None:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
            return
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._received)
        self._installed = True

    def __exit__(self, *_: object) -> None:
        if self._installed:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def _received(self) -> None:
        if self._had_terminal and not has_terminal():
            self._stop()
        else:
            self._restart()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return True
    return False
