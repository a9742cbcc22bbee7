"""The supervisor's watchdog."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cli.serving import Serve, clients_on_all, stop_process
from socketcluster.cli.workers.watchdog import Watch, Watchdog, beat_seconds
from support import soon, until


class Process:
    """A worker process that records its signals."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.signals: list[int] = []
        self.signaled = asyncio.Event()

    def describe(self) -> str:
        return "Worker 1 (process 5)"

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.signaled.set()


def test_times_count_from_their_beginning() -> None:
    watch = Watch()
    watch.add(1000)
    assert watch.problem(30) is None  # It is not ready yet.
    watch.silent = 0
    watch.add(30)
    assert watch.problem(30) is None
    watch.add(1)
    assert watch.problem(0) is None
    assert watch.problem(30) == "hangs: its event loop has been blocked for 30 s"
    watch.silent = 0
    watch.stopping, watch.stop_seconds = 0, 15
    watch.add(16)
    assert watch.problem(0) == "has not ended within 15 s"
    watch.aborted = 0
    assert watch.problem(0) is None
    assert (beat_seconds(30), beat_seconds(1)) == (1, 0.2)


async def test_a_supervisor_that_stood_still_blames_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process()
    process.watch.silent = 0.0
    loop = asyncio.get_running_loop()
    shift = 0.0
    time = loop.time
    monkeypatch.setattr(type(loop), "time", lambda _: time() + shift)
    watchdog = asyncio.ensure_future(Watchdog(5, lambda: [process]).run())
    await asyncio.sleep(0)
    shift = 3600.0  # As after SIGSTOP and SIGCONT.
    await until(lambda: process.watch.silent != 0.0)
    watchdog.cancel()
    assert 0 < process.watch.silent <= 2
    assert process.signals == []


async def test_a_silent_worker_is_aborted_then_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("socketcluster.cli.workers.watchdog.KILL_SECONDS", 0.01)
    process = Process()
    process.watch.silent, process.watch.starting = 0.0, None
    watchdog = asyncio.ensure_future(Watchdog(0.01, lambda: [process]).run())
    await soon(process.signaled.wait())
    watchdog.cancel()
    assert process.signals[:2] == [signal.SIGABRT, signal.SIGKILL]
    (record,) = caplog.records
    assert record.getMessage().startswith("Worker 1 (process 5) hangs: its event loop")


async def test_a_slow_start_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("socketcluster.cli.workers.watchdog.KILL_SECONDS", 0.01)
    monkeypatch.setattr("socketcluster.cli.workers.watchdog.SLOW_START_SECONDS", 0.01)
    process = Process()
    watchdog = asyncio.ensure_future(Watchdog(0.001, lambda: [process]).run())
    await until(lambda: bool(caplog.records))
    process.watch.silent = 0.0
    await soon(process.signaled.wait())
    watchdog.cancel()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Worker 1 (process 5) is not ready after 0.01 s",
        "Worker 1 (process 5) hangs",
    ]


async def test_a_blocked_worker_shows_where_and_is_replaced(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", "--watchdog", "2")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        pid, client = next(iter(clients.items()))
        call = asyncio.ensure_future(client.call("block"))
        await served.line(f"(process {pid}) hangs: its event loop has been blocked for 2 s")
        await served.line("Fatal Python error: Aborted")
        await served.line("in block")
        await served.line(f"(process {pid}) was killed by signal 6; starting another")
        found = await clients_on_all(stack, port, 2)
        assert pid not in found
        call.cancel()


async def test_a_stopped_worker_is_replaced_and_its_waiting_connections_are_served(
    serve: Serve,
) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", "--watchdog", "2")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        pid = next(iter(clients))
        stop_process(pid)
        # Some of these wait in the accept queue of the stopped worker, for the next one.
        found = await asyncio.gather(*(clients_on_all(stack, port, 1) for _ in range(8)))
        assert all(pid not in each for each in found)
        await served.line(f"(process {pid}) was killed by signal 9; starting another")
        assert pid not in await clients_on_all(stack, port, 2)


@pytest.mark.parametrize("procedure", ["block", "swallow"])
async def test_sigterm_ends_a_hanging_worker(procedure: str, serve: Serve, tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        source.read_text().replace("drain_timeout=5000", "drain_timeout=60, drain_delay=40")
    )
    served = await serve("mine:server", "--port", "0", "--workers", "2", "--watchdog", "0")
    port = await served.port()
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        (first, client), (second, _) = clients.items()
        call = asyncio.ensure_future(client.call(procedure))
        if procedure == "swallow":
            await client.call("where")
        else:
            await soon(await client.ws.ping())  # The worker has read the call.
        stop_process(second)
        served.process.terminate()
        assert await served.wait() == 0
        assert f"(process {second}) has not ended within 5.1 s" in served.output
        if procedure == "block":
            assert f"(process {first}) has not ended within 5.1 s" in served.output
            assert "in block" in served.output
        call.cancel()


async def test_a_second_signal_ends_all_at_once(serve: Serve) -> None:
    served = await serve("mine:server", "--port", "0", "--workers", "2", "--watchdog", "0")
    port = await served.port()
    async with AsyncExitStack() as stack:
        pid = next(iter(await clients_on_all(stack, port, 2)))
        stop_process(pid)
        served.process.terminate()
        await served.line("Stopping")
        served.process.terminate()
        assert await served.wait() == 0
        assert "has not ended" not in served.output
