"""Deferred values, and the gauge that counts their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from socketcluster.streams import MADE_WEIGHT, NO_VALUE, Gauge, StreamDemux
from support import soon


@pytest.fixture
def changes() -> list[bool]:
    """What the gauge has told."""
    return []


@pytest.fixture
def gauge(changes: list[bool]) -> Gauge:
    """One of 10 values and 100 bytes."""
    return Gauge(10, changes.append, 100)


@pytest.fixture
def demux(gauge: Gauge) -> StreamDemux[Any]:
    """One that the gauge watches."""
    return StreamDemux(gauge)


async def test_a_value_is_made_when_it_is_taken_in_its_place(demux: StreamDemux[Any]) -> None:
    made: list[int] = []

    def make(number: int) -> Callable[[], int]:
        def it() -> int:
            made.append(number)
            return number

        return it

    assert not demux.write_deferred("a", 10, make(0))
    consumer = demux.create_consumer("a")
    demux.write("a", 1)
    assert demux.write_deferred("a", 10, make(2))
    demux.write("a", 3)
    demux.write_deferred("a", 10, make(4))
    demux.close("a")
    assert (await consumer.next()).value == 1
    assert made == []
    assert consumer.get_backpressure() == 4
    assert [value async for value in consumer] == [2, 3, 4]
    assert made == [2, 4]


async def test_what_comes_to_nothing_is_passed_over(demux: StreamDemux[Any]) -> None:
    consumer = demux.create_consumer("a")
    waiting = asyncio.ensure_future(consumer.next())
    await asyncio.sleep(0)
    for _ in range(3):
        demux.write_deferred("a", 10, lambda: NO_VALUE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    demux.write("a", 1)
    assert (await soon(waiting)).value == 1


async def test_bytes_fill_the_gauge_and_half_of_them_drains_it(
    demux: StreamDemux[Any], gauge: Gauge, changes: list[bool]
) -> None:
    first, second = demux.create_consumer("a"), demux.create_consumer("b")
    demux.write_deferred("a", 50, lambda: 1)
    demux.write_deferred("b", 50, lambda: 2)
    assert (gauge.size, changes) == (100, [])
    demux.write_deferred("a", 1, lambda: 3)
    assert (gauge.size, changes) == (101, [True])
    assert (await first.next()).value == 1
    assert (gauge.size, changes) == (51, [True])
    assert (await second.next()).value == 2
    assert (gauge.size, changes) == (1, [True, False])


async def test_values_and_bytes_are_counted_together(
    demux: StreamDemux[Any], changes: list[bool]
) -> None:
    consumer = demux.create_consumer("a")
    for _ in range(11):
        demux.write_deferred("a", 20, lambda: 1)
    assert changes == [True]
    for _ in range(8):
        await consumer.next()
    assert changes == [True]
    await consumer.next()
    assert changes == [True, False]


@pytest.mark.parametrize("how", ["return", "kill", "kill_all", "kill_consumer", "dropped"])
async def test_bytes_are_given_back_however_a_consumer_goes(
    demux: StreamDemux[Any], gauge: Gauge, changes: list[bool], how: str
) -> None:
    consumer = demux.create_consumer("a")
    for _ in range(3):
        demux.write_deferred("a", 40, lambda: 1)
    assert (gauge.size, changes) == (120, [True])
    if how == "return":
        consumer.return_()
    elif how == "dropped":
        del consumer
    else:
        given = {"kill": ("a",), "kill_all": (), "kill_consumer": (consumer.id,)}[how]
        getattr(demux, how)(*given)
    assert (gauge.size, changes) == (0, [True, False])


async def test_what_several_hold_is_made_once_and_counts_as_made(
    demux: StreamDemux[Any], gauge: Gauge
) -> None:
    consumers = [demux.create_consumer("a") for _ in range(3)]
    made: list[Any] = []

    def make() -> Any:
        made.append(object())
        return made[-1]

    demux.write_deferred("a", 1, make)
    assert gauge.size == 3 * MADE_WEIGHT
    values = {(await consumer.next()).value for consumer in consumers}
    assert values == set(made)
    assert len(made) == 1
    assert gauge.size == 0


async def test_what_fails_for_several_fails_once(demux: StreamDemux[Any]) -> None:
    consumers = [demux.create_consumer("a") for _ in range(2)]
    made: list[Any] = []

    def make() -> Any:
        made.append(None)
        return NO_VALUE

    demux.write_deferred("a", 1, make)
    demux.write("a", 7)
    assert [(await consumer.next()).value for consumer in consumers] == [7, 7]
    assert len(made) == 1
