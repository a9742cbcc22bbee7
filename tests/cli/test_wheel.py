"""The wheel serves the demo when installed outside the repository with the extra `cli` only."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import websockets

from support import soon

ROOT = Path(__file__).resolve().parents[2]
UV = ["-m", "uv", "--quiet"]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _install(folder: Path) -> None:
    _run(sys.executable, *UV, "build", "--wheel", "--out-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("socketcluster-*.whl")
    _run(sys.executable, *UV, "venv", "--python", sys.executable, str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    constraints = ["-c", str(ROOT / "constraints.txt")]
    _run(sys.executable, *UV, "pip", "install", "--python", python, *constraints, f"{wheel}[cli]")


async def test_the_wheel_serves_outside_the_repository(tmp_path: Path) -> None:
    _install(tmp_path)
    process = await asyncio.create_subprocess_exec(
        tmp_path / "venv" / "bin" / "socketcluster",
        *("serve", "--port", "0"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        address = line.split()[4]
        async with websockets.connect(address.replace("http", "ws") + "/socketcluster/") as ws:
            await ws.send('{"event":"#handshake","data":{},"cid":1}')
            await soon(ws.recv())
            await ws.send('{"event":"add","data":[1,2],"cid":2}')
            assert await soon(ws.recv()) == '{"rid":2,"data":3}'
        port = address.rsplit(":", 1)[1]
        for path, part in (
            (b"/", b"<title>SocketCluster for Python</title>"),
            (b"/api.js", b"export function typed(socket)"),
            (b"/asyncapi", b'src="asyncapi.js"'),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert part in await soon(reader.read())
            writer.close()
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)
    assert process.returncode == 0
    for option, part in (("--classic", b"\nfunction recovering("), ("--types", b"interface Place")):
        printing = await asyncio.create_subprocess_exec(
            tmp_path / "venv" / "bin" / "socketcluster",
            *("recovering", option),
            stdout=asyncio.subprocess.PIPE,
        )
        assert part in (await soon(printing.communicate()))[0]
