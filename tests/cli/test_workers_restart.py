"""SIGHUP to `serve --workers N`: a new generation of workers, without an outage."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.serving import SERVER, Serve, client_at, clients_on_all, renew
from socketcluster import AGClientSocket
from support import soon

AGAIN: Any = {"initial_delay": 10, "randomness": 10, "multiplier": 1, "max_delay": 10}


class Moved:
    """A client with a call under way, and the worker that it is connected to."""

    def __init__(self, port: int) -> None:
        self.socket = AGClientSocket(
            port=port, ack_timeout=60_000, connect_timeout=60_000, auto_reconnect_options=AGAIN
        )
        self.connects = 0
        self._counting = asyncio.ensure_future(self._count())

    async def _count(self) -> None:
        async for _ in self.socket.listener("connect"):
            self.connects += 1

    async def where(self) -> list[Any]:
        answer: list[Any] = await self.socket.invoke("where")
        return answer

    def close(self) -> None:
        self.socket.disconnect()
        self._counting.cancel()


@pytest.mark.parametrize("rolling", [[], ["--rolling", "1"]])
async def test_every_client_moves_to_new_code_and_no_call_is_lost(
    rolling: list[str], serve: Serve, tmp_path: Path
) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", *rolling)
    port = await served.port()
    clients = [Moved(port) for _ in range(24)]
    try:
        old = {(await client.where())[0] for client in clients}
        assert len(old) == 2  # By chance: it fails once in eight million runs.
        slow = [asyncio.ensure_future(client.socket.invoke("slow")) for client in clients]
        for client in clients:
            await client.where()  # So the call before it has begun.
        renew(tmp_path, "newer")
        served.process.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(asyncio.gather(*slow), 60) == ["done"] * len(clients)
        await served.line("Restarted: all workers are new")
        for client in clients:
            pid, version = await client.where()
            assert pid not in old
            assert version == "newer"
            if not rolling:
                assert client.connects == 2
    finally:
        for client in clients:
            client.close()
    assert "ERROR" not in served.output
    served.process.terminate()
    assert await served.wait() == 0


@pytest.mark.parametrize("rolling", [[], ["--rolling", "1"]])
async def test_if_a_new_worker_fails_the_old_ones_go_on(
    rolling: list[str], serve: Serve, tmp_path: Path
) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", *rolling)
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        (tmp_path / "mine.py").write_text("raise ValueError('not today')")
        served.process.send_signal(signal.SIGHUP)
        line = await served.line("ERROR")
        assert "The restart failed" in line
        assert "the old workers serve on" in line
        assert served.output.count("ValueError: not today\n") == 2  # A traceback and a line, once.
        for pid, client in clients.items():
            assert (await client.call("where"))[0] == pid
        renew(tmp_path, "mended")
        served.process.send_signal(signal.SIGHUP)
        await served.line("Restarted")
        assert set(await clients_on_all(stack, port, 2)).isdisjoint(clients)


async def test_the_second_part_of_a_rolling_restart_fails(serve: Serve, tmp_path: Path) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", "--rolling", "1")
    port = await served.port()
    # The first new worker leaves a mark, and the second fails at it.
    mark = "import pathlib\npathlib.Path('mark').mkdir()\n"
    (tmp_path / "mine.py").write_text(SERVER + mark)
    served.process.send_signal(signal.SIGHUP)
    assert "The restart failed after 1 of 2 workers" in await served.line("ERROR")
    async with AsyncExitStack() as stack:
        assert len(await clients_on_all(stack, port, 2)) == 2


async def test_a_signal_during_a_restart_is_followed_by_another_restart(
    serve: Serve, tmp_path: Path
) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2")
    port = await served.port()
    served.process.send_signal(signal.SIGHUP)
    await served.line("Restarting")
    renew(tmp_path, "newest")
    for _ in range(3):
        served.process.send_signal(signal.SIGHUP)
    await served.line("Restarted")
    await served.line("Restarting")
    await served.line("Restarted")
    async with AsyncExitStack() as stack:
        for client in (await clients_on_all(stack, port, 2)).values():
            assert (await client.call("where"))[1] == "newest"


@pytest.mark.parametrize("at", ["start", "drain"])
async def test_sigterm_during_a_restart_drains_all(at: str, serve: Serve, tmp_path: Path) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        slow = [asyncio.ensure_future(client.call("slow")) for client in clients.values()]
        for client in clients.values():
            await client.call("where")
        if at == "start":
            (tmp_path / "mine.py").write_text("print('begun')\nimport time\ntime.sleep(3600)")
            served.process.send_signal(signal.SIGHUP)
            await served.line("begun")
        else:
            served.process.send_signal(signal.SIGHUP)
            await soon(asyncio.wait(slow))
        served.process.terminate()
        for answer in slow:
            assert await soon(answer) == "done"
        assert await served.wait() == 0
        for client in clients.values():
            await client.closed()
    assert "ERROR" not in served.output
    assert served.output.count("Stopping") == 1


async def test_a_worker_that_dies_during_a_restart_is_not_missed(
    serve: Serve, tmp_path: Path
) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        busy = next(iter(clients.values()))
        swallowed = asyncio.ensure_future(busy.call("swallow"))
        await busy.call("where")
        served.process.send_signal(signal.SIGHUP)
        # An old worker still drains, as a handler does not end, while new ones serve.
        async with asyncio.timeout(60):
            while True:
                found = await clients_on_all(stack, port, 2)
                if not set(found) & set(clients):
                    break
        victim = next(iter(found))
        os.kill(victim, signal.SIGKILL)
        await served.line(f"(process {victim}) was killed by signal 9; starting another")
        await served.line("Restarted")
        assert victim not in await clients_on_all(stack, port, 2)
        swallowed.cancel()


async def test_no_connection_is_refused_during_a_restart(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2")
    port = await served.port()
    restarted = asyncio.ensure_future(served.line("Restarted"))
    count = 0

    async def connect_again_and_again() -> None:
        nonlocal count
        while not restarted.done():
            async with AsyncExitStack() as stack:
                await client_at(stack, port)
            count += 1

    served.process.send_signal(signal.SIGHUP)
    await asyncio.gather(*(connect_again_and_again() for _ in range(16)))
    await restarted
    assert count >= 16
