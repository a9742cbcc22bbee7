"""Results: lines on standard output, and a progress counter on a terminal's standard error."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.control import Control
from rich.highlighter import JSONHighlighter
from rich.segment import ControlType
from rich.text import Text

from socketcluster.cli.lines import to_json
from socketcluster.cli.reporting import report
from socketcluster.cli.waiting import wait_readable, wait_writable

_STDOUT = 1
_COUNTER_SECONDS = 0.1


class Counter:
    """A progress line at the foot of the terminal: how many messages, and how many per second.

    It is shown on standard error, if it is enabled and standard error is a terminal.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._enabled = enabled and sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._visible = False
        self._timer: asyncio.TimerHandle | None = None
        self._label, self._unit = "", ""
        self._started = time.monotonic()
        self.count = 0

    @contextmanager
    def showing(self, label: str, unit: str) -> Generator[None, None, None]:
        """Show the counter inside a `with` block, as "{label}: 3 {unit}, 1.5/s"."""
        self._label, self._unit, self._started = label, unit, time.monotonic()
        self._show()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.hide()

    def hide(self) -> None:
        """Clear the counter's line, so that another can be printed; the next update shows it."""
        if self._visible:
            self._visible = False
            self._console.control(
                Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
            )

    def report(self, message: str) -> None:
        """Print a message on standard error, in a line of its own."""
        self.hide()
        report(message)

    def _show(self) -> None:
        if not self._enabled:
            return
        loop = asyncio.get_running_loop()
        rate = self.count / max(time.monotonic() - self._started, 0.001)
        text = Text.assemble(
            (self._label, "bold"), f": {self.count} {self._unit}, ", (f"{rate:.1f}/s", "cyan")
        )
        text.truncate(self._console.width - 1, overflow="ellipsis")
        self.hide()
        self._console.print(text, end="")
        self._visible = True
        self._timer = loop.call_later(_COUNTER_SECONDS, self._show)


class Output:
    """Standard output, written line by line without blocking the event loop.

    JSON is colored on a terminal.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._console = Console() if sys.stdout.isatty() else None
        self._highlight = JSONHighlighter()

    async def write_json(self, value: Any) -> None:
        """Write a value as a line of JSON, and wait until the system has accepted it.

        Raises:
            BrokenPipeError: the reader has closed its end.
            InvalidArgumentsError: the value has no JSON form.
        """
        await self.write_text(to_json(value))

    async def write_text(self, text: str) -> None:
        """Write a line of text. Raises as `write_json`."""
        if self._console is not None:
            with self._console.capture() as captured:
                self._console.print(self._highlight(Text(text)), soft_wrap=True)
            text = captured.get().rstrip("\n")
        self._counter.hide()
        data = memoryview(f"{text}\n".encode())
        while data:
            if not _is_writable():
                await wait_writable(_STDOUT)
            # A pipe that is ready accepts PIPE_BUF bytes without blocking.
            data = data[os.write(_STDOUT, data[: select.PIPE_BUF]) :]

    async def wait_for_broken_pipe(self) -> NoReturn:
        """Wait until the reader of standard output closes its end, then raise BrokenPipeError."""
        if not stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
            await asyncio.get_running_loop().create_future()
        # Nothing can be read from it: it becomes "readable" when the other end is closed.
        await wait_readable(_STDOUT)
        raise BrokenPipeError


def _is_writable() -> bool:
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    return bool(poll.poll(0))
