"""Real backends for tests: started on free ports, killed, stopped, restarted, and cut off."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from support import require

START_SECONDS = 20.0

PROXY = """
import signal, sys
from socketcluster.brokers.zeromq_proxy import Proxy
proxy = Proxy(sys.argv[1], *map(int, sys.argv[2:]))
proxy.start()
signal.sigwait([signal.SIGTERM, signal.SIGINT])
proxy.stop()
"""


def free_ports(count: int) -> list[int]:
    """Return unused ports, below the range that the system gives to clients."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            port = random.randrange(20_000, first)
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


class Node:
    """One server process of a backend."""

    def __init__(self, command: Sequence[str], port: int, folder: Path) -> None:
        self.port = port
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            assert self._process.poll() is None, f"{self._command[0]} ended"
            assert time.monotonic() < deadline, f"{self._command[0]} does not listen"
            time.sleep(0.01)

    def _accepts(self) -> bool:
        if self.port == 0:
            return (self._folder / "broker.sock").exists()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process (`kill -9`), and wait for its end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        (self._folder / "broker.sock").unlink(missing_ok=True)


class BackendServers:
    """The running servers of one backend, and the URL of all of them."""

    def __init__(self, url: str, nodes: Sequence[Node], folder: Path) -> None:
        self.url = url
        self.nodes = nodes
        self.folder = folder

    def start(self) -> None:
        """Start every server."""
        for node in self.nodes:
            node.start()

    def kill(self) -> None:
        """Kill every server."""
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """`SIGSTOP` to every server."""
        for node in self.nodes:
            node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """`SIGCONT` to every server."""
        for node in self.nodes:
            node.signal(signal.SIGCONT)


@contextmanager
def running_backend(kind: str, options: Sequence[str] = ()) -> Iterator[BackendServers]:
    """Run a backend: zeromq, redis, redis-sentinel, redis-cluster, nats or nats-cluster."""
    folder = Path(tempfile.mkdtemp(prefix="sc-"))
    servers = _MAKERS[kind](folder, options)
    try:
        servers.start()
        if kind == "redis-cluster":
            _form_cluster(servers)
        if kind == "nats-cluster" and "-js" in options:
            asyncio.run(_form_jetstream(servers))
        yield servers
    finally:
        for node in servers.nodes:
            if node._process is not None:
                node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _zeromq(folder: Path, options: Sequence[str]) -> BackendServers:
    path = folder / "broker"
    node = Node([sys.executable, "-c", PROXY, str(path), *options], 0, folder)
    return BackendServers(f"ipc://{path}", [node], folder)


def _redis_node(folder: Path, port: int, options: Sequence[str]) -> Node:
    require(shutil.which("redis-server") is not None, "redis-server")
    home = folder / str(port)
    home.mkdir()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    options = [str(port) if option == "PORT" else option for option in options]
    return Node([*command, "--dir", str(home), *options], port, home)


def _redis(folder: Path, options: Sequence[str]) -> BackendServers:
    (port,) = free_ports(1)
    return BackendServers(f"redis://127.0.0.1:{port}", [_redis_node(folder, port, options)], folder)


def _redis_sentinel(folder: Path, options: Sequence[str]) -> BackendServers:
    master, replica, sentinel = free_ports(3)
    nodes = [
        _redis_node(folder, master, options),
        _redis_node(folder, replica, ["--replicaof", "127.0.0.1", str(master), *options]),
    ]
    home = folder / "sentinel"
    home.mkdir()
    (home / "sentinel.conf").write_text(
        f"port {sentinel}\nbind 127.0.0.1\n"
        f"sentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 2000\n"
    )
    command = ["redis-server", str(home / "sentinel.conf"), "--sentinel"]
    nodes.append(Node(command, sentinel, home))
    return BackendServers(f"redis+sentinel://127.0.0.1:{sentinel}/main", nodes, folder)


