"""Decision on its own: whoever waits for a verdict gets the work that follows it, exactly once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest

from socketcluster.server.parts.decision import Decision


class Following:
    """What follows a verdict."""

    def __init__(self, work: bool = True) -> None:
        self.verdicts: list[tuple[BaseException | None, Any]] = []
        self.faults: list[BaseException] = []
        self.done = 0
        self.work = work
        self.rest: Coroutine[Any, Any, None] | None = None
        self.decision = Decision(self.verdict, self.faults.append)

    def verdict(self, error: BaseException | None, data: Any) -> Coroutine[Any, Any, None] | None:
        self.verdicts.append((error, data))
        if self.work:
            self.rest = self._work()
        return self.rest

    async def _work(self) -> None:
        await asyncio.sleep(0)
        self.done += 1

    @property
    def closed(self) -> bool:
        """Whether the work was given up before it began."""
        assert self.rest is not None
        return inspect.getcoroutinestate(self.rest) == inspect.CORO_CLOSED and not self.done


REFUSED = ValueError("Refused")


@pytest.mark.parametrize("verdict", [(None, "data"), (REFUSED, None)])
@pytest.mark.parametrize("early", [True, False], ids=["made before", "made after"])
@pytest.mark.parametrize("work", [True, False], ids=["work", "no work"])
async def test_awaiting_it_waits_for_the_verdict_and_the_work(
    verdict: tuple[Any, Any], early: bool, work: bool
) -> None:
    following = Following(work)
    decision = following.decision

    async def wait() -> None:
        await decision

    if early:
        decision.make(*verdict)
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if not early:
        assert not task.done()
        decision.make(*verdict)
    await task
    assert following.verdicts == [verdict]
    assert following.done == work
    assert following.faults == []


@pytest.mark.parametrize("early", [True, False], ids=["made before", "made after"])
async def test_a_callback_gets_the_work_once(early: bool) -> None:
    following = Following()
    given: list[Any] = []
    if early:
        following.decision.make(None, 1)
    following.decision.on_made(given.append)
    if not early:
        assert given == []
        following.decision.make(None, 1)
    assert given == [following.rest]
    await given[0]
    assert following.done == 1


async def test_what_follows_may_fail() -> None:
    faults: list[BaseException] = []

    def fail(error: BaseException | None, data: Any) -> None:
        raise REFUSED

    decision = Decision(fail, faults.append)
    decision.make(None, 1)
    await decision
    assert faults == [REFUSED]


@pytest.mark.parametrize("early", [True, False], ids=["made before", "made after"])
async def test_work_that_nobody_waits_for_is_given_up(early: bool) -> None:
    following = Following()
    if early:
        following.decision.make(None, 1)
    following.decision.close()
    if not early:
        following.decision.make(None, 1)
    assert following.closed


@pytest.mark.parametrize("late", ["same turn", "later"])
async def test_a_cancelled_wait_gives_up_the_work(late: str) -> None:
    following = Following()

    async def wait() -> None:
        await following.decision

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    if late == "later":
        await asyncio.wait([task])
    following.decision.make(None, 1)
    await asyncio.wait([task])
    assert task.cancelled()
    assert following.closed


async def test_a_wait_that_is_cancelled_with_its_verdict_gives_up_the_work() -> None:
    following = Following()

    async def wait() -> None:
        await following.decision

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    following.decision.make(None, 1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert following.closed
