"""The command line as real processes, for the tests of its commands."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Any

SECONDS = 30


@dataclass
class Result:
    """How a command ended."""

    status: int | None
    out: str
    err: str


class Commands:
    """Starts commands; what is left of them at the end is killed."""

    def __init__(self, **env: str) -> None:
        self.env = {
            **{name: text for name, text in os.environ.items() if "SOCKETCLUSTER" not in name},
            "TERM": "xterm",
            **env,
        }
        self._started: list[Process] = []

    async def start(self, *arguments: str, stdin: Any = PIPE, **options: Any) -> Process:
        """Start a command; its standard input is open."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "socketcluster", *arguments),
            stdin=stdin,
            **{"stdout": PIPE, "stderr": PIPE, "env": self.env, **options},
        )
        self._started.append(process)
        return process

    async def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Result:
        """Run a command to its end."""
        return await ended(await self.start(*arguments, env={**self.env, **env}), stdin)

    async def stop(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def ended(process: Process, stdin: str = "") -> Result:
    """Give a command its input, and wait for its end."""
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate(stdin.encode())
    return Result(process.returncode, (out or b"").decode(), (err or b"").decode())


async def line_of(process: Process) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        return (await process.stdout.readline()).decode()