def _redis_cluster(folder: Path, options: Sequence[str]) -> BackendServers:
    ports = free_ports(6)
    nodes = [
        _redis_node(
            folder,
            port,
            [
                *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"),
                *options,
            ],
        )
        for port, bus in zip(ports[:3], ports[3:], strict=True)
    ]
    for node, bus in zip(nodes, ports[3:], strict=True):
        node.bus = bus  # type: ignore[attr-defined]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports[:3])
    return BackendServers(f"redis+cluster://{hosts}", nodes, folder)


def _form_cluster(servers: BackendServers) -> None:
    first, second, third = servers.nodes
    slots = ((0, 5460), (5461, 10922), (10923, 16383))
    for node, (start, end) in zip(servers.nodes, slots, strict=True):
        redis_cli(node.port, "CLUSTER", "ADDSLOTSRANGE", str(start), str(end))
    for index, node in enumerate(servers.nodes, 1):
        redis_cli(node.port, "CLUSTER", "SET-CONFIG-EPOCH", str(index))
    for node in (second, third):
        bus = node.bus  # type: ignore[attr-defined]
        redis_cli(first.port, "CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
    deadline = time.monotonic() + START_SECONDS
    for node in servers.nodes:
        while True:
            info = redis_cli(node.port, "CLUSTER", "INFO")
            if "cluster_state:ok" in info and "cluster_slots_ok:16384" in info:
                break
            assert time.monotonic() < deadline, info
            time.sleep(0.05)


async def _form_jetstream(servers: BackendServers) -> None:
    """Wait until the cluster can make a stream on all servers."""
    client = Client()
    await client.connect(servers.url.split(","))
    jetstream = client.jetstream(timeout=1)
    deadline = time.monotonic() + 3 * START_SECONDS
    while True:
        try:
            await jetstream.add_stream(name="formed", subjects=["formed"], num_replicas=3)
            break
        except nats.errors.Error:
            assert time.monotonic() < deadline, "JetStream has no leader"
            await asyncio.sleep(0.1)
    await jetstream.delete_stream("formed")
    await client.close()


def redis_cli(port: int, *command: str) -> str:
    """Return the output of `redis-cli`."""
    return subprocess.run(
        ["redis-cli", "-p", str(port), *command], check=True, capture_output=True, text=True
    ).stdout


def _nats(folder: Path, options: Sequence[str]) -> BackendServers:
    require(shutil.which("nats-server") is not None, "nats-server")
    (port,) = free_ports(1)
    command = ["nats-server", "-a", "127.0.0.1", "-p", str(port)]
    command += ["-sd", "jetstream", *options]
    return BackendServers(f"nats://127.0.0.1:{port}", [Node(command, port, folder)], folder)


def _nats_cluster(folder: Path, options: Sequence[str]) -> BackendServers:
    require(shutil.which("nats-server") is not None, "nats-server")
    ports = free_ports(6)
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    nodes = []
    for port, route in zip(ports[:3], ports[3:], strict=True):
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "--cluster_name", "c"]
        command += ["--server_name", str(port), "-sd", f"jetstream-{port}"]
        command += ["--cluster", f"nats://127.0.0.1:{route}", "--routes", routes, *options]
        nodes.append(Node(command, port, folder))
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports[:3])
    return BackendServers(f"nats://{hosts}", nodes, folder)


_MAKERS = {
    "zeromq": _zeromq,
    "redis": _redis,
    "redis-sentinel": _redis_sentinel,
    "redis-cluster": _redis_cluster,
    "nats": _nats,
    "nats-cluster": _nats_cluster,
}


class LossyProxy:
    """A TCP proxy that can drop or hold all data without closing the connections."""

    def __init__(self, target: int) -> None:
        self.silent = False
        self.holding = asyncio.Event()
        self.holding.set()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> asyncio.Event:
        """Hold the data of present connections until the event is set; new connections pass."""
        held, self.holding = self.holding, asyncio.Event()
        self.holding.set()
        held.clear()
        return held

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.silent:
            return
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers.append(out)
        for source, sink in ((reader, out), (back, writer)):
            task = asyncio.ensure_future(self._pass_on(source, sink, self.holding))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(65536):
                await passing.wait()
                if self.silent:
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        if not self.silent:
            sink.close()


def environment(**variables: str) -> dict[str, str]:
    """Return the environment for a process of a test."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
