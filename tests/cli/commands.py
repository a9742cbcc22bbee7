"""Runs the command line as programs, or in this process, for the tests of its commands."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from socketcluster.cli import main

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


def run_here(
    *arguments: str,
    stdin: str = "",
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Run a command in this process until it ends, which takes a tenth of a program's time.

    It has standard streams of its own. Modules that it imports from its folder are forgotten.
    """
    modules = set(sys.modules)
    with ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        streams[0].write(stdin)
        streams[0].seek(0)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            stack.enter_context(_replaced(number, streams[number].fileno()))
            patch.setattr(sys, name, streams[number])
        for name in [name for name in os.environ if "SOCKETCLUSTER" in name]:
            patch.delenv(name)
        for name, text in (env or {}).items():
            patch.setenv(name, text)
        if folder is not None:
            patch.chdir(folder)
            patch.syspath_prepend(folder)
        patch.setattr(sys, "path", sys.path[:])
        patch.setattr(sys, "argv", ["socketcluster", *arguments])
        stack.enter_context(_logging_anew())
        with pytest.raises(SystemExit) as ended:
            main()
        for stream in streams[1:]:
            stream.flush()
            stream.seek(0)
        out, err = (stream.read() for stream in streams[1:])
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if folder is not None and file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return Result(ended.value.code, out, err)


@contextmanager
def _logging_anew() -> Iterator[None]:
    """Have logging as a program finds it, and restore it."""
    root = logging.getLogger()
    levels = [(logger, logger.level) for logger in (root, logging.getLogger("uvicorn"))]
    handlers, root.handlers = root.handlers, []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = handlers
        for logger, level in levels:
            logger.setLevel(level)


@contextmanager
def _replaced(number: int, by: int) -> Iterator[None]:
    """Have a file descriptor be that of another file."""
    kept = os.dup(number)
    os.dup2(by, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
