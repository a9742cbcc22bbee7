"""What a connected client notices of a storm: 10,000 others connect at once.

    python -m bench.storm [CONNECTS] [--rounds N] [--calls-every MS] [--engine picows|asgi]

A server runs on one core, as `socketcluster serve` starts it. A client calls "echo" every few
milliseconds, whether or not earlier calls are answered, so that a stall counts for every call that
falls into it. scload opens all connections at once, from the other core, and completes their
handshakes; it fails unless each is served. The result of each round is one line of JSON: the calls
made while they connected, percentiles of the time to their answers (ms) and of the CPU time that
the server used meanwhile (cpu_ms, which a busy machine does not change much), the seconds until the
last connection was ready, and the server's CPU time per connection (us).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from asyncio.subprocess import Process

import uvloop

from bench.contenders import ASGI, HERE, LOAD_CORE, PICOWS, Contender, Running, running
from bench.load import LoadError, allow_files, build
from socketcluster import AGClientSocket

_ENGINES = {"picows": PICOWS, "asgi": ASGI}
PATIENCE_MS = 60_000
"""Time for the answer to a call."""


async def _one_storm(server: Running, connects: int, every: float) -> dict[str, float]:
    async with AGClientSocket(
        hostname="127.0.0.1",
        port=server.port,
        ack_timeout=PATIENCE_MS,
        ping_timeout_disabled=True,  # A storm may hold the pings up, too.
    ) as client:
        await client.invoke("echo", "x")
        calls: list[asyncio.Task[tuple[float, float]]] = []
        async with asyncio.TaskGroup() as group:
            storm = group.create_task(_connect(server, connects))
            while not storm.done():
                calls.append(group.create_task(_timed_call(client, server.pids[0])))
                await asyncio.sleep(every)
        load, process = storm.result()
        process.kill()
        await process.wait()
    times = [call.result() for call in calls]
    taken, used = (sorted(each) for each in zip(*times, strict=True))
    return {
        "connects": connects,
        "calls": len(taken),
        "p50_ms": _at(taken, 0.5),
        "p99_ms": _at(taken, 0.99),
        "max_ms": _at(taken, 1),
        "p50_cpu_ms": _at(used, 0.5),
        "p99_cpu_ms": _at(used, 0.99),
        "max_cpu_ms": _at(used, 1),
        "seconds": round(connects / load["connect_per_s"], 2),
        "cpu_us": load["connect_us"],
    }


async def _timed_call(client: AGClientSocket, pid: int) -> tuple[float, float]:
    """Return the milliseconds of a call, and those of the server's CPU time meanwhile."""
    clock = ~pid << 3 | 2  # As clock_getcpuclockid() of the C library makes it.
    begun, used = time.perf_counter(), time.clock_gettime(clock)
    await client.invoke("echo", "x")
    return (time.perf_counter() - begun) * 1e3, (time.clock_gettime(clock) - used) * 1e3


def _at(ordered: list[float], part: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 2)


async def _connect(server: Running, connects: int) -> tuple[dict[str, float], Process]:
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(LOAD_CORE), str(HERE / "build" / "scload"), "connect"),
        *("--sockets", str(connects), "--in-flight", str(connects)),
        *("--port", str(server.port), "--pid", str(server.pids[0]), "--stay"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = await process.stdout.readline()
    if not line:
        raise LoadError((await process.stderr.read()).decode().strip())
    result: dict[str, float] = json.loads(line)
    return result, process


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("connects", type=int, nargs="?", default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls-every", type=float, default=5)
    parser.add_argument("--engine", choices=_ENGINES, default="picows")
    arguments = parser.parse_args()
    contender: Contender = _ENGINES[arguments.engine]
    try:
        build()
        allow_files(arguments.connects)
        for _ in range(arguments.rounds):
            with running(contender) as server:
                storm = _one_storm(server, arguments.connects, arguments.calls_every / 1e3)
                print(json.dumps(uvloop.run(storm)), flush=True)
    except* LoadError as errors:
        sys.exit("; ".join(str(error) for error in errors.exceptions))


if __name__ == "__main__":
    main()
