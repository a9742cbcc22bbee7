"""The servers that are compared (contenders), and how each is started and stopped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import backends
from bench.backends import Backend, RunningBackend
from bench.processes import accepts, free_port, process_tree, run_process

HERE = Path(__file__).resolve().parent
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[min(1, len(_CORES) - 1)]
BROKER_VARIABLE = "SOCKETCLUSTER_BROKER"
"""The environment variable with the URL of the backend."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: `command(port)` starts it in `folder`, and scload uses `dialect` with it.

    With a `backend` two servers are started, connected by it: publishers connect to one of them,
    all other clients to the other.
    """

    key: str
    title: str
    command: Callable[[int], list[str]]
    folder: Path
    dialect: str = "json"
    arguments: tuple[str, ...] = ()
    """Further arguments for scload."""
    backend: Backend | None = None
    announced: str = ""
    """The text that it prints once all of its processes accept connections."""


def _serve(function: str, *options: str) -> Callable[[int], list[str]]:
    target = f"app:{function}"
    serve = (sys.executable, "-m", "socketcluster", "serve", target, *options)
    return lambda port: [*serve, "--port", str(port)]


def _ours(key: str, title: str, function: str, dialect: str = "json", *arguments: str) -> Contender:
    return Contender(key, title, _serve(function), HERE / "servers", dialect, arguments)


PICOWS = _ours("picows", "this server", "plain")
HANDLER = _ours("handler", "plain handler", "handlers")
TYPED = _ours("typed", "typed handler", "handlers", "json-add")
ASYNC = _ours("async", "async handler", "async_handlers")
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
WORKERS = replace(
    PICOWS,
    key="workers",
    title="with two workers",
    command=_serve("plain", "--workers", "2"),
    announced="with 2 workers",
)
ZEROMQ = replace(PICOWS, key="zeromq", title="this server, ZeroMQ", backend=backends.ZEROMQ)
REDIS = replace(PICOWS, key="redis", title="this server, Redis", backend=backends.REDIS)
NATS = replace(PICOWS, key="nats", title="this server, NATS", backend=backends.NATS)
SOCKETIO_REDIS = replace(
    SOCKETIO, key="socketio-redis", title="python-socketio, Redis", backend=backends.REDIS
)
LIMIT = Contender(
    "limit",
    "bare C server",
    lambda port: [str(HERE / "build" / "limit"), str(port), "coalesce"],
    HERE,
)


@dataclass(frozen=True, slots=True)
class Running:
    """Servers that accept connections.

    Attributes:
        pids: all processes of the servers and their backend.
        port: the port for clients.
        publisher_port: the port for publishers.
        backend: the backend that connects the servers, if any.
    """

    pids: list[int]
    port: int
    publisher_port: int
    backend: RunningBackend | None


@contextlib.contextmanager
def running(contender: Contender) -> Iterator[Running]:
    """Start a server on its core, with its backend, and stop both at the end.

    Raises:
        StartError: a process ended, or does not accept connections in time.
    """
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        backend = None
        if contender.backend is not None:
            backend = stack.enter_context(contender.backend.running(SERVER_CORE))
            environment[BROKER_VARIABLE] = backend.url
        ports = [free_port() for _ in range(2 if backend else 1)]
        servers = [stack.enter_context(_start(contender, p, environment)) for p in ports]
        pids = [pid for server in servers for pid in process_tree(server)]
        if backend is not None:
            pids.append(backend.pid)
        yield Running(pids, ports[0], ports[-1], backend)


def _start(
    contender: Contender, port: int, environment: dict[str, str]
) -> contextlib.AbstractContextManager[int]:
    command = ["taskset", "-c", str(SERVER_CORE), *contender.command(port)]
    return run_process(
        contender.title,
        command,
        contender.folder,
        lambda output: contender.announced in output and accepts(port),
        environment,
    )
