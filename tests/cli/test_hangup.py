"""SIGHUP: to one process, from an operator and from a terminal that is closed."""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from cli.serving import Serve


async def test_one_process_goes_on(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0")
    await served.port()
    served.process.send_signal(signal.SIGHUP)
    line = await served.line("SIGHUP")
    assert "Z WARNING socketcluster: SIGHUP restarts the workers of 'serve --wor" in line
    served.process.terminate()
    assert await served.wait() == 0


async def test_a_handler_of_the_target_is_kept(serve: Serve, tmp_path: Path) -> None:
    with (tmp_path / "mine.py").open("a") as file:
        file.write("import signal\nsignal.signal(signal.SIGHUP, lambda *_: print('mine'))\n")
    served = await serve("mine:server", "--port", "0")
    await served.port()
    served.process.send_signal(signal.SIGHUP)
    assert await served.line("mine") == "mine\n"


async def test_reload_goes_on(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0", "--reload")
    await served.port()
    served.process.send_signal(signal.SIGHUP)
    await served.line("SIGHUP restarts the workers of 'serve --workers N'")
    served.process.send_signal(signal.SIGINT)
    assert await served.wait() == 0


@pytest.mark.parametrize("workers", [[], ["--workers", "2"], ["--reload"]])
async def test_a_closed_terminal_ends_it(workers: list[str], serve: Serve) -> None:
    master, slave = pty.openpty()
    in_terminal = (
        "import fcntl, os, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    served = await serve(
        "mine:server",
        "--port",
        "0",
        *workers,
        command=[sys.executable, "-c", in_terminal],
        stdin=slave,
        start_new_session=True,
    )
    os.close(slave)
    await served.port()
    os.close(master)
    assert await served.wait() == 0
    assert "Stopping" in served.output
