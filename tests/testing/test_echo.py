"""The echo server as a program, as benchmarks and Autobahn start it."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest
import websockets

from support import soon


@pytest.mark.parametrize("engine", ["picows", "asgi"])
@pytest.mark.parametrize("options", [[], ["--no-deflate"]], ids=["deflate", "plain"])
async def test_it_echoes_until_it_is_interrupted(engine: str, options: list[str]) -> None:
    command = ["-m", "socketcluster.testing.echo", "0", "--engine", engine, *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        where = line.split()[2]
        assert line == f"Echo on {where} ({engine})\n"
        async with websockets.connect(where) as ws:
            assert ("permessage-deflate" in str(ws.response)) == (not options)
            for message in ("text" * 100, b"bytes"):
                await ws.send(message)
                assert await soon(ws.recv()) == message
        reader, writer = await asyncio.open_connection("127.0.0.1", int(where[15:-1]))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await soon(reader.read())).startswith(b"HTTP/1.1 404")
        writer.close()
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
