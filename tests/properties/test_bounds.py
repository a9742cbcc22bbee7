"""The bounded consumer of a channel against a list with a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketcluster import StreamDemux
from socketcluster.streams import SMALL, Bound

STEPS = st.one_of(
    st.tuples(st.just("payload"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("payload"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("close")),
)
BOUNDS = st.tuples(st.integers(1, 5), st.sampled_from([1, 20, 60, 3 * SMALL]))


class TooSlowError(Exception):
    """The loop of the consumer is too slow."""


@pytest.mark.parametrize("ends", [True, False])
@given(bounds=BOUNDS, steps=st.lists(STEPS, max_size=30))
def test_a_bounded_consumer_is_a_list_with_a_bound(
    ends: bool, bounds: tuple[int, int], steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(_run(ends, *bounds, steps))


async def _run(ends: bool, values: int, size: int, steps: list[tuple[Any, ...]]) -> None:
    passed: list[tuple[str, int, int]] = []

    def too_much(name: str, count: int, held: int) -> Exception | None:
        passed.append((name, count, held))
        return TooSlowError() if ends else None

    demux = StreamDemux[Any](bound=Bound(values, size, too_much))
    consumer = demux.create_consumer("c")
    near = min(64, values, max(1, size // SMALL))
    # (value, bytes), with bytes only of what is kept as a payload; the end has None.
    queue: deque[tuple[Any, int | None]] = deque()
    times_passed = 0

    def kept() -> list[int]:
        return [each for _, each in queue if each is not None]

    for number, (step, *arguments) in enumerate(steps):
        if step == "payload":
            length, decoded = arguments
            payload = bytes([number]) * length
            value = ("decoded", payload)
            demux.write_payload(
                "c", payload, lambda data: ("decoded", data), *([value] if decoded else [])
            )
            as_value = decoded and len(queue) < near
            queue.append((value, None if as_value else length))
            if not as_value and _too_much(queue, values, size):
                times_passed += 1
                assert passed[-1] == ("c", len(queue), sum(kept()))
                if ends:
                    with pytest.raises(TooSlowError):
                        await consumer.next()
                    assert demux.get_consumer_count("c") == 0
                    return
                _drop_oldest(queue, values, size)
        elif step == "take":
            for _ in range(min(arguments[0], len(queue))):
                value, _ = queue.popleft()
                item = await consumer.next()
                if value == "end":
                    assert (item.value, item.done) == ("end", True)
                    assert demux.get_consumer_count("c") == 0
                    return
                assert (item.value, item.done) == (value, False)
        else:
            demux.close("c", "end")
            queue.append(("end", None))
        assert len(passed) == times_passed
        assert consumer.get_backpressure() == len(queue)


def _too_much(queue: deque[tuple[Any, int | None]], values: int, size: int) -> bool:
    held = sum(kept for _, kept in queue if kept is not None)
    return (held > size and len(queue) > 1) or len(queue) > values


def _drop_oldest(queue: deque[tuple[Any, int | None]], values: int, size: int) -> None:
    while len(queue) > 1 and _too_much(queue, values, size):
        if queue[0][0] == "end":  # What follows it is for nobody.
            queue.pop()
            return
        queue.popleft()
