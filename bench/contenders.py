"""The servers that are compared, and how each is started and stopped."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[min(1, len(_CORES) - 1)]
START_SECONDS, STOP_SECONDS = 20.0, 5.0


class StartError(Exception):
    """A server did not start; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: `command(port)` starts it in `folder`; scload speaks `dialect` with it."""

    key: str
    title: str
    command: Callable[[int], list[str]]
    folder: Path
    dialect: str = "json"
    arguments: tuple[str, ...] = ()
    """More arguments for scload."""


def _ours(key: str, title: str, function: str, dialect: str = "json", *arguments: str) -> Contender:
    def command(port: int) -> list[str]:
        target = f"app:{function}"
        return [sys.executable, "-m", "socketcluster", "serve", target, "--port", str(port)]

    return Contender(key, title, command, HERE / "servers", dialect, arguments)


PICOWS = _ours("picows", "this server", "plain")
ASGI = _ours("asgi", "this server, asgi engine", "asgi")
INBOUND = _ours("inbound", "with inbound middleware", "inbound_middleware")
OUTBOUND = _ours("outbound", "with outbound middleware", "outbound_middleware")
MIN_BIN = _ours("min-bin", "with min-bin", "min_bin", "min-bin")
DEFLATE = _ours("deflate", "with permessage-deflate", "deflate", "json", "--deflate")
NPM = Contender(
    "npm",
    "socketcluster-server 20",
    lambda port: ["node", "server.js", str(port)],
    HERE / "js",
)
SOCKETIO = Contender(
    "socketio",
    "python-socketio",
    lambda port: [
        *(sys.executable, "-m", "uvicorn", "socketio_app:app", "--port", str(port)),
        *("--log-level", "warning", "--no-access-log"),
    ],
    HERE / "servers",
    "socketio",
)
LIMIT = Contender(
    "limit",
    "bare C server",
    lambda port: [str(HERE / "build" / "limit"), str(port), "coalesce"],
    HERE,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections."""

    pid: int
    port: int


@contextlib.contextmanager
def running(contender: Contender) -> Iterator[Running]:
    """Start a server on its core; it is stopped at the end.

    Raises:
        StartError: it ended, or does not accept connections.
    """
    port = _free_port()
    command = ["taskset", "-c", str(SERVER_CORE), *contender.command(port)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=contender.folder, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            if not _accepts(process, port):
                said.seek(0)
                words = said.read().decode(errors="replace").strip()
                raise StartError(f"{contender.title} did not start: {words}")
            yield Running(process.pid, port)
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
