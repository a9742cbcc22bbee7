"""Where results go: lines on standard output, and a counter on a terminal's standard error."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.highlighter import JSONHighlighter
from rich.segment import ControlType
from rich.text import Text

from socketcluster.cli.exit_status import set_done, tell
from socketcluster.cli.lines import to_json

_STDOUT = 1
_ATOMIC = select.PIPE_BUF
_SHOWN_EVERY = 0.1


class Counter:
    """A line at the foot of the terminal that says how much was done so far.

    It is shown on standard error, and only if it is wanted and that is a terminal.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._shows = wanted and sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._visible = False
        self._timer: asyncio.TimerHandle | None = None
        self._what, self._unit = "", ""
        self._started = time.monotonic()
        self.count = 0

    @contextmanager
    def showing(self, what: str, unit: str) -> Iterator[None]:
        """Show it while something goes on: "{what}: 3 {unit}, 1.5/s"."""
        self._what, self._unit, self._started = what, unit, time.monotonic()
        self._show()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.hide()

    def hide(self) -> None:
        """Make place for a line; it comes back by itself."""
        if self._visible:
            self._visible = False
            self._console.control(
                Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
            )

    def tell(self, message: str) -> None:
        """Say something on standard error, in a line of its own."""
        self.hide()
        tell(message)

    def _show(self) -> None:
        if not self._shows:
            return
        loop = asyncio.get_running_loop()
        rate = self.count / max(time.monotonic() - self._started, 0.001)
        text = Text.assemble(
            (self._what, "bold"), f": {self.count} {self._unit}, ", (f"{rate:.1f}/s", "cyan")
        )
        text.truncate(self._console.width - 1, overflow="ellipsis")
        self.hide()
        self._console.print(text, end="")
        self._visible = True
        self._timer = loop.call_later(_SHOWN_EVERY, self._show)


class Output:
    """Standard output, written line by line without holding up the event loop.

    On a terminal the JSON is colored.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._console = Console() if sys.stdout.isatty() else None
        self._highlight = JSONHighlighter()

    async def line(self, value: Any) -> None:
        """Write a value as a line of JSON, and wait until it is taken.

        Raises:
            BrokenPipeError: nobody reads any more.
            InvalidArgumentsError: it has no JSON form.
        """
        await self.text(to_json(value))

    async def text(self, text: str) -> None:
        """Write a line of text. Raises as `line`."""
        if self._console is not None:
            with self._console.capture() as captured:
                self._console.print(self._highlight(Text(text)), soft_wrap=True)
            text = captured.get().rstrip("\n")
        self._counter.hide()
        data = memoryview(f"{text}\n".encode())
        while data:
            # A pipe that is ready takes this much without blocking.
            await _writable()
            data = data[os.write(_STDOUT, data[:_ATOMIC]) :]

    async def gone(self) -> None:
        """Wait until nobody reads any more, and raise BrokenPipeError then."""
        gone = asyncio.get_running_loop().create_future()
        if not stat.S_ISFIFO(os.fstat(_STDOUT).st_mode):
            await gone
        loop = asyncio.get_running_loop()
        # Nothing can be read from it: it becomes "readable" when the other end is closed.
        loop.add_reader(_STDOUT, set_done, gone)
        try:
            await gone
        finally:
            loop.remove_reader(_STDOUT)
        raise BrokenPipeError


async def _writable() -> None:
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    if poll.poll(0):
        return
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(_STDOUT, set_done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(_STDOUT)
