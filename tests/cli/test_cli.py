"""The command line, as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

from support import soon

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]

SERVER = """
import asyncio
from socketcluster import AGServer
server = AGServer(drain_timeout=3000)
def make():
    return server
not_a_server = 5

@server.background
async def serve():
    async for event in server.listener("connection"):
        async for request in event.socket.procedure("slow"):
            await asyncio.sleep(0.3)
            request.end("done")
"""


@pytest.fixture
async def processes() -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes of the test; what is left of them is killed."""
    started: list[asyncio.subprocess.Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def start(tmp_path: Path, processes: list[asyncio.subprocess.Process]) -> Start:
    """Start `socketcluster serve` with arguments, in a folder with a server."""
    (tmp_path / "mine.py").write_text(SERVER)

    async def run(*arguments: str) -> asyncio.subprocess.Process:
        processes.append(await _run(tmp_path, *arguments))
        return processes[-1]

    return run


async def _run(tmp_path: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "socketcluster",
        "serve",
        *arguments,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


async def address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    assert line.startswith("SocketCluster is running on "), line
    return line.split()[4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_a_target_and_drains_on_a_signal(start: Start, number: int) -> None:
    process = await start("mine:make", "--port", "0")
    where = (await address(process)).replace("http", "ws") + "/socketcluster/"
    async with websockets.connect(where) as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        await soon(ws.recv())
        await ws.send('{"event":"slow","cid":2}')
        await soon(await ws.ping())
        process.send_signal(number)
        assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
        with pytest.raises(websockets.ConnectionClosed):
            await soon(ws.recv())
        assert ws.close_code == 1001
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert err == b""


async def test_the_demo_on_a_unix_socket(start: Start, tmp_path: Path) -> None:
    process = await start("--uds", "s")
    assert await address(process) == "unix:s"
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"<title>SocketCluster for Python</title>" in await soon(reader.read())
    writer.close()
    process.terminate()
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "must be of the form module:attribute"),
        (["nothing:x"], "there is no module 'nothing'"),
        (["mine:nothing"], "has no attribute 'nothing'"),
        (["mine:not_a_server"], "is no AGServer but int"),
        (["--port", "99999"], "ports are 0 to 65535"),
        (["--ssl-certfile", "none.pem"], "Cannot read the certificate 'none.pem'"),
        (["--ssl-certfile", "mine.py"], "no usable certificate"),
    ],
)
async def test_a_fault_is_one_line_and_status_1(
    start: Start, arguments: list[str], message: str
) -> None:
    process = await start(*arguments)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    text = err.decode()
    assert message in text
    assert text.startswith("socketcluster: ")
    assert text.count("\n") == 1


async def test_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("mine:server", "--port", str(port))
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    expected = f"socketcluster: Cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert err.decode() == expected


async def test_the_extra_is_missing(monkeypatch: Any) -> None:
    from socketcluster.cli import main

    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match="pip install 'socketcluster\\[cli\\]'"):
        main()
