"""The link between the supervisor and its workers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketcluster.cli.workers import link as link_module
from socketcluster.cli.workers.link import SupervisorLink, WorkerLink, WorkerLinkError
from support import soon


class Ends:
    """Both ends of a link, and what happened at them."""

    def __init__(self) -> None:
        self.happened: asyncio.Queue[Any] = asyncio.Queue()
        self.supervisor = WorkerLink(self)
        self.worker = SupervisorLink(
            lambda: self.happened.put_nowait("stop_accepting"),
            lambda peers: self.happened.put_nowait(("drain", peers)),
            lambda: self.happened.put_nowait("lost"),
        )

    def worker_ready(self, stop_seconds: float) -> None:
        self.happened.put_nowait(("ready", stop_seconds))

    def worker_beat(self) -> None:
        self.happened.put_nowait("beat")


@asynccontextmanager
async def opened() -> AsyncIterator[Ends]:
    ends = Ends()
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    await ends.supervisor.open(ours)
    await ends.worker.open(theirs.detach())
    try:
        yield ends
    finally:
        ends.worker.close()
        ends.supervisor.close()
        await asyncio.sleep(0)


async def test_messages_arrive_in_order() -> None:
    async with opened() as ends:
        ends.worker.ready(12.5, 0.001)
        assert await soon(ends.happened.get()) == ("ready", 12.5)
        for _ in range(3):
            assert await soon(ends.happened.get()) == "beat"
    async with opened() as ends:
        ends.worker.ready(1, 0)  # Without beats.
        assert await soon(ends.happened.get()) == ("ready", 1)
        await soon(ends.supervisor.stop_accepting(10))
        assert ends.happened.get_nowait() == "stop_accepting"
        ends.supervisor.drain(peers=True)
        assert await soon(ends.happened.get()) == ("drain", True)
        ends.supervisor.close()
        assert await soon(ends.happened.get()) == "lost"
    async with opened() as ends:
        ends.worker.close()
        with pytest.raises(WorkerLinkError):
            await soon(ends.supervisor.ask("ping", 60))
        await asyncio.sleep(0)
        assert ends.happened.empty()  # A worker that has closed its link has not lost it.


async def test_the_supervisor_asks(caplog: pytest.LogCaptureFixture) -> None:
    async def later() -> list[int]:
        await asyncio.sleep(0)
        return [1, 2]

    def fail() -> None:
        raise ValueError("no")

    async with opened() as ends:
        ends.worker.answer("big", lambda: "x" * 1_000_000)
        ends.worker.answer("later", later)
        ends.worker.answer("fail", fail)
        ends.worker.answer("odd", object)
        ask = ends.supervisor.ask
        assert await soon(asyncio.gather(ask("big", 10), ask("later", 10))) == [
            "x" * 1_000_000,
            [1, 2],
        ]
        with pytest.raises(WorkerLinkError, match="no answer to 'unknown'"):
            await soon(ask("unknown", 10))
        assert not caplog.records
        with pytest.raises(WorkerLinkError, match="ValueError: no"):
            await soon(ask("fail", 10))
        with pytest.raises(WorkerLinkError, match="object"):
            await soon(ask("odd", 10))
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with opened() as ends:
        ends.worker.answer("never", never)
        with pytest.raises(WorkerLinkError, match=r"within 0.01 s"):
            await soon(ends.supervisor.ask("never", 0.01))
        asked = asyncio.ensure_future(ends.supervisor.ask("never", 60))
        await asyncio.sleep(0)
        ends.worker.close()
        with pytest.raises(WorkerLinkError, match="has ended"):
            await soon(asked)
        with pytest.raises(WorkerLinkError, match="has ended"):
            await soon(ends.supervisor.ask("never", 60))
    async with opened() as ends:
        monkeypatch.setattr(link_module, "MAX_WAITING_BYTES", -1)
        with pytest.raises(WorkerLinkError, match="hangs"):
            await soon(ends.supervisor.ask("never", 60))


async def test_a_message_without_an_end_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "MAX_LINE_BYTES", 100)
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    ends = Ends()
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        await ends.supervisor.open(ours)
        asked = asyncio.ensure_future(ends.supervisor.ask("x", 60))
        await asyncio.sleep(0)
        theirs.send(b"1" * 200)
        with pytest.raises(WorkerLinkError, match="has ended"):
            await soon(asked)
