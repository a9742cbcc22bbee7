"""How a command ends: its exit status, and one line that says why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from socketcluster.errors import InvalidOptionsError, RemoteError, SocketClusterError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why, for people."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def wrong_usage(message: str) -> CommandError:
    """What was asked for makes no sense."""
    return CommandError(message, WRONG_USAGE)


def command(app: Callable[..., Any]) -> int:
    """Run a Typer application; its exit status. Wrong usage is said in one line."""
    try:
        status = app(prog_name="socketcluster", standalone_mode=False)
    except Exception as error:
        # Typer has click's exceptions or a copy of them, and names neither.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ != "NoArgsIsHelpError":  # Which has shown the help.
            context = getattr(error, "ctx", None)
            path = "socketcluster" if context is None else context.command_path
            tell(f"{error.format_message().rstrip('.')} (see {path} --help)")
        return WRONG_USAGE
    return status if isinstance(status, int) else DONE


def run(work: Coroutine[Any, Any, None]) -> int:
    """Run what a command does in an event loop; the exit status."""
    return ended(lambda: asyncio.run(work))


def ended(work: Callable[[], None]) -> int:
    """Do what a command does; the exit status. What fails is said in one line."""
    logging.basicConfig(level=logging.WARNING, format="socketcluster: %(message)s")
    try:
        work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return DONE  # Whoever reads has enough.
    except CommandError as error:
        tell(str(error))
        return error.status
    except InvalidOptionsError as error:
        tell(str(error))
        return WRONG_USAGE
    except (SocketClusterError, OSError) as error:
        tell(said(error))
        return FAILED
    return DONE


def said(error: BaseException) -> str:
    """What an error says, and its name if that was given to it by the server's application."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, RemoteError) and error.name not in ("RemoteError", "Error"):
        return f"{error.name}: {text}"
    return text or type(error).__name__


def tell(message: str) -> None:
    """Print one line on standard error.

    Control characters, which may come from a server, become spaces.
    """
    with contextlib.suppress(BrokenPipeError):
        print(f"socketcluster: {_CONTROLS.sub(' ', message).strip()}", file=sys.stderr, flush=True)


def set_done(future: asyncio.Future[None]) -> None:
    """Set a future that may be done already."""
    if not future.done():
        future.set_result(None)


async def first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines until the first one ends, and cancel the others.

    Raises what that one raised. If several end at the same time, the first argument counts.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def from_environment(name: str) -> str | None:
    """A variable of the environment; None if it is empty."""
    return os.environ.get(name) or None
