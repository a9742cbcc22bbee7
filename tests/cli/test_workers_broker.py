"""The folder of the broker between workers: removed however the supervisor ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cli.serving import SECONDS, Serve, clients_on_all, stop_process
from socketcluster.brokers.registry import BROKER_VARIABLE, create_broker
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Retention
from socketcluster.cli.workers.broker import FILES, PREFIX, remove_abandoned_folders, shared_broker


def folders(where: Path) -> list[Path]:
    return list(where.glob(f"{PREFIX}*"))


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - a folder has no event.
            await asyncio.sleep(0.01)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files with a short path, as sockets need."""
    found = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    return found


async def test_a_killed_supervisor_leaves_no_folder(serve: Serve, folder: Path) -> None:
    variables = {"TMPDIR": str(folder)}
    served = await serve("mine:server", "--port", "0", "--workers", "2", variables=variables)
    port = await served.port()
    async with AsyncExitStack() as stack:
        await clients_on_all(stack, port, 2)
        served.process.send_signal(signal.SIGHUP)
        await served.line("Restarted")  # Workers that end in order leave the folder alone.
        assert len(folders(folder)) == 1
        served.process.kill()
        await served.wait()
    await eventually(lambda: not folders(folder))


async def test_the_next_supervisor_removes_an_abandoned_folder(serve: Serve, folder: Path) -> None:
    variables = {"TMPDIR": str(folder)}
    served = await serve("mine:server", "--port", "0", "--workers", "2", variables=variables)
    port = await served.port()
    async with AsyncExitStack() as stack:
        pids = await clients_on_all(stack, port, 2)
        (abandoned,) = folders(folder)
        remove_abandoned_folders()
        assert abandoned.exists()  # It is locked.
        for pid in pids:
            stop_process(pid)  # As if all were killed at the same time.
        served.process.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await served.wait()
    assert (abandoned / "broker.sock").exists()
    again = await serve("mine:server", "--port", "0", "--workers", "2", variables=variables)
    await again.port()
    assert not abandoned.exists()
    assert len(folders(folder)) == 1
    again.process.terminate()
    await again.wait()
    assert folders(folder) == []


def test_only_folders_that_are_not_locked_are_removed(folder: Path) -> None:
    locked, abandoned = folder / f"{PREFIX}1", folder / f"{PREFIX}2"
    (target := folder / "target").mkdir()
    (target / "file").touch()
    for each in (locked, abandoned):
        each.mkdir()
    (link := folder / f"{PREFIX}3").symlink_to(target)
    (file := folder / f"{PREFIX}4").touch()
    descriptor = os.open(locked, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    remove_abandoned_folders()
    os.close(descriptor)
    assert not abandoned.exists()
    assert locked.exists()
    assert link.is_symlink()
    assert (target / "file").exists()
    assert file.exists()


def test_a_folder_with_other_files_is_left_alone(folder: Path) -> None:
    """A clone of a repository may have any name, and lie anywhere."""
    for name in ("socketcluster-client-js", f"{PREFIX}notes"):
        (folder / name / "src").mkdir(parents=True)
        (folder / name / "README").touch()
    remove_abandoned_folders()
    assert all((each / "README").exists() for each in folder.iterdir())
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_another_supervisor_takes_for_abandoned_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = tempfile.mkdtemp

    def removed(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", removed)
    with shared_broker({}) as (url, used):
        assert used == made[1]
        assert url == f"ipc://{used}/broker"
        assert {path.name for path in Path(used).iterdir()} == FILES
    assert folders(folder) == []


def test_a_chosen_broker_needs_no_folder(folder: Path) -> None:
    with shared_broker({BROKER_VARIABLE: "redis://127.0.0.1:1"}) as shared:
        assert shared == ("redis://127.0.0.1:1", None)
    with shared_broker({BROKER_VARIABLE: f"ipc://{folder}/mine"}) as shared:
        assert shared == (f"ipc://{folder}/mine", None)
        assert (folder / "mine.sock").exists()


async def test_the_supervisor_stores_as_much_as_is_configured(serve: Serve, folder: Path) -> None:
    """The URL wins over the option."""
    option = {"SOCKETCLUSTER_HISTORY_MEMORY": "100000"}
    for parameter, most in (("", 100_000), ("?history_memory=50KiB", 51_200)):
        url = f"ipc://{folder}/b{parameter}"
        arguments = ("mine:server", "--port", "0", "--workers", "2", "--broker", url)
        served = await serve(*arguments, variables=option)
        await served.port()
        broker = create_broker(url)
        assert isinstance(broker, RemoteBroker)
        await broker.start()
        rule = Retention(1000, 60)
        for _ in range(300):
            await broker.publish_stored("a", bytes(1000), rule)
        kept = len((await broker.history("a", rule)).messages) * 1000
        assert most * 0.7 < kept < most
        await broker.close()
        served.process.terminate()
        await served.wait()
