"""The servers that are compared, and how each is started and stopped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import engines
from bench.engines import Engine, RunningEngine
from bench.processes import accepts, family, free_port, started

HERE = Path(__file__).resolve().parent
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[min(1, len(_CORES) - 1)]
BROKER_VARIABLE = "SOCKETCLUSTER_BROKER"
"""Where servers look for the URL of the engine between them."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server: `command(port)` starts it in `folder`; scload speaks `dialect` with it.

    With an `engine` it is started twice, joined by that: publishers connect to one of the two,
    everybody else to the other.
    """

    key: str
    title: str
    command: Callable[[int], list[str]]
    folder: Path
    dialect: str = "json"
    arguments: tuple[str, ...] = ()
    """More arguments for scload."""
    engine: Engine | None = None
    announced: str = ""
    """What it prints once all of its processes accept connections."""


def _serve(function: str, *options: str) -> Callable[[int], list[str]]:
    target = f"app:{function}"
    serve = (sys.executable, "-m", "socketcluster", "serve", target, *options)
    return lambda port: [*serve, "--port", str(port)]


def _ours(key: str, title: str, function: str, dialect: str = "json", *arguments: str) -> Contender:
    return Contender(key, title, _serve(function), HERE / "servers", dialect, arguments)


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
WORKERS = replace(
    PICOWS,
    key="workers",
    title="with two workers",
    command=_serve("plain", "--workers", "2"),
    announced="with 2 workers",
)
ZEROMQ = replace(PICOWS, key="zeromq", title="this server, ZeroMQ", engine=engines.ZEROMQ)
REDIS = replace(PICOWS, key="redis", title="this server, Redis", engine=engines.REDIS)
NATS = replace(PICOWS, key="nats", title="this server, NATS", engine=engines.NATS)
SOCKETIO_REDIS = replace(
    SOCKETIO, key="socketio-redis", title="python-socketio, Redis", engine=engines.REDIS
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
        pids: all processes that serve, an engine's too.
        port: where clients connect.
        publisher_port: where publishers do.
        engine: what joins them.
    """

    pids: list[int]
    port: int
    publisher_port: int
    engine: RunningEngine | None


@contextlib.contextmanager
def running(contender: Contender) -> Iterator[Running]:
    """Start a server on its core, with what belongs to it; all is stopped at the end.

    Raises:
        StartError: something ended, or does not accept connections.
    """
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        engine = None
        if contender.engine is not None:
            engine = stack.enter_context(contender.engine.running(SERVER_CORE))
            environment[BROKER_VARIABLE] = engine.url
        ports = [free_port() for _ in range(2 if engine else 1)]
        servers = [stack.enter_context(_started(contender, p, environment)) for p in ports]
        pids = [pid for server in servers for pid in family(server)]
        if engine is not None:
            pids.append(engine.pid)
        yield Running(pids, ports[0], ports[-1], engine)


def _started(
    contender: Contender, port: int, environment: dict[str, str]
) -> contextlib.AbstractContextManager[int]:
    command = ["taskset", "-c", str(SERVER_CORE), *contender.command(port)]
    return started(
        contender.title,
        command,
        contender.folder,
        lambda said: contender.announced in said and accepts(port),
        environment,
    )
