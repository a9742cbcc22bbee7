"""An official client that floods is slowed down by "pause", and loses nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from socketcluster import AGServer, Limits, Rate
from support import Running, require, until

JS = Path(__file__).parent / "js"
COUNT = 10_000
RATE = Rate(2000, per=1, burst=10)


@pytest.mark.parametrize("limited", ["message", "invoke and publish"])
@pytest.mark.parametrize("client", ["client20"])
async def test_a_paused_flood_of_an_official_client_loses_nothing(
    make_server: Any, running: Running, client: str, limited: str
) -> None:
    require(shutil.which("node") is not None, "Node.js")
    require((JS / "node_modules" / client).is_dir(), "the npm packages: make interop-clients")
    rates = {"message": RATE} if limited == "message" else {"invoke": RATE, "publish": RATE}
    server: AGServer = await make_server(
        limits=Limits(**rates, exceeded="pause"),  # type: ignore[arg-type]
        max_inbound_backlog=100,
    )
    time = asyncio.get_running_loop().time
    taken: list[int] = []
    times: list[float] = []

    @server.procedure("add")
    def add(data: int) -> int:
        taken.append(data)
        times.append(time())
        return data

    published = running.collect(server.exchange.subscribe("room"))
    process = await asyncio.create_subprocess_exec(
        "node",
        "flood.js",
        client,
        str(server.source_port),
        str(COUNT),
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert json.loads(output) == {"answers": COUNT, "inOrder": True, "published": COUNT}
    assert taken == list(range(COUNT))
    await until(lambda: published == list(range(COUNT)))
    # Each call is followed by a publish, and both are messages.
    units = 2 if limited == "message" else 1
    for done, at in enumerate(times):
        most = RATE.burst + (at - times[0]) * RATE.count / RATE.per
        assert done * units <= most + 2
    assert sum(server.rate_limits.limited.values()) > 0
