"""The clock: timers, system time, and what it says where it cannot work."""

from __future__ import annotations

import asyncio
import builtins
import datetime
import time
from typing import Any

import pytest
import uvloop

from socketcluster import testing
from socketcluster.errors import InvalidActionError, InvalidArgumentsError


async def test_time_stands_still_until_it_is_advanced() -> None:
    loop = asyncio.get_running_loop()
    fired: list[float] = []
    async with testing.clock() as clock:
        start, system = loop.time(), time.time()
        assert clock.time() == start
        for seconds in (1, 2, 3.5):
            loop.call_later(seconds, lambda: fired.append(round(loop.time() - start, 3)))
        await clock.settle()
        assert (fired, loop.time(), time.time()) == ([], start, system)
        await clock.advance(2)
        assert fired == [1, 2]
        assert loop.time() - start == pytest.approx(2)
        assert time.time() - system == pytest.approx(2)
        await clock.advance(datetime.timedelta(seconds=1.499))
        assert fired == [1, 2]
        await clock.advance(0.001)
        assert fired == [1, 2, 3.5]
        assert datetime.datetime.now(datetime.UTC).timestamp() == pytest.approx(system + 3.5)
    assert abs(time.time() - system) < 3


async def test_periodic_timers_fire_as_often_as_in_real_time() -> None:
    loop = asyncio.get_running_loop()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        loop.call_later(0.1, tick)

    async with testing.clock() as clock:
        loop.call_later(0.1, tick)
        for _ in range(10):
            await clock.advance(1)
        assert ticks == 100


async def test_what_follows_from_a_timer_happens_before_time_goes_on() -> None:
    loop = asyncio.get_running_loop()
    seen: list[float] = []

    async def work() -> None:
        start = loop.time()
        await asyncio.sleep(1)
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(loop.time() - start)
        await asyncio.sleep(1)
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(loop.time() - start)

    async with testing.clock() as clock:
        task = asyncio.create_task(work())
        await clock.advance(2)
        assert task.done()
        assert seen == pytest.approx([1, 2])


async def test_a_task_that_spins_does_not_hold_time_up() -> None:
    async with testing.clock() as clock:
        slept = asyncio.create_task(asyncio.sleep(3600))

        async def spin() -> None:
            while not slept.done():  # noqa: ASYNC110
                await asyncio.sleep(0)

        spinning = asyncio.create_task(spin())
        await clock.advance(3600)
        await spinning


async def test_auto_moves_on_by_itself() -> None:
    started = time.perf_counter()
    async with testing.clock(auto=True) as clock:
        before = clock.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        assert clock.time() - before == pytest.approx(3600)
    assert time.perf_counter() - started < 60


async def test_timers_keep_their_distance_when_the_clock_ends() -> None:
    loop = asyncio.get_running_loop()
    async with testing.clock() as clock:
        await clock.advance(1000)
        soon = loop.create_future()
        loop.call_later(0.01, soon.set_result, None)
        later = loop.call_later(1000, soon.set_result, None)
        before = loop.time()
    async with asyncio.timeout(10):
        await soon
    assert before <= loop.time() < before + 500
    later.cancel()
    async with testing.clock() as again:
        assert again.time() >= before


@pytest.mark.parametrize("duration", [-1, float("nan"), True, "1", datetime.timedelta(-1)])
async def test_a_wrong_duration_is_refused(duration: Any) -> None:
    async with testing.clock() as clock:
        with pytest.raises(InvalidArgumentsError, match="advances by"):
            await clock.advance(duration)


async def test_one_clock_at_a_time() -> None:
    async with testing.clock():
        with pytest.raises(InvalidActionError, match="in force"):
            async with testing.clock():
                pytest.fail("Entered")


def test_uvloop_is_refused() -> None:
    async def enter() -> None:
        async with testing.clock():
            pytest.fail("Entered")

    with pytest.raises(InvalidActionError, match=r"not uvloop.*without uvloop"):
        uvloop.run(enter())


async def test_without_time_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "time_machine":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidActionError, match=r"socketcluster\[testing\]"):
        async with testing.clock():
            pytest.fail("Entered")
