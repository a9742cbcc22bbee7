"""`serve` with one process, run as a program."""

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
import watchfiles
import websockets

from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings
from support import soon

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]

SERVER = """
import asyncio
from socketcluster import AGServer
server = AGServer(drain_timeout=3000)
def make():
    return server
not_a_server = 5
def fails():
    raise ValueError("Not\\ntoday")
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": ""})
in_front = AGServer(app=app)

@server.background
async def serve():
    async for event in server.listener("connection"):
        server.spawn(slow(event.socket))
        server.spawn(never(event.socket))
async def slow(socket):
    async for request in socket.procedure("slow"):
        while server.is_ready:  # It is answered while the server drains.
            await asyncio.sleep(0)
        request.end("done")
async def never(socket):
    async for request in socket.procedure("never"):
        await asyncio.Event().wait()
"""


@pytest.fixture
async def processes() -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """The processes that a test starts; those still running at its end are killed."""
    started: list[asyncio.subprocess.Process] = []
    yield started
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def start(tmp_path: Path, processes: list[asyncio.subprocess.Process]) -> Start:
    """Start `socketcluster serve` with arguments, in a directory with a server."""
    (tmp_path / "mine.py").write_text(SERVER)
    (tmp_path / "exits.py").write_text("import sys; sys.exit(3)")

    async def run(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        processes.append(await _run(tmp_path, *arguments, **options))
        return processes[-1]

    return run


async def _run(tmp_path: Path, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
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
        **options,
    )


async def printed_address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    assert line.startswith("SocketCluster is running on "), line
    return line.split()[4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serves_a_target_and_drains_on_a_signal(start: Start, number: int) -> None:
    process = await start("mine:make", "--port", "0")
    url = (await printed_address(process)).replace("http", "ws") + "/socketcluster/"
    async with websockets.connect(url) as ws:
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
    assert await printed_address(process) == "unix:s"
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
        (["mine:not_a_server"], "is not an AGServer but int"),
        (["--host", "999.0.0.1"], "Cannot listen on 999.0.0.1:8000: "),
        (["--uds", "no/s"], "Cannot listen on the Unix socket no/s: No such file or directory"),
        (["--uds", "mine.py"], "Cannot listen on the Unix socket mine.py: Address already in use"),
        (["--port", "99999"], "The port option must be an integer from 0 to 65535, not 99999"),
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


@pytest.mark.parametrize(
    ("target", "last", "place"),
    [
        ("mine:fails", "'mine:fails' failed: ValueError: Not today", 'mine.py", line'),
        ("exits:x", "Cannot import 'exits:x': SystemExit: 3", 'exits.py", line 1'),
        ("broken:x", "Cannot import 'broken:x': ZeroDivisionError", 'broken.py", line 2'),
        ("typo:x", "Cannot import 'typo:x': SyntaxError", 'typo.py", line 1'),
        ("lacks:x", "Cannot import 'lacks:x': there is no module 'not_there'", 'lacks.py", line 1'),
        ("package.lacks:x", "there is no module 'package.lacks'", None),
    ],
)
async def test_an_error_of_the_target_s_own_code_shows_its_traceback(
    start: Start, tmp_path: Path, target: str, last: str, place: str | None
) -> None:
    """Guarantee 10: your own bugs are loud."""
    (tmp_path / "broken.py").write_text("def half():\n    return 1 / 0\nhalf()\n")
    (tmp_path / "typo.py").write_text("x = = 5\n")
    (tmp_path / "lacks.py").write_text("import not_there\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    process = await start(target)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    *traceback, message = err.decode().splitlines()
    assert message.startswith("socketcluster: ")
    assert last in message
    shown = "\n".join(traceback)
    assert (place is None) == (shown == "")
    assert place is None or place in shown
    assert "importlib" not in shown
    assert "serve.py" not in shown
    assert "loading.py" not in shown


async def test_an_application_that_does_not_start(start: Start) -> None:
    process = await start("mine:in_front", "--port", "0")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "Traceback" not in err.decode()
    *_, last = err.decode().splitlines()
    assert last == "socketcluster: The application behind the server failed to start"


async def test_an_abandoned_unix_socket_is_replaced_and_one_in_use_is_not(
    start: Start, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "s"))
    process = await start("--uds", "s")
    assert await printed_address(process) == "unix:s"
    second = await start("--uds", "s")
    _, err = await asyncio.wait_for(second.communicate(), 30)
    expected = b"socketcluster: Cannot listen on the Unix socket s: Address already in use\n"
    assert (second.returncode, err) == (1, expected)
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.close()
    process.terminate()
    await asyncio.wait_for(process.communicate(), 30)
    assert not (tmp_path / "s").exists()


async def test_ctrl_c_with_reload_drains_too(start: Start) -> None:
    process = await start("mine:server", "--port", "0", "--reload", start_new_session=True)
    url = (await printed_address(process)).replace("http", "ws") + "/socketcluster/"
    async with websockets.connect(url) as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        await soon(ws.recv())
        await ws.send('{"event":"slow","cid":2}')
        await soon(await ws.ping())
        os.killpg(process.pid, signal.SIGINT)  # As a terminal sends Ctrl-C.
        assert await soon(ws.recv()) == '{"rid":2,"data":"done"}'
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")


def test_reload_watches_python_files_only(monkeypatch: Any) -> None:
    watched: list[Any] = []
    monkeypatch.setattr(
        watchfiles, "run_process", lambda *_, **options: watched.append(options["watch_filter"])
    )
    run(Settings(target="mine:server"), reload=True)
    (watches,) = watched
    files = {
        "/app/main.py": True,
        "/app/package/part.py": True,
        "/app/chat.db": False,
        "/app/log.txt": False,
        "/app/main.pyc": False,
        "/app/.venv/lib/part.py": False,
        "/app/__pycache__/main.py": False,
    }
    assert {path: watches(watchfiles.Change.modified, path) for path in files} == files


async def test_a_second_signal_stops_at_once(start: Start) -> None:
    process = await start("mine:server", "--port", "0")
    url = (await printed_address(process)).replace("http", "ws") + "/socketcluster/"
    async with websockets.connect(url) as ws:
        await ws.send('{"event":"#handshake","data":{},"cid":1}')
        await soon(ws.recv())
        await ws.send('{"event":"never","cid":2}')
        await soon(await ws.ping())
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert b"Stopping" in await soon(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 2)
    assert (process.returncode, err) == (1, b"")


async def test_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
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
