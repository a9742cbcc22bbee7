"""Runs the command line as programs, for the tests of its commands."""

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
    """A command's exit status and output."""

    status: int | None
    out: str
    err: str


class Commands:
    """Starts commands, and kills at the end those that still run."""

    def __init__(self, **env: str) -> None:
        self.env = {
            **{name: text for name, text in os.environ.items() if "SOCKETCLUSTER" not in name},
            "TERM": "xterm",
            **env,
        }
        self._started: list[Process] = []

    async def start(self, *arguments: str, stdin: Any = PIPE, **options: Any) -> Process:
        """Start a command with a pipe as its standard input."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "socketcluster", *arguments),
            stdin=stdin,
            **{"stdout": PIPE, "stderr": PIPE, "env": self.env, **options},
        )
        self._started.append(process)
        return process

    async def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Result:
        """Run a command until it ends."""
        return await ended(await self.start(*arguments, env={**self.env, **env}), stdin)

    async def stop(self) -> None:
        """Kill the commands that still run."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def ended(process: Process, stdin: str = "") -> Result:
    """Send a command its input, and wait until it ends."""
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate(stdin.encode())
    return Result(process.returncode, (out or b"").decode(), (err or b"").decode())


async def line_of(process: Process) -> str:
    """Return the next line that a command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        return (await process.stdout.readline()).decode()
