"""Fixtures: servers on port 0 that are closed, tasks that are stopped."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from interop.matrix import table
from interop.servers import npm_server
from socketcluster import AGClientSocket, AGServer
from socketcluster.server import watchdog
from support import Running

MakeServer = Callable[..., Awaitable[AGServer]]
MakeClient = Callable[..., AGClientSocket]


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Hundreds of processes of tests import the package: only the first should have to compile it."""


ONE_WORKER = {
    "tests/benchmark/": "benchmark",
    "tests/conformance/test_brokers.py": "brokers",
    "tests/performance/": "performance",
    "tests/server/test_cost.py": "performance",
    "tests/type_checking/test_editor.py": "editor",
}
"""Files whose tests share something that takes long to make, or that would disturb each other:
one worker runs those of a group, one after the other."""


FIGURES = ("Soak", "Rolling restart")
"""What tests record to be printed at the end, by `record_property`."""


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Shares out single tests, and groups as a whole.

    Like `--dist loadgroup`, whose marks pytest-xdist 3.8 loses with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        for start, group in ONE_WORKER.items():
            if nodeid.startswith(start):
                return group
        return nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a group in one worker, with `--dist loadgroup`."""
    return _Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> None:
    """Have garbage collections look at the objects of this module's tests alone.

    What pytest keeps of thousands of tests would make each of them take a fifth of a second.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionstart() -> None:
    """Let Ctrl-C end the processes that tests start even where it is ignored, as a shell has it
    for what runs in the background: what this process handles, those begin with the default of."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def patient_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no server log that its loop was blocked: on a busy machine it may be."""
    monkeypatch.setattr(watchdog, "LATE_SECONDS", 60.0)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Tasks of the test."""
    tasks = Running()
    yield tasks
    await tasks.stop()


@pytest.fixture
async def make_server() -> AsyncIterator[MakeServer]:
    """Make servers that listen; they are closed at the end."""
    servers: list[AGServer] = []

    async def make(server: AGServer | None = None, **options: Any) -> AGServer:
        options.setdefault("drain_timeout", 100)
        server = AGServer(**options) if server is None else server
        servers.append(server)
        await server.listen(0)
        return server

    yield make
    for server in servers:
        await server.close()


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Make clients of a server (or a port); they are closed at the end."""
    clients: list[AGClientSocket] = []

    def make(server: AGServer | int, **options: Any) -> AGClientSocket:
        port = server if isinstance(server, int) else server.source_port
        client = AGClientSocket(**{"hostname": "127.0.0.1", "port": port, **options})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.disconnect()
        await client.wait_closed()


@pytest.fixture(scope="session")
def npm_20() -> Iterator[int]:
    """The port of a real socketcluster-server 20."""
    with npm_server("server20") as port:
        yield port


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the interop matrices, and the figures that tests recorded."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
    ]
    for report in reports:
        for name, figures in report.user_properties:
            if name in FIGURES:
                terminalreporter.section(name)
                terminalreporter.write_line(figures)
    for kind, title in (("client", "Clients understood"), ("server", "Servers understood")):
        if lines := table(reports, kind):
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)
