"""A worker slot: listening sockets, and the process that serves them."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress

from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.process import WorkerProcess

FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""After a run of this length the back-off starts again from its first value."""

PAUSE_SECONDS = 1.0
"""From this back-off on the slot does not listen meanwhile, so that no client waits for it."""

logger: logging.Logger = logging.getLogger("socketcluster.workers")


class Slot:
    """Keeps one process running until it is stopped.

    A rolling restart starts a second process beside the first, which takes the place of the first.

    Args:
        number: from 1.
        settings: those of its processes, with the descriptors of the listening sockets.
        environment: that of its processes.
        pause: stops listening until a process listens again.

    Attributes:
        process: the process that serves this slot.
        processes: all processes of this slot that have not ended.
        restarts: how often its process has ended by itself.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        environment: Mapping[str, str],
        pause: Callable[[], None],
    ) -> None:
        self.number = number
        self.process: WorkerProcess | None = None
        self.processes: set[WorkerProcess] = set()
        self.restarts: int = 0
        self._settings = settings
        self._environment = environment
        self._pause = pause
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._back_off = FIRST_BACK_OFF_SECONDS

    def launch(self) -> WorkerProcess:
        """Start a process."""
        process = WorkerProcess(self.number, self._settings, self._environment)
        self.processes.add(process)
        self._spawn(self._run(process))
        return process

    async def _run(self, process: WorkerProcess) -> None:
        try:
            await process.run()
        finally:
            self.processes.discard(process)

    def adopt(self, process: WorkerProcess) -> WorkerProcess | None:
        """Let a process serve the slot from now on, and return the one before it."""
        former, self.process = self.process, process
        self._spawn(self._keep(process))
        return former

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, process: WorkerProcess) -> None:
        """Start another process when this one has ended, unless it was replaced or stopped."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        await process.ended.wait()
        if self._stopped.is_set() or self.process is not process:
            return
        if loop.time() - started_at >= STEADY_SECONDS:
            self._back_off = FIRST_BACK_OFF_SECONDS
        self.restarts += 1
        status = process.exit_status or 0
        end = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        logger.warning("%s %s; starting another in %g s", process.describe(), end, self._back_off)
        if self._back_off >= PAUSE_SECONDS and not self.processes:
            self._pause()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), self._back_off)
        self._back_off = min(self._back_off * 2, LONGEST_BACK_OFF_SECONDS)
        if not self._stopped.is_set() and self.process is process:
            self.adopt(self.launch())

    def stop(self) -> None:
        """Let all processes drain, and start no others."""
        self._stopped.set()
        for process in self.processes:
            process.stop(peers=False)

    def kill(self) -> None:
        """End all processes at once."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)

    async def wait_for_end(self) -> None:
        """Return when no process is left, after `stop`."""
        while self._tasks:
            await asyncio.wait(self._tasks)
