"""The garbage collector pauses for messages with very many lists, and runs again later."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from socketcluster.codecs import collector
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec

LISTS: Any = [[] for _ in range(collector.MANY_CONTAINERS + 1)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(collector, "monotonic", clock)
    monkeypatch.setattr(collector._Pause, "no_other_before", 0.0)
    threshold = gc.get_threshold()
    assert gc.isenabled()
    yield clock
    gc.enable()
    gc.set_threshold(*threshold)


def rests() -> bool:
    return gc.get_threshold()[0] == collector._PAUSED


@pytest.mark.parametrize("codec", [JSONCodec(), MinBinCodec()], ids=["json", "min-bin"])
async def test_it_rests_in_a_loop_after_the_message_was_decoded(
    monkeypatch: Any, codec: Any
) -> None:
    monkeypatch.setattr(collector, "PAUSE_SECONDS", 0)
    before = gc.get_threshold()
    message = codec.encode(LISTS)
    assert not rests()
    codec.decode(message)
    assert rests()
    assert gc.isenabled()
    for _ in range(3):
        await asyncio.sleep(0)
    assert gc.get_threshold() == before


def test_a_rest_is_followed_by_as_long_a_time_without(clock: Clock) -> None:
    pause = collector.pause_collector()
    assert rests()
    assert collector.pause_collector() is None
    clock.now += 5
    del pause
    assert not rests()
    clock.now += 4.5
    assert collector.pause_collector() is None
    assert not rests()
    clock.now += 1
    pause = collector.pause_collector()
    assert rests()
    del pause


def test_a_collector_that_was_turned_off_meanwhile_stays_off() -> None:
    before = gc.get_threshold()
    pause = collector.pause_collector()
    gc.disable()
    del pause
    assert not gc.isenabled()
    assert gc.get_threshold() == before


@pytest.mark.parametrize("threshold", [0, 12_345])
def test_a_threshold_that_was_set_meanwhile_is_kept(threshold: int) -> None:
    pause = collector.pause_collector()
    gc.set_threshold(threshold)
    del pause
    assert gc.get_threshold()[0] == threshold


@pytest.mark.parametrize("off", [gc.disable, lambda: gc.set_threshold(0)])
def test_a_collector_that_is_off_is_left_alone(off: Any) -> None:
    off()
    before = gc.get_threshold()
    assert collector.pause_collector() is None
    assert gc.get_threshold() == before
