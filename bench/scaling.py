"""What several workers and an engine between them cost: `python -m bench.scaling`.

Prints CPU microseconds, of all server processes together, as Markdown tables.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench.contenders import HERE, LOAD_CORE, SERVER_CORE
from bench.load import build
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError

SECONDS, WARM_UP = 4.0, 1.5
LOADS = {
    "RPC, 50 sockets, 1 in flight": ["rpc", "--sockets", "50"],
    "RPC, 50 sockets, 32 in flight": ["rpc", "--sockets", "50", "--in-flight", "32"],
    "publish to 1000, 1 in flight": ["publish", "--sockets", "1000"],
    "publish to 1000, 32 in flight": ["publish", "--sockets", "1000", "--in-flight", "32"],
}
PUBLISHES, AT_ONCE, FEW = 200_000, 50, 5
PAYLOAD = b'"' + b"x" * 98 + b'"'


def processes(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def serve(workers: int, load: Sequence[str]) -> float:
    """CPU microseconds per operation of `socketcluster serve --workers`."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "socketcluster"]
    command += ["serve", "app:plain", "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, cwd=HERE / "servers", stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = server.stdout.readline().split()[4].decode().rpartition(":")[2]
        scload = ["taskset", "-c", str(LOAD_CORE), str(HERE / "build" / "scload"), *load]
        scload += ["--seconds", str(SECONDS), "--warm-up", str(WARM_UP)]
        scload += ["--port", port, "--pid", str(server.pid)]
        with subprocess.Popen(scload, stdout=subprocess.PIPE) as generator:
            time.sleep(WARM_UP + 1)
            before, begun = cpu_seconds(processes(server.pid)), time.monotonic()
            time.sleep(SECONDS - 1.5)
            share = (cpu_seconds(processes(server.pid)) - before) / (time.monotonic() - begun)
            assert generator.stdout is not None
            sample = json.loads(generator.stdout.read())
        server.terminate()
        server.stdout.read()
    return float(share / sample["ops_per_s"] * 1e6)


class Counter:
    """Counts what a broker delivers."""

    def __init__(self) -> None:
        self.count = 0

    def message_received(self, channel: str, payload: bytes) -> None:
        self.count += 1

    engine_message_received = message_received

    def broker_failed(self, error: BaseException) -> None:
        raise error

    def engine_lost(self, error: BrokerError) -> None:
        raise error

    def engine_recovered(self, duration: float, error: BrokerError) -> None: ...


async def hop(url: str, receivers: int) -> float:
    """CPU microseconds per publish to receivers, all of them and the sender in this process."""
    brokers, counters = [], []
    for _ in range(receivers + 1):
        brokers.append(create_broker(url))
        counters.append(Counter())
        brokers[-1].attach(counters[-1])
        await brokers[-1].start()
    for broker in brokers[1:]:
        subscribed = broker.subscribe("a")
        assert subscribed is not None
        await subscribed
    before = time.process_time()
    for _ in range(PUBLISHES // AT_ONCE):
        taken = [brokers[0].publish("a", PAYLOAD) for _ in range(AT_ONCE)]
        await asyncio.gather(*(t for t in taken if t is not None))
    while any(counter.count < PUBLISHES for counter in counters[1:]):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    spent = time.process_time() - before
    for broker in brokers:
        await broker.close()
    return spent / PUBLISHES * 1e6


@contextmanager
def engine(kind: str) -> Iterator[tuple[str, Any]]:
    """The URL of a running engine, and its process if it is not in this one."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "ZeroMQ":
            from socketcluster.brokers.zeromq import Proxy

            proxy = Proxy(f"{folder}/broker")
            proxy.start()
            yield f"ipc://{folder}/broker", None
            proxy.stop()
            return
        port = "17379" if kind == "Redis" else "17222"
        commands = {
            "Redis": ["redis-server", "--port", port, "--save", "", "--dir", folder],
            "NATS": ["nats-server", "-a", "127.0.0.1", "-p", port],
        }
        quiet = subprocess.DEVNULL
        with subprocess.Popen(commands[kind], stdout=quiet, stderr=quiet) as process:
            time.sleep(1)
            yield f"{kind.lower()}://127.0.0.1:{port}", process
            process.terminate()


def main() -> None:
    """Measure and print."""
    build()
    print("| work | 1 worker | 2 workers | ratio |\n|---|---|---|---|")
    for title, load in LOADS.items():
        one, two = (serve(workers, load) for workers in (1, 2))
        print(f"| {title} | {one:.2f} | {two:.2f} | {two / one:.2f} |", flush=True)
    title = "\n| engine | to 1 process | each more | the engine itself, to 1 | each more |"
    print(f"{title}\n|---|---|---|---|---|")
    for kind in ("ZeroMQ", "Redis", "NATS"):
        with engine(kind) as (url, process):
            ours, own = [], []
            for receivers in (1, FEW):
                before = cpu_seconds([process.pid]) if process else 0.0
                ours.append(uvloop.run(hop(url, receivers)))
                after = cpu_seconds([process.pid]) if process else 0.0
                own.append((after - before) / PUBLISHES * 1e6)
            row = []
            for one, few in (ours, own)[: 2 if process else 1]:
                row += [f"{one:.1f}", f"{(few - one) / (FEW - 1):.2f}"]
            if not process:
                row += ["included", ""]
            print(f"| {kind} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
