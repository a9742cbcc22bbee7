"""systemd's notifications, sent to a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.serving import SECONDS, Serve, renew
from socketcluster.cli.systemd import Notifier, take_passed_fds
from support import soon


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    async def receive(self) -> str:
        received = asyncio.get_running_loop().sock_recv(self._socket, 1000)
        return (await asyncio.wait_for(received, SECONDS)).decode()

    async def state(self) -> str:
        """Return the next notification besides those for the watchdog."""
        while (received := await self.receive()) == "WATCHDOG=1":
            pass
        return received

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = f"@sc-{secrets.token_hex(8)}"
    if request.param == "path":
        address = str(tmp_path / "notify")
    manager = Manager(address)
    yield manager
    manager.close()


async def test_workers(serve: Serve, manager: Manager, tmp_path: Path) -> None:
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    served = await serve("mine:server", "--port", "0", "--workers", "2", variables=variables)
    assert await manager.state() == "READY=1"
    await served.port()
    for _ in range(3):
        assert await manager.receive() == "WATCHDOG=1"
    served.process.send_signal(signal.SIGHUP)
    reloading = (await manager.state()).split("\n")
    assert reloading[0] == "RELOADING=1"
    assert int(reloading[1].removeprefix("MONOTONIC_USEC=")) > 0
    assert await manager.state() == "READY=1"
    (tmp_path / "mine.py").write_text("")
    served.process.send_signal(signal.SIGHUP)
    assert (await manager.state()).startswith("RELOADING=1")
    assert await manager.state() == "READY=1"  # The old workers serve on.
    renew(tmp_path, "mended")
    served.process.terminate()
    assert await manager.state() == "STOPPING=1"
    assert await served.wait() == 0


async def test_one_process(serve: Serve, manager: Manager) -> None:
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    served = await serve("mine:server", "--port", "0", variables=variables)
    assert await manager.state() == "READY=1"
    for _ in range(3):
        assert await manager.receive() == "WATCHDOG=1"
    served.process.terminate()
    assert await manager.state() == "STOPPING=1"
    assert await served.wait() == 0


async def test_the_watchdog_of_another_process_is_left_alone(manager: Manager) -> None:
    own = str(os.getpid())
    for variables, watched in (
        ({"WATCHDOG_USEC": "10000", "WATCHDOG_PID": own}, True),
        ({"WATCHDOG_USEC": "10000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "-1"}, False),
        ({}, False),
    ):
        notifier = Notifier({"NOTIFY_SOCKET": manager.address, **variables})
        keeping = asyncio.ensure_future(notifier.keep_alive())
        if watched:
            assert await manager.receive() == "WATCHDOG=1"
            keeping.cancel()
        else:
            await soon(keeping)  # It ends at once.


async def test_no_manager_or_a_deaf_one() -> None:
    for variables in ({}, {"NOTIFY_SOCKET": "/nowhere"}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier(dict(variables))
        notifier.ready()
        notifier.reloading()
        notifier.stopping()


def test_passed_descriptors_are_those_of_this_process() -> None:
    own = str(os.getpid())
    for variables, fds in (
        ({"LISTEN_PID": own, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, (3, 4)),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": own, "LISTEN_FDS": "x"}, ()),
        ({"LISTEN_PID": own}, ()),
        ({}, ()),
    ):
        environment = {"OTHER": "1", **variables}
        assert take_passed_fds(environment) == fds
        assert environment == {"OTHER": "1"}
