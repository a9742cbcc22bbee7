"""`serve` in one process: listen, wait for a signal, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from socketcluster import AGServer
from socketcluster.brokers.registry import create_broker
from socketcluster.cli.exit_status import DONE, FAILED, INTERRUPTED
from socketcluster.cli.loading import TargetError, load_server, print_target_traceback
from socketcluster.cli.reporting import describe, report
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.link import SupervisorLink
from socketcluster.errors import SocketClusterError
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.signals import StopSignals

_RELOAD_DRAIN_SECONDS = 30
"""How long `--reload` lets the old process drain."""


def run(settings: Settings, *, reload: bool = False) -> int:
    """Serve until a signal, and return the exit status."""
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
            print_target_traceback(error.__cause__)
        report(describe(error))
        return FAILED
    except KeyboardInterrupt:  # Before the server listened.
        return INTERRUPTED
    return DONE


def _check(settings: Settings) -> None:
    """Check the options that need no server, before the target's code runs."""
    for option, path in (("certificate", settings.ssl_certfile), ("key", settings.ssl_keyfile)):
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise OSError(f"Cannot read the {option} {path!r}: {error.strerror}") from error
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        raise OSError("A key (--ssl-keyfile) needs a certificate (--ssl-certfile)")
    if settings.broker is not None:
        create_broker(settings.broker)


async def serve(settings: Settings) -> None:
    """Listen until SIGINT, SIGTERM or the end of the supervisor, then drain.

    A second signal ends the process at once.
    """
    # Inside the event loop, because a function that makes the server may start tasks.
    server = await load_server(settings.target)
    try:
        await _listen(server, settings)
    except BaseException:
        await server.close()
        raise
    _relieve_garbage_collector()
    stopped = asyncio.Event()
    link: SupervisorLink | None = None
    if settings.supervisor_fd is None:
        print_running(settings.address(server.source_port))
    else:
        link = SupervisorLink(lambda: None, lambda _: stopped.set(), stopped.set)
        await link.open(settings.supervisor_fd)
        link.ready(server.options.milliseconds("drain_timeout") / 1000, 1)

    def stop() -> None:
        if link is None and not stopped.is_set():
            print_stopping()
        stopped.set()

    # `--reload` sends Ctrl-C a second time, which must not end the draining.
    with StopSignals(stop, forgiving=settings.reloading):
        await stopped.wait()
        await server.close()
        if link is not None:
            link.close()


async def _listen(server: AGServer, settings: Settings) -> None:
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


def _relieve_garbage_collector() -> None:
    """Freeze imported objects, and collect less often.

    Modules stay, and so does most of what a connection allocates. With the default thresholds the
    collector takes a third of the time of opening a connection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 5)


def _run_reloading(settings: Settings) -> int:
    from watchfiles import Change, DefaultFilter, run_process

    default_filter = DefaultFilter()

    def is_source(change: Change, path: str) -> bool:
        return path.endswith(".py") and default_filter(change, path)

    def print_restarting(changes: object) -> None:
        print("Restarting: files have changed", flush=True)

    logging.getLogger("watchfiles").setLevel(logging.ERROR)
    run_process(
        os.getcwd(),
        target=_run_child,
        args=(replace(settings, reloading=True),),
        callback=print_restarting,
        watch_filter=is_source,
        sigint_timeout=_RELOAD_DRAIN_SECONDS,
    )
    return DONE


def _run_child(settings: Settings) -> None:
    sys.exit(run(settings))
