"""`serve` in one process: listen, wait for a signal, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from socketcluster import AGServer
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.cli.exit_status import DONE, FAILED, INTERRUPTED
from socketcluster.cli.hangup import HangupSignal, has_terminal
from socketcluster.cli.loading import TargetError, load_server, print_target_traceback
from socketcluster.cli.logging_setup import set_up_logging
from socketcluster.cli.metrics import serve_metrics
from socketcluster.cli.reporting import describe, report
from socketcluster.cli.settings import Settings
from socketcluster.cli.systemd import Notifier
from socketcluster.cli.workers.link import SupervisorLink
from socketcluster.config.defaults import defaults
from socketcluster.config.toml_file import TomlFile
from socketcluster.errors import SocketClusterError
from socketcluster.runtime.exit_limit import ExitLimit
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.signals import StopSignals

_RELOAD_DRAIN_SECONDS = 30
"""How long `--reload` lets the old process drain."""

CLOSE_SECONDS = 5.0
"""How long a worker may take to close after its drain, before the supervisor kills it."""

if TYPE_CHECKING:
    from socketcluster.metrics.port import MetricsPort

logger: logging.Logger = logging.getLogger("socketcluster")


def run(settings: Settings, *, reload: bool = False) -> int:
    """Serve until a signal, and return the exit status."""
    if reload:
        return _run_reloading(settings)
    try:
        set_up_logging(settings)
        _configure(settings)
        _check(settings)
        limit = ExitLimit()
        with limit.after():
            uvloop.run(serve(settings, limit))
    except (TargetError, SocketClusterError, OSError) as error:
        if isinstance(error, TargetError) and error.__cause__ is not None:
            print_target_traceback(error.__cause__)
        report(describe(error))
        return FAILED
    except KeyboardInterrupt:  # Before the server listened.
        return INTERRUPTED
    return DONE


def check(settings: Settings) -> int:
    """Check the files and the broker of a configuration, and return the exit status."""
    try:
        _check(replace(settings, broker=os.environ.get(BROKER_VARIABLE) or None))
    except (SocketClusterError, OSError) as error:
        report(describe(error))
        return FAILED
    print(f"{settings.config or 'The environment'}: no fault found")
    return DONE


def _configure(settings: Settings) -> None:
    """Read the configuration before the target's code runs; a worker reads the file anew."""
    if settings.config is not None:
        defaults.file = TomlFile.read(settings.config)
    defaults.warns = False  # The command did.


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


async def serve(settings: Settings, limit: ExitLimit) -> None:
    """Listen until SIGINT, SIGTERM or the end of the supervisor, then drain.

    A second signal ends the process at once.
    """
    # Inside the event loop, because a function that makes the server may start tasks.
    limit.loop = asyncio.get_running_loop()
    server = await load_server(settings.target)
    server.lifecycle.exit_limit = limit
    metrics: MetricsPort | None = None
    is_worker = settings.supervisor_fd is not None
    try:
        await _listen(server, settings)
        if settings.metrics_port is not None and not is_worker:
            metrics = await serve_metrics(server, settings.metrics_port)
    except BaseException:
        await server.close()
        raise
    _relieve_garbage_collector()
    stopping = asyncio.Event()
    notifier = Notifier(os.environ)

    def stop() -> None:
        if not is_worker and not stopping.is_set():
            print_stopping()
            notifier.stopping()
        stopping.set()

    # `--reload` sends Ctrl-C a second time, which must not end the draining.
    signals = StopSignals(stop, forgiving=settings.reloading, received=server.lifecycle.limit_exit)
    with signals, HangupSignal(_refuse_restart, stop):
        link: SupervisorLink | None = None
        if is_worker:
            link = await _link_to_supervisor(server, settings, stopping)
        else:
            print_running(settings.address(server.source_port))
            notifier.ready()
        keep_alive = asyncio.ensure_future(notifier.keep_alive())
        await stopping.wait()
        await server.close()
        keep_alive.cancel()
        if metrics is not None:
            await metrics.close()
        if link is not None:
            link.close()


def _refuse_restart() -> None:
    logger.warning(
        "SIGHUP restarts the workers of 'serve --workers N', and is sent to that process; "
        "this one serves alone or is a worker, and goes on"
    )


async def _link_to_supervisor(
    server: AGServer, settings: Settings, stopping: asyncio.Event
) -> SupervisorLink:
    """Join a worker to its supervisor, and report that it is ready."""
    assert settings.supervisor_fd is not None

    def leave_together() -> None:
        if server.node_messages is not None:
            server.node_messages.siblings_leave = True
        stopping.set()

    def drain(peers: bool) -> None:
        if peers:
            server.lifecycle.add_peers(lambda: True)
            stopping.set()
        else:
            leave_together()

    def lost() -> None:
        if settings.temporary_folder is not None:
            shutil.rmtree(settings.temporary_folder, ignore_errors=True)
        leave_together()

    # The server itself goes on, so that connections which are accepted already are served.
    stop_accepting = server.lifecycle.listening.stop_accepting
    link = SupervisorLink(stop_accepting, drain, lost)
    if server.metrics is not None:
        link.answer("metrics", server.metrics.packed)
    await link.open(settings.supervisor_fd)
    options = server.options
    # The drain spreads the closes within its timeout.
    drain_ms = options.milliseconds("drain_delay") + options.milliseconds("drain_timeout")
    longest = drain_ms / 1000 + CLOSE_SECONDS
    link.ready(longest, settings.beat_seconds)
    return link


async def _listen(server: AGServer, settings: Settings) -> None:
    if settings.broker is not None and server.options.broker_engine is not None:
        raise TargetError(
            f"{settings.target!r} chooses its broker itself (broker_engine): "
            "--broker would have no effect"
        )
    for fd in settings.fds or (None,):
        await server.listen(
            settings.port,
            settings.host,
            uds=settings.uds,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            fd=fd,
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

    had_terminal = has_terminal()

    def hang_up(*_: object) -> None:
        if had_terminal and not has_terminal():
            raise KeyboardInterrupt
        _refuse_restart()

    logging.getLogger("watchfiles").setLevel(logging.ERROR)
    former = signal.signal(signal.SIGHUP, hang_up)
    try:
        run_process(
            os.getcwd(),
            target=_run_child,
            args=(replace(settings, reloading=True),),
            callback=print_restarting,
            watch_filter=is_source,
            sigint_timeout=_RELOAD_DRAIN_SECONDS,
        )
    finally:
        signal.signal(signal.SIGHUP, former)
    return DONE


def _run_child(settings: Settings) -> None:
    sys.exit(run(settings))
