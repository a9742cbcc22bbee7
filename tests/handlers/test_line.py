"""The messages of one socket for one async handler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketcluster.handlers.line import Line
from socketcluster.streams.inbox import Gauge
from support import soon, until


class Work:
    """A line, and what it carries out."""

    def __init__(self, at_once: int = 1, newest_only: bool = False, limit: int = 100) -> None:
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.gates: dict[Any, asyncio.Event] = {}
        self.changes: list[bool] = []
        self.gauge = Gauge(limit, self.changes.append, 1000)
        self.tasks: dict[asyncio.Task[None], Line] = {}
        self.line = Line(self.carry_out, at_once, newest_only, self.gauge, self.tasks)

    async def carry_out(self, message: Any) -> None:
        self.begun.append(message)
        if message in self.gates:
            await self.gates[message].wait()
        self.done.append(message)

    def gate(self, *messages: Any) -> None:
        for message in messages:
            self.gates[message] = asyncio.Event()

    def put(self, *messages: Any, size: int = 0) -> None:
        for message in messages:
            self.line.put(message, size)

    @property
    def idle(self) -> bool:
        return not self.tasks and not self.line.running


async def test_one_after_the_other() -> None:
    it = Work()
    it.gate(1)
    it.put(1, 2, 3)
    await until(lambda: it.begun == [1])
    assert len(it.tasks) == 1
    it.gates[1].set()
    await until(lambda: it.idle)
    assert it.done == [1, 2, 3]


async def test_a_task_begins_once_it_is_on_record_whatever_the_task_factory() -> None:
    it = Work()
    loop = asyncio.get_running_loop()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("A factory may make eager tasks")

    loop.set_task_factory(refuse)
    try:
        it.put(1)
    finally:
        loop.set_task_factory(None)
    assert it.begun == []
    await until(lambda: it.idle)
    assert it.done == [1]


async def test_several_at_once() -> None:
    it = Work(at_once=2)
    it.gate(1, 2, 3)
    it.put(1, 2, 3, 4)
    await until(lambda: it.begun == [1, 2])
    it.gates[2].set()
    await until(lambda: it.begun == [1, 2, 3])
    it.gates[3].set()
    await until(lambda: it.done == [2, 3, 4])
    assert it.line.running == 1
    it.gates[1].set()
    await until(lambda: it.idle)


async def test_the_newest_only() -> None:
    it = Work(newest_only=True)
    it.gate(1)
    it.put(1, 2, 3, size=10)
    await until(lambda: it.begun == [1])
    it.put(4, size=10)
    assert it.gauge.size == 10
    it.gates[1].set()
    await until(lambda: it.idle)
    assert it.done == [1, 4]
    assert it.gauge.size == 0


async def test_a_long_line_lets_the_loop_turn() -> None:
    it = Work()
    seen: list[int] = []
    it.put(*range(100))
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(see))

    def see() -> None:
        seen.append(len(it.done))

    await until(lambda: it.idle)
    assert it.done == list(range(100))
    assert seen[0] < 100


async def test_waiting_messages_count() -> None:
    it = Work(limit=4)
    it.gate(0)
    it.put(*range(5))
    assert it.changes == []
    it.put(5)
    assert it.changes == [True]
    it.gates[0].set()
    await until(lambda: it.idle)
    assert it.changes == [True, False]


async def test_waiting_bytes_count() -> None:
    it = Work()
    it.gate(0)
    it.put(0, 1, 2, size=600)
    assert it.changes == [True]
    assert it.gauge.size == 1200
    it.line.drop_waiting()
    assert it.changes == [True, False]
    assert it.gauge.size == 0
    it.gates[0].set()
    await until(lambda: it.idle)
    assert it.done == [0]


async def test_cancelling_ends_all_and_drops_what_waits() -> None:
    it = Work(at_once=2, limit=1)
    ended: list[None] = []
    it.gate(1, 2)
    it.put(1)
    await until(lambda: it.begun == [1])
    it.put(2, 3, 4, size=10)  # The task of 2 has not begun.
    it.line.on_idle = lambda: ended.append(None)
    it.line.cancel()
    assert it.gauge.size == 0
    assert len(it.tasks) == 2  # Until they have ended.
    await soon(asyncio.wait(list(it.tasks)))
    await until(lambda: it.idle)
    assert (it.begun, it.done, ended) == ([1], [], [None])
    it.put(5)
    await until(lambda: it.done == [5])


async def test_a_spared_task_is_not_cancelled() -> None:
    it = Work()
    it.gate(1)
    it.put(1, 2)
    (task,) = it.tasks
    it.line.cancel({task})
    it.gates[1].set()
    await until(lambda: it.idle)
    assert it.done == [1]


async def test_a_message_that_cancels_its_own_task_does_not_stop_the_line() -> None:
    it = Work()

    async def carry_out(message: Any) -> None:
        if message == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)
        it.done.append(message)

    it.line.use(carry_out)
    it.put(1, 2, 3)
    await until(lambda: it.idle)
    assert it.done == [2, 3]


async def test_being_idle_is_told_once_the_last_task_has_ended() -> None:
    it = Work(at_once=2)
    it.gate(1, 2)
    it.put(1, 2)
    found: list[int] = []
    it.line.on_idle = lambda: found.append(it.line.running)
    it.gates[1].set()
    await until(lambda: it.done == [1])
    assert found == []
    it.gates[2].set()
    await until(lambda: it.idle)
    assert found == [0]


@pytest.mark.parametrize("count", [1, 3])
async def test_another_function_takes_over_what_waits(count: int) -> None:
    it = Work()
    it.gate(0)
    it.put(*range(count + 1))
    await until(lambda: it.begun == [0])
    others: list[Any] = []

    async def other(message: Any) -> None:
        others.append(message)

    it.line.use(other)
    it.gates[0].set()
    await until(lambda: it.idle)
    assert (it.done, others) == ([0], list(range(1, count + 1)))
