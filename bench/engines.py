"""The engines between server processes, and how each is started."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import accepts, free_port, started

_PROXY = """
import signal, sys
from socketcluster.brokers.zeromq import Proxy
proxy = Proxy(sys.argv[1])
proxy.start()
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
proxy.stop()
"""


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine that servers can use."""

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Engine:
    """`command(folder, port)` starts it; servers reach it at `url(folder, port)`."""

    title: str
    command: Callable[[str, int], list[str]]
    url: Callable[[str, int], str]
    announced: str | None = None
    """What it prints when it is ready; None if it is once it accepts connections."""

    @contextlib.contextmanager
    def running(self, core: int) -> Iterator[RunningEngine]:
        """Start it on a core; it is stopped at the end.

        Raises:
            StartError: it ended, or cannot be used.
        """
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            announced = self.announced

            def ready(said: str) -> bool:
                return accepts(port) if announced is None else announced in said

            command = ["taskset", "-c", str(core), *self.command(folder, port)]
            with started(self.title, command, Path(folder), ready) as pid:
                yield RunningEngine(pid, self.url(folder, port))


ZEROMQ = Engine(
    "the ZeroMQ proxy",
    lambda folder, port: [sys.executable, "-c", _PROXY, f"{folder}/broker"],
    lambda folder, port: f"ipc://{folder}/broker",
    "ready",
)
REDIS = Engine(
    "redis-server",
    lambda folder, port: [
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
        *("--save", "", "--dir", folder),
    ],
    lambda folder, port: f"redis://127.0.0.1:{port}",
)
NATS = Engine(
    "nats-server",
    lambda folder, port: ["nats-server", "-a", "127.0.0.1", "-p", str(port)],
    lambda folder, port: f"nats://127.0.0.1:{port}",
)
