"""systemd's protocols: notifications of a service's state, its watchdog, and passed sockets.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

FIRST_PASSED_FD = 3

VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
"""The variables that concern only the process that systemd started."""


class Notifier:
    """Tells systemd the state of this service; does nothing if no service manager asks for it."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _watchdog_seconds(environment) if self._address else None

    def ready(self) -> None:
        """The service accepts connections, for the first time or after reloading."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The service restarts its workers, until `ready`."""
        # systemd compares this with the time at which it sent the signal.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The service drains."""
        self._send("STOPPING=1")

    async def keep_alive(self) -> None:
        """Notify the watchdog of systemd from the event loop, twice in each of its periods."""
        while self._watchdog_seconds is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        abstract = self._address.startswith("@")
        address = f"\0{self._address[1:]}" if abstract else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            with suppress(OSError):  # A service manager that does not listen ends no service.
                out.sendto("\n".join(lines).encode(), address)


def _watchdog_seconds(environment: MutableMapping[str, str]) -> float | None:
    """Return the period of systemd's watchdog; None if it does not watch this process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if process and process != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000


def take_passed_fds(environment: MutableMapping[str, str]) -> tuple[int, ...]:
    """Return the descriptors that systemd passed to this process, and remove their variables."""
    process = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return ()
    return tuple(range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(count)))
