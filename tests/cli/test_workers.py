"""`serve --workers N`: worker processes that share a port, and the broker between them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from broker_servers import environment
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.slot import Slot
from support import Client, soon, until

SERVER = """
import asyncio, os
from socketcluster import AGServer
server = AGServer(drain_timeout=3000, auth_default_expiry=60)
chosen = AGServer(broker_engine="simple:")
def broken():
    raise ValueError("no")

@server.background
async def serve():
    async for event in server.listener("connection"):
        asyncio.create_task(handle(event.socket))

async def handle(socket):
    async for request in socket.procedure("do"):
        if request.data == "pid":
            request.end(os.getpid())
        elif request.data == "login":
            await socket.set_auth_token({"name": "alice"})
            request.end()
        elif request.data == "slow":
            while server.is_ready:  # It is answered while the server drains.
                await asyncio.sleep(0)
            request.end("done")
"""

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start `socketcluster serve` in a directory with a server."""
    (tmp_path / "mine.py").write_text(SERVER)
    started: list[asyncio.subprocess.Process] = []

    async def run(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "socketcluster", "serve", *arguments),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(**variables),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


async def port_of(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    assert "SocketCluster is running on" in line, line
    return int(line.split()[4].rpartition(":")[2])


async def client_at(stack: AsyncExitStack, port: int, token: str | None = None) -> Client:
    ws = await stack.enter_async_context(
        websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/")
    )
    client = Client(ws)
    await client.handshake(token)
    return client


async def clients_on_all(stack: AsyncExitStack, port: int, workers: int) -> dict[int, Client]:
    """Connect clients until each worker has one; return a client by its worker's process id."""
    found: dict[int, Client] = {}
    async with asyncio.timeout(20):
        while len(found) < workers:
            client = await client_at(stack, port)
            found.setdefault(await client.call("do", "pid"), client)
    return found


async def test_a_publish_in_any_worker_reaches_all(start: Start) -> None:
    process = await start("mine:server", "--port", "0", "--workers", "2")
    port = await port_of(process)
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        assert process.pid not in clients
        for client in clients.values():
            await client.call("#subscribe", {"channel": "a"})
        for pid, client in clients.items():
            await client.call("#publish", {"channel": "a", "data": pid})
            for other in clients.values():
                assert (await other.event())["data"] == {"channel": "a", "data": pid}
        # A token that one worker signed is valid at the other, so no sticky sessions are needed.
        first, second = clients.values()
        await first.call("do", "login")
        token = (await first.event())["data"]["token"]
        again = [await client_at(stack, port) for _ in range(8)]
        for client in again:
            answer = await client.call("#authenticate", token)
            assert answer["isAuthenticated"] is True
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/health/ready")
            assert answer.status_code == 200
        slow = asyncio.create_task(second.call("do", "slow"))
        await soon(await second.ws.ping())
        process.terminate()
        assert await soon(slow) == "done"
        assert await second.closed() == (1001, "The server is closing")
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")
    assert out == b"Stopping: waiting for calls that are under way\n"


async def test_a_killed_worker_is_replaced_and_the_others_go_on(start: Start) -> None:
    process = await start("mine:server", "--port", "0", "--workers", "2")
    port = await port_of(process)
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        (dead, lost), (alive, kept) = clients.items()
        await kept.call("#subscribe", {"channel": "a"})
        os.kill(dead, signal.SIGKILL)
        assert (await lost.closed())[0] in (0, 1006)
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stderr.readline(), 30)
        assert b"was killed by signal 9; starting another in 0.1 s" in line
        pids = set(await clients_on_all(stack, port, 2))
        assert alive in pids
        assert dead not in pids
        (new,) = (c for p, c in (await clients_on_all(stack, port, 2)).items() if p != alive)
        await new.call("#publish", {"channel": "a", "data": 1})
        assert (await kept.event())["data"]["data"] == 1


async def test_workers_end_with_their_supervisor(start: Start) -> None:
    process = await start("mine:server", "--port", "0", "--workers", "2")
    port = await port_of(process)
    async with AsyncExitStack() as stack:
        clients = await clients_on_all(stack, port, 2)
        process.kill()
        for client in clients.values():
            assert (await client.closed())[0] == 1001


