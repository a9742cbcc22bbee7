"""Processes that are started for a measurement, and stopped at its end."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS, STOP_SECONDS = 20.0, 5.0
LOWEST_PORT = 10_000


class StartError(Exception):
    """A server did not start; the message has what it said."""


@contextlib.contextmanager
def started(
    title: str,
    command: Sequence[str],
    folder: Path,
    ready: Callable[[str], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """The id of a process, once `ready` of what it has said is true.

    Raises:
        StartError: it cannot be started, ended, or is not ready in time.
    """
    with tempfile.TemporaryDirectory() as home:
        words = Path(home, "said")
        with words.open("wb") as said:
            try:
                process = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise StartError(f"{title} did not start: {error}") from error
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready(words.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > deadline:
                    text = words.read_text(errors="replace").strip()
                    raise StartError(f"{title} did not start: {text}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def family(pid: int) -> list[int]:
    """A process and those that it started, and they."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def free_port() -> int:
    """A port that nobody uses at the moment, and that the system gives to no client."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(LOWEST_PORT, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
