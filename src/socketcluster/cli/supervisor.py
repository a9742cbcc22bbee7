"""`serve --workers N`: processes that share the port, and the broker between them.

Each worker listens on the port by itself (SO_REUSEPORT), so that one that dies takes no waiting
connection of another with it; a Unix socket they inherit. A socket pair joins each to the
supervisor: the worker says there that it is ready, and drains when it is closed.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

import msgspec
import uvloop

from socketcluster.brokers.address import parse_address
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.cli.settings import Settings, said
from socketcluster.engines.base import ListenAddress
from socketcluster.engines.uvicorn_server import bind
from socketcluster.errors import SocketClusterError
from socketcluster.server.console import print_running, print_stopping
from socketcluster.server.server import AUTH_KEY_VARIABLE

FIRST_BACK_OFF_SECONDS = 0.1
LONGEST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""A worker that has run for so long is restarted without waiting longer than the first time."""


class Worker:
    """One worker process, started again and again until it is told to stop."""

    def __init__(self, number: int, settings: Settings, environment: dict[str, str]) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self.exit_status: int | None = None
        self._settings = settings
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._signal: int | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Keep it running; returns when it was stopped, or ended before it was ever ready."""
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
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            print(
                f"Worker {self.number} {how}; starting another in {back_off:g} s",
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
                *("-m", "socketcluster.cli.worker", msgspec.json.encode(asdict(settings))),
                env=self._environment,
                pass_fds=fds,
                start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on.
            )
            theirs.close()
            self._send_signal()  # It may have been stopped while it was being started.
            ours.setblocking(False)
            if await asyncio.get_running_loop().sock_recv(ours, 1):
                self.ready.set()
            return await self._process.wait()

    def stop(self, number: int) -> None:
        """Send it a signal, and do not start it again."""
        self._signal = number
        self._stopped.set()
        self._send_signal()

    def _send_signal(self) -> None:
        process = self._process
        if self._signal is not None and process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._signal)


class Supervisor:
    """The workers, from the first start to the last signal."""

    def __init__(self, settings: Settings, workers: int, environment: dict[str, str]) -> None:
        self._workers = [Worker(n, settings, environment) for n in range(1, workers + 1)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._signals = 0

    async def run(self, where: str) -> int:
        """Start all, say so, and wait until they were stopped; the exit status.

        The first worker goes ahead: what is wrong with the target is said once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        first, *others = self._workers
        if await self._started(first):
            started = await asyncio.gather(*(self._started(worker) for worker in others))
            if all(started) and not self._signals:
                print_running(where, len(self._workers))
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= done
            for task in done:
                task.result()
            if not self._signals and done:  # One ended before it was ready.
                self._stop(signal.SIGTERM)
        failed = [w.exit_status for w in self._workers if w.exit_status]
        return 1 if failed and not self._signals else 0

    async def _started(self, worker: Worker) -> bool:
        task = asyncio.ensure_future(worker.run())
        self._tasks.add(task)
        ready = asyncio.ensure_future(worker.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return worker.ready.is_set()

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            print_stopping()
        self._stop(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    def _stop(self, number: int) -> None:
        for worker in self._workers:
            worker.stop(number)


def run_workers(settings: Settings, workers: int) -> int:
    """Serve with several workers until a signal; the exit status."""
    try:
        with ExitStack() as stack:
            environment = dict(os.environ)
            environment.setdefault(AUTH_KEY_VARIABLE, secrets.token_hex(32))
            environment[BROKER_VARIABLE] = stack.enter_context(_engine(os.environ))
            settings, where = stack.enter_context(_address(settings))
            return uvloop.run(Supervisor(settings, workers, environment).run(where))
    except (SocketClusterError, OSError) as error:
        print(f"socketcluster: {said(error)}", file=sys.stderr)
        return 1


@contextmanager
def _engine(environment: os._Environ[str]) -> Iterator[str]:
    """The URL of the broker between the workers; run its engine if that is ZeroMQ."""
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
def _address(settings: Settings) -> Iterator[tuple[Settings, str]]:
    """The settings of workers that share an address, and the address for people."""
    if settings.uds is not None:
        with bind(ListenAddress(uds=settings.uds)) as bound:
            os.set_inheritable(bound.fileno(), True)
            try:
                yield replace(settings, fd=bound.fileno()), f"unix:{settings.uds}"
            finally:
                os.unlink(settings.uds)
        return
    # Without SO_REUSEPORT first: another server's port is not to be shared.
    with bind(ListenAddress(settings.host, settings.port)) as bound:
        port = bound.getsockname()[1]
    with bind(ListenAddress(settings.host, port, reuse_port=True)):
        settings = replace(settings, port=port, reuse_port=True)
        yield settings, settings.address(port)
