"""The broker between the workers, and the folder of its sockets.

The folder is removed at the end. If the supervisor is killed, its workers remove it; if all are
killed, the next supervisor does: each keeps its own folder locked. systemd-tmpfiles leaves locked
folders alone, too.

Abstract sockets would leave nothing behind, but any user of the machine could connect to them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from socketcluster.brokers.address import parse_address
from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker

PREFIX = "socketcluster-workers-"
NAME = "broker"
FILES = {f"{NAME}.sock", f"{NAME}.lock"}
"""The files of the ZeroMQ proxy."""


@contextmanager
def shared_broker(
    environment: Mapping[str, str], history_memory: int = HISTORY_MEMORY
) -> Generator[tuple[str, str | None], None, None]:
    """Yield the URL of the workers' broker, and the folder to remove; run a proxy for ZeroMQ.

    The proxy stores `history_memory` bytes, unless the URL says so.
    """
    url = environment.get(BROKER_VARIABLE)
    if url:
        with _running(url, history_memory):
            yield url, None
        return
    with _temporary_folder() as folder:
        url = f"ipc://{folder}/{NAME}"
        with _running(url, history_memory):
            yield url, folder


@contextmanager
def _running(url: str, history_memory: int) -> Generator[None, None, None]:
    create_broker(url)
    address = parse_address(url)
    if address.scheme != "ipc":
        yield
        return
    from socketcluster.brokers.zeromq import proxy_of

    proxy = proxy_of(address, history_memory)
    proxy.start()
    try:
        yield
    finally:
        proxy.stop()


@contextmanager
def _temporary_folder() -> Generator[str, None, None]:
    remove_abandoned_folders()
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        lock = _lock(folder)
        if lock is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned_folders() -> None:
    """Remove folders of supervisors that were killed together with their workers.

    A folder with other files is not a supervisor's, and stays.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(str(folder))
        if lock is not None:
            with suppress(OSError):  # A worker may remove it now.
                if {path.name for path in folder.iterdir()} <= FILES:
                    shutil.rmtree(folder)
            os.close(lock)


def _lock(folder: str) -> int | None:
    """Lock one of this user's folders; None if another process has locked or removed it."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked, there = os.fstat(lock), os.stat(folder, follow_symlinks=False)
        if locked.st_uid == os.getuid() and os.path.samestat(locked, there):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
