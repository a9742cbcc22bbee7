"""Processes that run during a measurement."""

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
    """A process did not start. The message has its output."""


@contextlib.contextmanager
def run_process(
    title: str,
    command: Sequence[str],
    folder: Path,
    is_ready: Callable[[str], bool],
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Start a process, yield its id once `is_ready(output)` is true, and stop it at the end.

    Raises:
        StartError: the process cannot be started, ended, or is not ready in time.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "output")
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise StartError(f"{title} did not start: {error}") from error
        try:
            deadline = time.monotonic() + START_SECONDS
            while not is_ready(log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > deadline:
                    text = log.read_text(errors="replace").strip()
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


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in process_tree(int(child)))]


def free_port() -> int:
    """Return a free port outside the range from which the system takes the ports of clients."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(LOWEST_PORT, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Return whether a process accepts connections on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
