"""Sequencers against a list: random programs of items, holds, completions and turns of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketcluster.server.parts.decision import Decision
from socketcluster.server.parts.sequencer import Continuation, MessageSequencer, Sequencer

STEPS = st.one_of(
    st.tuples(st.just("put"), st.booleans()),
    st.tuples(st.just("put"), st.booleans()),
    st.tuples(st.just("put many"), st.integers(1, 80)),
    st.tuples(st.just("hold")),
    st.tuples(st.just("done")),
    st.tuples(st.just("done")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("clear")),
)


@given(st.lists(STEPS, max_size=40))
def test_items_are_carried_out_in_order_one_at_a_time(steps: list[Any]) -> None:
    asyncio.run(_run(steps))


async def _run(steps: list[tuple[Any, ...]]) -> None:
    started: list[int] = []
    idle: list[int] = []
    # The model: items that were not started, and what runs: an item, or held work.
    queue: deque[tuple[int, bool]] = deque()
    running = 0
    expected: list[int] = []
    completed = 0
    at_once: set[int] = set()

    def start(item: int) -> None:
        started.append(item)
        if item in at_once:
            sequencer.done()

    sequencer = Sequencer[int](start, lambda: idle.append(len(started)))
    number = 0

    def follow() -> None:
        """Start what may be started, as far as items are done at once."""
        nonlocal running, completed
        while queue and not running:
            item, is_done = queue.popleft()
            expected.append(item)
            if is_done:
                completed += 1
            else:
                running = 1

    async def turns() -> None:
        # Of many items in a row some follow only in later turns.
        for _ in range(number // 32 + 2):
            await asyncio.sleep(0)

    for step, *arguments in steps:
        if step in ("put", "put many"):
            for _ in range(arguments[0] if step == "put many" else 1):
                is_done = step == "put many" or arguments[0]
                if is_done:
                    at_once.add(number)
                queue.append((number, is_done))
                sequencer.put(number)
                number += 1
        elif step == "hold":
            sequencer.hold()
            running += 1
            await turns()
        elif step == "done" and running:
            completed += 1
            running -= 1
            sequencer.done()
        elif step == "clear":
            await turns()
            sequencer.clear()
            queue.clear()
        follow()
        # What runs is in order, and never ahead of the model.
        assert started == expected[: len(started)]
        if step in ("turn", "hold", "done"):
            await turns()
            assert started == expected
            assert sequencer.running == running
            if not running and expected:
                assert idle[-1] == len(expected)
    await turns()
    assert started == expected


class Work:
    """What is left of one message: nothing, a task, or a decision and then maybe a task."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.future = asyncio.get_running_loop().create_future()
        self.decision: Decision | None = None


KINDS = st.sampled_from(["at once", "task", "fault", "decision", "decision, then task"])


@given(st.lists(KINDS, max_size=20), st.integers(0, 2**32))
def test_each_message_waits_for_all_the_work_of_the_one_before(kinds: list[str], seed: int) -> None:
    asyncio.run(_messages(kinds, Random(seed)))


async def _messages(kinds: list[str], random: Random) -> None:
    works = {bytes([i]): Work(kind) for i, kind in enumerate(kinds)}
    events: list[tuple[str, bytes]] = []
    faults: list[BaseException] = []
    idle: list[bool] = []

    async def task(message: bytes) -> None:
        await works[message].future
        events.append(("end", message))
        if works[message].kind == "fault":
            raise ValueError(message)

    def start(message: bytes) -> Continuation:
        events.append(("begin", message))
        work = works[message]
        if work.kind == "at once":
            events.append(("end", message))
            return None
        if work.kind in ("task", "fault"):
            return task(message)

        def verdict(error: BaseException | None, data: Any) -> Any:
            if work.kind == "decision":
                events.append(("end", message))
                return None
            return task(message)

        work.decision = Decision(verdict, faults.append)
        return work.decision

    sequencer = MessageSequencer(start, lambda: idle.append(True), faults.append)
    for message in works:
        sequencer.put(message)
    # Decisions are made, and futures done, in any order that is possible.
    while len(events) < 2 * len(works):
        await asyncio.sleep(0)
        current = works[events[-1][1]] if events else None
        if current is None:
            continue
        if current.decision is not None:
            decision, current.decision = current.decision, None
            decision.make(None, None)
        elif not current.future.done():
            current.future.set_result(None)
        others = [work for work in works.values() if work.decision is None]
        other = random.choice(others)
        if not other.future.done():
            other.future.set_result(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert events == [(what, message) for message in works for what in ("begin", "end")]
    assert sum(isinstance(fault, ValueError) for fault in faults) == kinds.count("fault")
    assert sequencer.running == 0
    assert bool(idle) == bool(works)


@pytest.mark.parametrize("from_inside", [False, True])
async def test_clear_drops_what_waits_and_cancels_what_runs(from_inside: bool) -> None:
    started: list[bytes] = []
    ended: list[str] = []

    async def work(message: bytes) -> None:
        started.append(message)
        if from_inside:
            sequencer.clear()
            ended.append("went on")
            return
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    sequencer = MessageSequencer(work, lambda: None, lambda error: None)
    for message in (b"1", b"2"):
        sequencer.put(message)
    await asyncio.sleep(0)
    if not from_inside:
        sequencer.clear()
    for _ in range(3):
        await asyncio.sleep(0)
    assert started == [b"1"]
    assert ended == ["went on" if from_inside else "cancelled"]
