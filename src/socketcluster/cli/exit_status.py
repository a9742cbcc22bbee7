"""Exit statuses of commands, and one line on standard error for each failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from socketcluster.cli.reporting import describe, report
from socketcluster.errors import InvalidOptionsError, SocketClusterError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandError(Exception):
    """A failure that ends a command. The message is shown to the user."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def usage_error(message: str) -> CommandError:
    """Make the error for arguments that a command cannot accept."""
    return CommandError(message, WRONG_USAGE)


def run_app(app: Callable[..., Any]) -> int:
    """Run a Typer application and return its exit status; report wrong usage in one line."""
    try:
        status = app(prog_name="socketcluster", standalone_mode=False)
    except Exception as error:
        # Typer raises click's exceptions or those of its own copy of click, and exports neither.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        if type(error).__name__ != "NoArgsIsHelpError":  # That one has printed the help already.
            context = getattr(error, "ctx", None)
            path = "socketcluster" if context is None else context.command_path
            report(f"{format_message().rstrip('.')} (see {path} --help)")
        return WRONG_USAGE
    return status if isinstance(status, int) else DONE


def run(work: Coroutine[Any, Any, None]) -> int:
    """Run a command's coroutine in an event loop and return the exit status.

    A failure is reported in one line.
    """
    logging.basicConfig(level=logging.WARNING, format="socketcluster: %(message)s")
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return DONE  # The reader of the output has read all it wants.
    except CommandError as error:
        report(str(error))
        return error.status
    except InvalidOptionsError as error:
        report(str(error))
        return WRONG_USAGE
    except (SocketClusterError, OSError) as error:
        report(describe(error))
        return FAILED
    return DONE
