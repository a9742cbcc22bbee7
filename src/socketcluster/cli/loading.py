"""Load the server that `serve` is asked to run."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback

from socketcluster import AGServer
from socketcluster.errors import SocketClusterError


class TargetError(Exception):
    """The target of `serve` is not an AGServer. Its cause, if any, is an error of its own code."""


async def load_server(target: str | None) -> AGServer:
    """Return the AGServer at `module:attribute`, or the one that a function there returns.

    Without a target, return the demo.

    Raises:
        TargetError: the target cannot be imported, fails, or is not an AGServer.
    """
    if target is None:
        from socketcluster.demo import create_demo_server

        return create_demo_server()
    found = _import_attribute(target)
    if callable(found) and not isinstance(found, AGServer):
        try:
            found = found()
            if inspect.isawaitable(found):
                found = await found
        except SocketClusterError:
            raise
        except Exception as error:
            raise TargetError(f"{target!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, AGServer):
        raise TargetError(f"{target!r} is not an AGServer but {type(found).__name__}")
    return found


def print_target_traceback(error: BaseException) -> None:
    """Print the traceback of the target's own code, without this module and the import system."""
    outside = (__file__, importlib.__file__)
    frames = error.__traceback__
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if file not in outside and not file.startswith("<frozen importlib"):
            break
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def _import_attribute(target: str) -> object:
    module_name, separator, attributes = target.partition(":")
    if not separator or not module_name or not attributes:
        raise TargetError(f"The target {target!r} must be of the form module:attribute")
    found = _import_module(module_name, target)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise TargetError(f"The module {module_name!r} has no attribute {attributes!r}")
        found = getattr(found, attribute)
    return found


def _import_module(name: str, target: str) -> object:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = (
            f"Cannot import {target!r}: there is no module {error.name!r} in {os.getcwd()} "
            "or among the installed packages"
        )
        if f"{name}.".startswith(f"{error.name}."):  # The target itself is missing.
            raise TargetError(text) from None
        raise TargetError(text) from error
    except (Exception, SystemExit) as error:
        raise TargetError(f"Cannot import {target!r}: {type(error).__name__}: {error}") from error
