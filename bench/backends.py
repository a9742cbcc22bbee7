"""The backends that connect server processes (ZeroMQ, Redis, NATS), and how each is started."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import accepts, free_port, run_process

_PROXY = """
import signal, sys
from socketcluster.brokers.zeromq_proxy import Proxy
proxy = Proxy(sys.argv[1])
proxy.start()
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
proxy.stop()
"""


@dataclass(frozen=True, slots=True)
class RunningBackend:
    """A backend that accepts connections: its process id, and the URL for servers."""

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend: `command(folder, port)` starts it, and servers connect to `url(folder, port)`."""

    title: str
    command: Callable[[str, int], list[str]]
    url: Callable[[str, int], str]
    announced: str | None = None
    """The text that it prints when it is ready; None if it is ready once it accepts connections."""

    @contextlib.contextmanager
    def running(self, core: int) -> Iterator[RunningBackend]:
        """Start the backend on a core, and stop it at the end.

        Raises:
            StartError: the process ended, or is not ready in time.
        """
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            announced = self.announced

            def is_ready(output: str) -> bool:
                return accepts(port) if announced is None else announced in output

            command = ["taskset", "-c", str(core), *self.command(folder, port)]
            with run_process(self.title, command, Path(folder), is_ready) as pid:
                yield RunningBackend(pid, self.url(folder, port))


ZEROMQ = Backend(
    "the ZeroMQ proxy",
    lambda folder, port: [sys.executable, "-c", _PROXY, f"{folder}/broker"],
    lambda folder, port: f"ipc://{folder}/broker",
    "ready",
)
REDIS = Backend(
    "redis-server",
    lambda folder, port: [
        *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
        *("--save", "", "--dir", folder),
    ],
    lambda folder, port: f"redis://127.0.0.1:{port}",
)
NATS = Backend(
    "nats-server",
    lambda folder, port: [
        *("nats-server", "-a", "127.0.0.1", "-p", str(port)),
        *("-js", "--store_dir", folder),
    ],
    lambda folder, port: f"nats://127.0.0.1:{port}",
)
