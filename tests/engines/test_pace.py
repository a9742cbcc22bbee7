"""The pace of new connections: how much work a turn of the loop admits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from socketcluster.engines.pace import LAG_SECONDS, Pace
from support import soon, until


class Turns:
    """Counts pieces of work by the turn of the loop that they are done in."""

    def __init__(self) -> None:
        self.number = 0
        self.done: list[tuple[int, int]] = []
        self._marked = False

    def work(self, name: int, result: bool = True) -> Callable[[], bool]:
        def work() -> bool:
            self.note(name)
            return result

        return work

    def note(self, name: int) -> None:
        self.done.append((self.number, name))
        if not self._marked:
            self._marked = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._marked = False
        self.number += 1

    @property
    def most(self) -> int:
        return max(Counter(turn for turn, _ in self.done).values())


def admit(pace: Pace, work: Callable[[], bool]) -> None:
    if pace.take():
        work()
    else:
        pace.wait(work)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_work_is_done_in_order_and_so_much_a_turn(loop: Any) -> None:
    async def run() -> None:
        pace, turns = Pace(4, clock=lambda: 0.0), Turns()
        for name in range(50):
            admit(pace, turns.work(name))
        assert len(turns.done) == 4
        await until(lambda: len(turns.done) == 50)
        assert [name for _, name in turns.done] == list(range(50))
        assert turns.most == 4

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def test_what_arrives_in_a_later_turn_waits_behind_the_others() -> None:
    pace, turns = Pace(2, clock=lambda: 0.0), Turns()
    for name in range(6):
        admit(pace, turns.work(name))
    await asyncio.sleep(0)
    for name in range(6, 9):
        admit(pace, turns.work(name))
    await until(lambda: len(turns.done) == 9)
    assert [name for _, name in turns.done] == list(range(9))
    assert turns.most == 2


async def test_a_few_in_each_turn_never_wait_and_schedule_nothing() -> None:
    pace = Pace(1000)
    handles = len(asyncio.get_running_loop()._ready)  # type: ignore[attr-defined]
    for _ in range(999):
        assert pace.take()
    assert len(asyncio.get_running_loop()._ready) == handles  # type: ignore[attr-defined]
    assert pace.take()
    assert not pace.take()
    await asyncio.sleep(0)
    assert pace.take()


async def test_a_turn_that_took_long_admits_half_and_a_short_one_more_by_one() -> None:
    now = 0.0
    pace, limits = Pace(16, clock=lambda: now), [16]

    def work() -> bool:
        if pace.limit != limits[-1]:
            limits.append(pace.limit)
        return True

    async def turns(count: int, seconds: float) -> None:
        nonlocal now
        for _ in range(count):
            now += seconds
            await asyncio.sleep(0)

    for _ in range(1000):
        admit(pace, work)
    await turns(7, LAG_SECONDS * 1.5)
    assert limits == [16, 8, 4, 2, 1]
    await turns(20, LAG_SECONDS / 2)
    assert limits[5:] == list(range(2, 17))


async def test_the_lag_of_an_idle_loop_does_not_count() -> None:
    now = 0.0
    pace, turns = Pace(2, clock=lambda: now), Turns()
    for _ in range(3):
        for name in range(4):
            admit(pace, turns.work(name))
        await until(lambda: len(turns.done) % 4 == 0)
        await asyncio.sleep(0)
        now += 100
    assert pace.limit == 2


async def test_clients_that_left_take_no_place() -> None:
    pace, turns = Pace(2, clock=lambda: 0.0), Turns()
    for name in range(2):
        admit(pace, turns.work(name))
    for name in range(2, 10):
        pace.wait(turns.work(name, result=name >= 8))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(turns.done) == 10


async def test_an_error_is_reported_and_holds_nothing_back() -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    pace, turns = Pace(1), Turns()

    def fail() -> bool:
        raise ValueError("not this one")

    assert pace.take()
    pace.wait(fail)
    pace.wait(turns.work(1))
    await until(lambda: len(turns.done) == 1)
    assert [str(context["exception"]) for context in reported] == ["not this one"]


async def test_a_cancelled_turn_passes_its_place_on() -> None:
    pace = Pace(1)
    assert pace.take()
    first, second, third = (asyncio.ensure_future(pace.turn()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await soon(third)
    assert first.done()
    assert second.cancelled()


def test_a_new_loop_begins_anew() -> None:
    pace = Pace(1)

    async def leave_work() -> None:
        assert pace.take()
        pace.wait(lambda: False)

    async def begin() -> None:
        pace.restart()
        await soon(pace.turn())
        await soon(pace.turn())

    async def restart_in_the_same_loop() -> None:
        turns = Turns()
        await begin()
        for name in range(3):
            admit(pace, turns.work(name))
        pace.restart()
        await until(lambda: len(turns.done) == 3)

    asyncio.run(leave_work())
    asyncio.run(begin())
    asyncio.run(restart_in_the_same_loop())
