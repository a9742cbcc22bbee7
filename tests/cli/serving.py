"""Runs `socketcluster serve` as a program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import websockets

from broker_servers import environment
from support import Client

SECONDS = 60.0

SERVER = """
import asyncio, os, time
from socketcluster import AGServer
server = AGServer(drain_timeout=5000)
VERSION = "old"

@server.procedure("where")
def where() -> list:
    return [os.getpid(), VERSION]

@server.procedure("slow")
async def slow() -> str:
    while server.is_ready:  # It is answered once the server accepts no more.
        await asyncio.sleep(0.01)
    return "done"

@server.procedure("block")
def block() -> None:
    time.sleep(3600)

@server.procedure("swallow")
async def swallow() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


class Served:
    """A running `serve`, its output, and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    @classmethod
    async def start(
        cls, folder: Path, arguments: Sequence[str], *, command: Sequence[str] = (), **options: Any
    ) -> Served:
        """Start `serve` with arguments, by way of another command if there is one."""
        variables = options.pop("variables", {})
        return cls(
            await asyncio.create_subprocess_exec(
                *(*command, sys.executable, "-m", "socketcluster", "serve", *arguments),
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environment(**variables),
                **options,
            )
        )

    async def line(self, text: str) -> str:
        """Read on until a line with this text, and return the line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.output += line
                if text in line:
                    return line
        raise AssertionError(f"{text!r} is not in:\n{self.output}")

    async def port(self) -> int:
        """Wait until it serves, and return its port."""
        line = await self.line("SocketCluster is running on")
        return int(line.split()[4].rstrip(",").rpartition(":")[2])

    def workers(self) -> set[int]:
        """The process ids of its workers."""
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    async def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        async with asyncio.timeout(SECONDS):
            out, _ = await self.process.communicate()
            self.output += out.decode()
        assert self.process.returncode is not None
        return self.process.returncode

    async def end(self) -> None:
        """End it, however it does."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.returncode is None:
                self.process.send_signal(number)
        await self.wait()


@asynccontextmanager
async def serving(folder: Path, *arguments: str) -> AsyncIterator[Served]:
    """Run `serve` with arguments in a folder, and stop it in order."""
    served = await Served.start(folder, arguments)
    try:
        yield served
    finally:
        if served.process.returncode is None:
            served.process.terminate()
        await served.wait()


Serve = Callable[..., Awaitable[Served]]


async def client_at(stack: AsyncExitStack, port: int) -> Client:
    """Connect a client."""
    ws = await stack.enter_async_context(
        websockets.connect(f"ws://127.0.0.1:{port}/socketcluster/", open_timeout=SECONDS)
    )
    client = Client(ws)
    await client.handshake()
    return client


async def clients_on_all(stack: AsyncExitStack, port: int, workers: int) -> dict[int, Client]:
    """Connect clients until each worker has one; return a client by its worker's process id."""
    found: dict[int, Client] = {}
    async with asyncio.timeout(SECONDS):
        while len(found) < workers:
            client = await client_at(stack, port)
            pid, _ = await client.call("where")
            found.setdefault(pid, client)
    return found


def renew(folder: Path, version: str) -> None:
    """Change the code of the server."""
    (folder / "mine.py").write_text(SERVER.replace('"old"', f'"{version}"'))


def is_running(pid: int) -> bool:
    """Whether a process exists, and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def stop_process(pid: int) -> None:
    """Stop a process as a debugger does."""
    os.kill(pid, signal.SIGSTOP)