def slot_of(target: str) -> Slot:
    settings = Settings(target, port=0, beat_seconds=1)
    return Slot(1, settings, environment(), pause=lambda: None)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_worker_may_be_stopped_while_it_is_being_started(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    create = asyncio.create_subprocess_exec
    starts: list[asyncio.subprocess.Process] = []

    async def create_slowly(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await create(*command, **options)
        starts.append(process)
        if len(starts) == 1 + restarted:
            slot.stop()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", create_slowly)
    slot = slot_of("mine:server")
    process = slot.launch()
    slot.adopt(process)
    if restarted:
        assert await asyncio.wait_for(asyncio.shield(process.started), 30)
        starts[0].kill()
    await asyncio.wait_for(process.ended.wait(), 30)
    try:
        await asyncio.wait_for(slot.wait_for_end(), 30)
    finally:
        if starts[-1].returncode is None:
            starts[-1].kill()
            await starts[-1].wait()
    assert len(starts) == 1 + restarted
    assert slot.process is not None
    assert slot.process.exit_status == -signal.SIGTERM
    assert not slot.process.is_ready


async def test_stopping_does_not_wait_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("socketcluster.cli.workers.slot.FIRST_BACK_OFF_SECONDS", 3600.0)
    (tmp_path / "mine.py").write_text("import os\nos._exit(3)")
    monkeypatch.chdir(tmp_path)
    slot = slot_of("mine:server")
    slot.adopt(process := slot.launch())
    await asyncio.wait_for(process.ended.wait(), 30)
    await until(lambda: bool(caplog.records))
    slot.stop()
    await soon(slot.wait_for_end())
    assert process.exit_status == 3
    (record,) = caplog.records
    assert record.getMessage().endswith("ended with status 3; starting another in 3600 s")


async def test_a_worker_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paused = asyncio.Event()

    async def refuse(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    for name in ("FIRST_BACK_OFF_SECONDS", "LONGEST_BACK_OFF_SECONDS", "PAUSE_SECONDS"):
        value = {"FIRST_BACK_OFF_SECONDS": 0.001, "PAUSE_SECONDS": 0.004}.get(name, 0.01)
        monkeypatch.setattr(f"socketcluster.cli.workers.slot.{name}", value)
    slot = Slot(1, Settings("mine:server"), environment(), pause=paused.set)
    slot.adopt(slot.launch())
    await soon(paused.wait())  # Its clients go to other workers while it fails.
    slot.stop()
    await soon(slot.wait_for_end())
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) >= 6
    assert texts[0] == "Cannot start worker 1: [Errno 11] Resource temporarily unavailable"
    assert [text.rpartition(" in ")[2] for text in texts[1::2]][:3] == [
        "0.001 s",
        "0.002 s",
        "0.004 s",
    ]


async def test_a_unix_socket_is_inherited(start: Start, tmp_path: Path) -> None:
    process = await start("mine:server", "--uds", "s", "--workers", "2")
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    assert line.startswith(b"SocketCluster is running on unix:s with 2 workers")
    async with websockets.unix_connect(str(tmp_path / "s"), "ws://a/socketcluster/") as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        assert json.loads(await soon(ws.recv()))["rid"] == 1
    process.terminate()
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine:nothing", "--workers", "2"], "has no attribute 'nothing'"),
        (["mine:chosen", "--workers", "2", "--broker", "ipc:///tmp/x"], "--broker would have no"),
        (["mine:server", "--broker", "foo://x"], "there is no broker for 'foo'"),
        (["mine:server", "--workers", "2", "--broker", "foo://x"], "there is no broker for 'foo'"),
        (
            ["mine:server", "--port", "0", "--broker-required", "--broker", "redis://127.0.0.1:1"],
            "Cannot reach redis://127.0.0.1:1: Cannot connect to 127.0.0.1:1: Connection refused",
        ),
    ],
)
async def test_a_fault_is_one_line_and_status_1(
    start: Start, arguments: list[str], message: str
) -> None:
    process = await start(*arguments)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    text = err.decode()
    assert (process.returncode, out, text.count("\n")) == (1, b"", 1), text
    assert text.startswith("socketcluster: ")
    assert message in text


async def test_a_port_in_use_by_other_workers(start: Start) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        process = await start("mine:server", "--port", port, "--workers", "2")
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert err.decode().endswith(f"Cannot listen on 127.0.0.1:{port}: Address already in use\n")


async def test_an_unreachable_backend_is_logged_once_and_retried(start: Start) -> None:
    retried = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        retried.set()
        await reader.read()
        writer.close()

    with socket.socket() as backend:
        backend.bind(("127.0.0.1", 0))  # It does not listen yet.
        where = f"nats://127.0.0.1:{backend.getsockname()[1]}"
        process: Any = await start("mine:server", "--port", "0", SOCKETCLUSTER_BROKER=where)
        port = await port_of(process)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/health/ready")).status_code == 503
            assert (await http.get("/health/live")).status_code == 200
        async with await asyncio.start_server(accept, sock=backend):
            await soon(retried.wait())
            process.terminate()  # The server waits for its connections, from Python 3.12 on.
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert err.decode().count(f"{where} is away, trying again") == 1
    assert err.count(b"\n") == 1, err
