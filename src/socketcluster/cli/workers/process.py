"""One worker process, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace

import msgspec

from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.link import WorkerLink
from socketcluster.cli.workers.watchdog import Watch

logger: logging.Logger = logging.getLogger("socketcluster.workers")


class WorkerProcess:
    """A worker process with its link.

    Attributes:
        link: the supervisor's end of the link.
        watch: the times that the watchdog looks at.
        started: True once the process is ready; False if it ended before.
        ended: whether the process has ended.
        exit_status: as `subprocess.Popen.returncode`, once it has ended.
    """

    def __init__(self, number: int, settings: Settings, environment: Mapping[str, str]) -> None:
        self.number = number
        self.link: WorkerLink = WorkerLink(self)
        self.watch: Watch = Watch()
        self.started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Event = asyncio.Event()
        self.exit_status: int | None = None
        self._settings = settings
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._signals: list[int] = []

    async def run(self) -> None:
        """Start the process, and return at its end."""
        try:
            self.exit_status = await self._run()
        except OSError as error:
            logger.error("Cannot start worker %d: %s", self.number, error)
            self.exit_status = 1
        finally:
            self.ended.set()
            if not self.started.done():
                self.started.set_result(False)

    async def _run(self) -> int:
        if self._signals:  # It was stopped before it was started.
            return -self._signals[0]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            settings = replace(self._settings, supervisor_fd=theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "socketcluster.cli.workers", msgspec.json.encode(asdict(settings))),
                env=self._environment,
                pass_fds=(theirs.fileno(), *settings.fds),
                start_new_session=True,  # Ctrl-C reaches the supervisor only.
            )
            self._process = process
            for number in self._signals:  # Those that were sent while it was being started.
                self.send_signal(number)
            theirs.close()
            ours.setblocking(False)
            await self.link.open(ours)
            try:
                return await process.wait()
            finally:
                self.link.close()

    @property
    def is_ready(self) -> bool:
        """Whether the process has become ready, and has not ended."""
        return not self.ended.is_set() and self.started.done() and self.started.result()

    def describe(self) -> str:
        """Return its name for the log."""
        pid = "not started" if self._process is None else f"process {self._process.pid}"
        return f"Worker {self.number} ({pid})"

    def worker_ready(self, stop_seconds: float) -> None:
        """See `LinkOwner`."""
        self.watch.silent = 0.0
        self.watch.starting = None
        self.watch.stop_seconds = stop_seconds
        if not self.started.done():
            self.started.set_result(True)

    def worker_beat(self) -> None:
        """See `LinkOwner`."""
        self.watch.silent = 0.0

    def stop(self, *, peers: bool) -> None:
        """Let the process drain and end; `peers`: whether clients find another worker at once.

        A process that is not ready yet ends without a drain.
        """
        if self.watch.stopping is None:
            self.watch.stopping = 0.0
        if self.is_ready:
            self.link.drain(peers=peers)
        else:
            self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Send the process a signal, now or once it is started."""
        if self._process is None:
            self._signals.append(number)
        elif self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
