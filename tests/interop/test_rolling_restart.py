"""A rolling restart under load, as npm clients notice it.

`make soak` runs it with 1,000 clients and four workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cli.serving import serving
from interop.servers import JS
from support import require

SOAK = bool(os.environ.get("SOAK"))
CLIENTS, WORKERS = (1000, 4) if SOAK else (60, 2)
PAUSE = 500 if SOAK else 100
"""Milliseconds between an answer and the next call of a client."""

MOST_AWAY = 1000
"""Milliseconds; looked at in `make soak` alone."""

SERVER = """
import asyncio, os
from pathlib import Path
from socketcluster import AGServer
server = AGServer(drain_spread=3000)
done = open(f"done-{os.getpid()}", "w", buffering=1)

@server.procedure("work", order="free", at_once=100)
async def work(data: str) -> dict[str, object]:
    await asyncio.sleep(0.02)
    done.write(data + chr(10))
    return {"id": data, "pid": os.getpid()}
"""


@asynccontextmanager
async def crowd(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """npm clients that are connected and call."""
    process = await asyncio.create_subprocess_exec(
        *("node", "crowd.js", "client20", str(port), str(CLIENTS), str(PAUSE)),
        cwd=JS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"connected\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def carried_out(folder: Path) -> Counter[str]:
    """How often each call was carried out, by any worker."""
    return Counter(line for path in folder.glob("done-*") for line in path.read_text().splitlines())


async def test_each_client_moves_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    require(shutil.which("node") is not None, "Node.js")
    (tmp_path / "mine.py").write_text(SERVER)
    arguments = ("mine:server", "--port", "0", "--workers", str(WORKERS))
    async with serving(tmp_path, *arguments) as served, crowd(await served.port()) as clients:
        old = served.workers()
        served.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(120):
            while served.workers() & old or len(served.workers()) != WORKERS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        new = served.workers()
        await asyncio.sleep(2 * PAUSE / 1000)  # All have called again.
        assert clients.stdin is not None
        assert clients.stdout is not None
        clients.stdin.close()
        noticed: dict[str, Any] = json.loads(await asyncio.wait_for(clients.stdout.readline(), 60))
    away = sorted(noticed["away"])
    record_property(
        "Rolling restart",
        f"{CLIENTS} clients, {WORKERS} workers: away {away[len(away) // 2]:.0f} ms (median), "
        f"{away[-1]:.0f} ms (longest); {noticed['calls']} calls answered, "
        f"{noticed['repeated']} repeated",
    )
    assert noticed["moves"] == [1] * CLIENTS
    assert noticed["refused"] == noticed["wrong"] == 0
    assert set(noticed["pids"]) == new
    # Each call was answered, and none carried out twice.
    calls = carried_out(tmp_path)
    assert len(calls) >= noticed["calls"]
    assert set(calls.values()) == {1}
    if SOAK:
        assert away[-1] < MOST_AWAY
