"""Import an AGServer, serve it, drain it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import logging
import os
import socket
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import uvloop

from socketcluster import AGServer
from socketcluster.brokers.registry import create_broker
from socketcluster.cli.settings import Settings, said
from socketcluster.errors import SocketClusterError
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.signals import StopSignals

_STOP_SECONDS = 30
"""How long `--reload` lets a server drain."""


class TargetError(Exception):
    """The target of `serve` is no AGServer; the message says why.

    If the target's own code raised an error, that is the cause.
    """


def run(settings: Settings, *, reload: bool = False) -> int:
    """Serve until a signal; the exit status."""
    if reload:
        return _run_reloading(settings)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        _check(settings)
        uvloop.run(serve(settings))
    except (TargetError, SocketClusterError, OSError) as error:
        if isinstance(error, TargetError) and error.__cause__ is not None:
            _print_traceback(error.__cause__)
        print(f"socketcluster: {said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # Before it served.
        return 130
    return 0


def _print_traceback(error: BaseException) -> None:
    """Print the traceback of an error that the target's code raised.

    The leading lines of this command and of the import machinery are left out.
    """
    outside = (__file__, importlib.__file__)
    found = error.__traceback__
    while found is not None:
        file = found.tb_frame.f_code.co_filename
        if file not in outside and not file.startswith("<frozen importlib"):
            break
        found = found.tb_next
    traceback.print_exception(type(error), error, found)


async def load(target: str | None) -> AGServer:
    """The AGServer that a target names, or that the callable it names returns; else the demo.

    Raises:
        TargetError: it names none.
    """
    if target is None:
        from socketcluster.demo import create_demo_server

        return create_demo_server()
    found = _named(target)
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
        raise TargetError(f"{target!r} is no AGServer but {type(found).__name__}")
    return found


def _named(target: str) -> object:
    module_name, separator, attributes = target.partition(":")
    if not separator or not module_name or not attributes:
        raise TargetError(f"The target {target!r} must be of the form module:attribute")
    sys.path.insert(0, os.getcwd())
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        text = (
            f"Cannot import {target!r}: there is no module {error.name!r} in {os.getcwd()} "
            "or among the installed packages"
        )
        if f"{module_name}.".startswith(f"{error.name}."):  # The target itself is not there.
            raise TargetError(text) from None
        raise TargetError(text) from error
    except (Exception, SystemExit) as error:
        raise TargetError(f"Cannot import {target!r}: {type(error).__name__}: {error}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise TargetError(f"The module {module_name!r} has no attribute {attributes!r}")
        found = getattr(found, attribute)
    return found


def _spare_the_garbage_collector() -> None:
    """Exempt imported objects from garbage collection, and collect less often.

    Imported objects stay, and so do most objects of a connection. Scanning them again and again
    would take a third of the time that it takes to establish a connection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)


def _check(settings: Settings) -> None:
    for option, path in (("certificate", settings.ssl_certfile), ("key", settings.ssl_keyfile)):
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise OSError(f"Cannot read the {option} {path!r}: {error.strerror}") from error
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        raise OSError("A key (--ssl-keyfile) needs a certificate (--ssl-certfile)")
    if settings.broker is not None:
        create_broker(settings.broker)  # Before the target's own code would fail with it.


async def serve(settings: Settings) -> None:
    """Listen until SIGINT, SIGTERM or the supervisor's end, then drain.

    A second signal stops at once.
    """
    # In the loop: a function that makes the server may start tasks.
    server = await load(settings.target)
    try:
        if settings.broker is not None and server.options.broker_engine is not None:
            raise TargetError(
                f"{settings.target!r} chooses its broker itself (broker_engine): "
                "--broker would have no effect"
            )
        await server.listen(
            settings.port,
            settings.host,
            uds=settings.uds,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            fd=settings.fd,
            reuse_port=settings.reuse_port,
        )
    except BaseException:
        await server.close()
        raise
    _spare_the_garbage_collector()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    supervisor: socket.socket | None = None
    if settings.supervisor_fd is None:
        print_running(settings.address(server.source_port))
    else:
        supervisor = socket.socket(fileno=settings.supervisor_fd)
        supervisor.sendall(b"1")
        loop.add_reader(supervisor, stopped.set)

    def stop() -> None:
        if supervisor is None and not stopped.is_set():
            print_stopping()
        stopped.set()

    # `--reload` passes on a Ctrl-C that this process got already.
    with StopSignals(stop, forgiving=settings.reloading):
        await stopped.wait()
        if supervisor is not None:
            loop.remove_reader(supervisor)
            supervisor.close()
        await server.close()


def _run_reloading(settings: Settings) -> int:
    from watchfiles import Change, DefaultFilter, run_process

    not_ignored = DefaultFilter()

    def is_source(change: Change, path: str) -> bool:
        return path.endswith(".py") and not_ignored(change, path)

    def tell(changes: object) -> None:
        print("Restarting: files have changed", flush=True)

    logging.getLogger("watchfiles").setLevel(logging.ERROR)
    child = replace(settings, reloading=True)
    run_process(
        os.getcwd(),
        target=_run_child,
        args=(child,),
        callback=tell,
        watch_filter=is_source,
        sigint_timeout=_STOP_SECONDS,
    )
    return 0


def _run_child(settings: Settings) -> None:
    sys.exit(run(settings))
