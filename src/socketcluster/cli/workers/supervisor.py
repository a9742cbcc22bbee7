"""`serve --workers N`: worker processes that share a port, and the broker that connects them.

Each worker opens its own listening socket on the port (SO_REUSEPORT), so that a worker that dies
loses no connections that wait for another. A Unix socket is inherited instead. A link connects each
worker to the supervisor: the worker says when it is ready, and drains at the end of the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

import msgspec
import uvloop

from socketcluster.brokers.address import parse_address
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.cli.exit_status import DONE, FAILED
from socketcluster.cli.reporting import describe, report
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.link import WorkerLink
from socketcluster.engines.base import ListenAddress
from socketcluster.engines.bound_socket import bind
from socketcluster.errors import SocketClusterError
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.server import AUTH_KEY_VARIABLE

FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""After a run of this length the back-off starts again from its first value."""


class Worker:
    """One worker process, restarted until it is stopped."""

    ready: asyncio.Event

    def __init__(self, number: int, settings: Settings, environment: dict[str, str]) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self.exit_status: int | None = None
        self.link: WorkerLink | None = None
        self._settings = settings
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._signal: int | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Keep the process running; return when stopped, or if it ends before it was ever ready."""
        back_off = FIRST_BACK_OFF_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            started_at = loop.time()
            status = await self._run_once()
            self.exit_status = status
            if self._stopped.is_set() or not self.ready.is_set():
                return
            if loop.time() - started_at >= STEADY_SECONDS:
                back_off = FIRST_BACK_OFF_SECONDS
            end = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            print(
                f"Worker {self.number} {end}; starting another in {back_off:g} s",
                file=sys.stderr,
                flush=True,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)

    async def _run_once(self) -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fds = [theirs.fileno()]
            if self._settings.fd is not None:
                fds.append(self._settings.fd)
            settings = replace(self._settings, supervisor_fd=theirs.fileno())
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "socketcluster.cli.workers", msgspec.json.encode(asdict(settings))),
                env=self._environment,
                pass_fds=fds,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which passes it on.
            )
            theirs.close()
            self._send_signal()  # If `stop` was called while the process was being started.
            ours.setblocking(False)
            self.link = WorkerLink(self)
            await self.link.open(ours)
            try:
                return await self._process.wait()
            finally:
                self.link.close()

    def worker_ready(self, stop_seconds: float) -> None:
        """See `LinkOwner`."""
        self.ready.set()

    def worker_beat(self) -> None:
        """See `LinkOwner`."""

    def stop(self, number: int) -> None:
        """Send the process a signal, and do not restart it."""
        self._signal = number
        self._stopped.set()
        self._send_signal()

    def _send_signal(self) -> None:
        process = self._process
        if self._signal is not None and process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._signal)


class Supervisor:
    """Starts the workers, and passes signals on to them."""

    def __init__(self, settings: Settings, workers: int, environment: dict[str, str]) -> None:
        self._workers = [Worker(n, settings, environment) for n in range(1, workers + 1)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._signals = 0

    async def run(self, address: str) -> int:
        """Start all workers, print the address, wait for their end and return the exit status.

        The first worker is started alone, so that a fault of the target is reported once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        first, *others = self._workers
        if await self._start(first):
            started = await asyncio.gather(*(self._start(worker) for worker in others))
            if all(started) and not self._signals:
                print_running(address, len(self._workers))
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= done
            for task in done:
                task.result()
            if not self._signals and done:  # A worker ended before it was ready.
                self._stop(signal.SIGTERM)
        failed = [w.exit_status for w in self._workers if w.exit_status]
        return FAILED if failed and not self._signals else DONE

    async def _start(self, worker: Worker) -> bool:
        task = asyncio.ensure_future(worker.run())
        self._tasks.add(task)
        ready = asyncio.ensure_future(worker.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return worker.ready.is_set()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            print_stopping()
        self._stop(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    def _stop(self, number: int) -> None:
        for worker in self._workers:
            worker.stop(number)


def run_workers(settings: Settings, workers: int) -> int:
    """Serve with several workers until a signal, and return the exit status."""
    try:
        with ExitStack() as stack:
            environment = dict(os.environ)
            environment.setdefault(AUTH_KEY_VARIABLE, secrets.token_hex(32))
            environment[BROKER_VARIABLE] = stack.enter_context(_broker(os.environ))
            settings, address = stack.enter_context(_shared_address(settings))
            return uvloop.run(Supervisor(settings, workers, environment).run(address))
    except (SocketClusterError, OSError) as error:
        report(describe(error))
        return FAILED


@contextmanager
def _broker(environment: Mapping[str, str]) -> Generator[str, None, None]:
    """Yield the URL of the broker between the workers; run the proxy if that is ZeroMQ."""
    url = environment.get(BROKER_VARIABLE)
    folder = None
    if not url:
        folder = tempfile.mkdtemp(prefix="socketcluster-")
        url = f"ipc://{folder}/broker"
    try:
        create_broker(url)
        address = parse_address(url)
        if address.scheme != "ipc":
            yield url
            return
        from socketcluster.brokers.zeromq import Proxy, path_of

        proxy = Proxy(path_of(address))
        proxy.start()
        try:
            yield url
        finally:
            proxy.stop()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _shared_address(settings: Settings) -> Generator[tuple[Settings, str], None, None]:
    """Yield settings for workers that share an address, and the address that is printed."""
    if settings.uds is not None:
        with bind(ListenAddress(uds=settings.uds)) as bound:
            os.set_inheritable(bound.fileno(), True)
            try:
                yield replace(settings, fd=bound.fileno()), f"unix:{settings.uds}"
            finally:
                os.unlink(settings.uds)
        return
    # First without SO_REUSEPORT, so that the port of another program is refused, not shared.
    with bind(ListenAddress(settings.host, settings.port)) as bound:
        port = bound.getsockname()[1]
    with bind(ListenAddress(settings.host, port, reuse_port=True)):
        settings = replace(settings, port=port, reuse_port=True)
        yield settings, settings.address(port)
