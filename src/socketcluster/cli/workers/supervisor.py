"""The supervisor of `serve --workers N`: starts the workers, restarts them, and passes stops on."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import uvloop

from socketcluster.brokers.registry import BROKER_VARIABLE
from socketcluster.cli import systemd
from socketcluster.cli.exit_status import DONE, FAILED
from socketcluster.cli.hangup import HangupSignal
from socketcluster.cli.logging_setup import set_up_logging
from socketcluster.cli.metrics import serve_workers_metrics
from socketcluster.cli.reporting import describe, report
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.broker import shared_broker
from socketcluster.cli.workers.generation import restart_generation, start_generation
from socketcluster.cli.workers.listening import ListeningSockets, listening_sockets
from socketcluster.cli.workers.slot import Slot
from socketcluster.cli.workers.watchdog import Watchdog, beat_seconds
from socketcluster.errors import SocketClusterError
from socketcluster.server.configured import configured_history_memory, has_configured_key
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.options import AUTH_KEY_VARIABLE

logger: logging.Logger = logging.getLogger("socketcluster.workers")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of `serve` for its workers.

    Attributes:
        workers: how many there are.
        rolling: how many a rolling restart replaces at a time; None for all.
        watchdog: how many seconds an event loop may be silent; 0 for any time.
    """

    workers: int
    rolling: int | None = None
    watchdog: float = 30.0


class Supervisor:
    """Starts the workers, restarts them at SIGHUP, and stops them at SIGINT and SIGTERM.

    Attributes:
        rolling_restarts: how many restarts at SIGHUP were done, and failed.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        sockets: ListeningSockets,
        options: WorkerOptions,
        notifier: systemd.Notifier,
    ) -> None:
        self._slots = slots
        self._sockets = sockets
        self._options = options
        self._notifier = notifier
        self._restart = asyncio.Event()
        self._stops = 0
        self.rolling_restarts: dict[str, int] = {"done": 0, "failed": 0}
        self._work: asyncio.Task[bool] | None = None

    async def run(self) -> int:
        """Serve until a signal, or until a worker fails at the start; return the exit status.

        The first signal drains all workers, a second one ends them at once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        watchdog = Watchdog(
            self._options.watchdog, lambda: [p for slot in self._slots for p in slot.processes]
        )
        helpers = [
            asyncio.ensure_future(watchdog.run()),
            asyncio.ensure_future(self._notifier.keep_alive()),
        ]
        self._work = asyncio.ensure_future(self._serve())
        with HangupSignal(self._restart.set, self._stop):
            await asyncio.wait({self._work})
            for slot in self._slots:
                slot.stop()
            for slot in self._slots:
                await slot.wait_for_end()
        for helper in helpers:
            helper.cancel()
        return DONE if self._work.cancelled() or self._work.result() else FAILED

    async def _serve(self) -> bool:
        """Start the workers and restart them at each SIGHUP, until cancelled; False on failure."""
        processes = await start_generation(self._slots)
        if processes is None:
            return False
        for slot, process in zip(self._slots, processes, strict=True):
            slot.adopt(process)
        print_running(self._sockets.address, len(self._slots))
        self._notifier.ready()
        while True:
            await self._restart.wait()
            self._restart.clear()
            await self._replace_all()

    async def _replace_all(self) -> None:
        self._notifier.reloading()
        logger.info("Restarting: starting %d new workers", len(self._slots))
        if await restart_generation(self._slots, self._options.rolling or len(self._slots)):
            self.rolling_restarts["done"] += 1
            logger.info("Restarted: all workers are new")
        else:
            self.rolling_restarts["failed"] += 1
        self._notifier.ready()

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            for slot in self._slots:
                slot.kill()
            return
        print_stopping()
        self._notifier.stopping()
        # The workers decide how long they go on accepting. A connection that arrives after them
        # must be refused, and not wait in a queue of the supervisor.
        self._sockets.close()
        assert self._work is not None
        self._work.cancel()


def run_workers(settings: Settings, options: WorkerOptions) -> int:
    """Serve with several workers until a signal, and return the exit status."""
    set_up_logging(settings)
    try:
        with ExitStack() as stack:
            environment = dict(os.environ)
            if not has_configured_key():
                environment[AUTH_KEY_VARIABLE] = secrets.token_hex(32)
            notifier = systemd.Notifier(environment)
            for name in systemd.VARIABLES:
                environment.pop(name, None)
            url, folder = stack.enter_context(
                shared_broker(os.environ, configured_history_memory())
            )
            environment[BROKER_VARIABLE] = url
            sockets = stack.enter_context(listening_sockets(settings, options.workers))
            settings = replace(
                settings,
                temporary_folder=folder,
                beat_seconds=beat_seconds(options.watchdog) if options.watchdog else 0.0,
            )

            def slot(index: int) -> Slot:
                fds = sockets.fds(index)
                own = replace(settings, fds=fds, worker=index + 1)
                return Slot(index + 1, own, environment, lambda: sockets.pause(index))

            async def supervise() -> int:
                slots = [slot(index) for index in range(options.workers)]
                supervisor = Supervisor(slots, sockets, options, notifier)
                if settings.metrics_port is None:
                    return await supervisor.run()
                metrics = await serve_workers_metrics(
                    slots, supervisor.rolling_restarts, settings.metrics_port
                )
                try:
                    return await supervisor.run()
                finally:
                    await metrics.close()

            return uvloop.run(supervise())
    except (SocketClusterError, OSError) as error:
        report(describe(error))
        return FAILED
