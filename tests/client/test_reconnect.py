"""The delay before an attempt, and the Reconnector."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from socketcluster import ReconnectOptions, reconnect_delay
from socketcluster.client.reconnect import Reconnector
from socketcluster.errors import InvalidOptionsError
from socketcluster.testing import clock

PLAIN = ReconnectOptions()


def test_the_defaults_are_the_documented_ones() -> None:
    assert (
        ReconnectOptions(initial_delay=10_000, randomness=10_000, multiplier=1.5, max_delay=60_000)
        == PLAIN
    )


@pytest.mark.parametrize(
    ("attempt", "chance", "delay"),
    [
        (0, 0, 10_000),
        (0, 0.5, 15_000),
        (1, 0, 15_000),
        (2, 0, 22_500),
        (2, 0.5, 33_750),
        (4, 0, 50_625),
        (5, 0, 60_000),
        (9, 0.9, 60_000),
    ],
)
def test_it_grows_up_to_the_longest(attempt: int, chance: float, delay: int) -> None:
    assert reconnect_delay(PLAIN, attempt, chance) == delay


def test_it_never_leaves_its_bounds() -> None:
    chances = random.Random(1)
    for attempt in range(200):
        for _ in range(20):
            delay = reconnect_delay(PLAIN, attempt, chances.random())
            assert 10_000 <= delay <= 60_000
            assert isinstance(delay, int)


def test_it_does_not_shrink_with_attempts() -> None:
    delays = [reconnect_delay(PLAIN, attempt, 0.3) for attempt in range(30)]
    assert delays == sorted(delays)


@pytest.mark.parametrize("attempt", [1_000, 100_000])
def test_no_attempt_is_too_many(attempt: int) -> None:
    assert reconnect_delay(PLAIN, attempt, 0.99) == 60_000
    for multiplier in (2, 999_999):
        options = ReconnectOptions(multiplier=multiplier)
        assert reconnect_delay(options, min(attempt, 2000), 0) == 60_000


def test_a_longest_delay_below_the_first_wins() -> None:
    assert reconnect_delay(ReconnectOptions(max_delay=5), 0, 0.5) == 5
    assert reconnect_delay(ReconnectOptions(max_delay=5), 0, 0.5, at_once=True) <= 5


def test_without_delay_it_is_none() -> None:
    nothing = ReconnectOptions(initial_delay=0, randomness=0)
    assert [reconnect_delay(nothing, n, 0.9) for n in (0, 5, 5000)] == [0, 0, 0]


def test_at_once_holds_for_the_first_attempt_only_and_spreads_out() -> None:
    delays = sorted(reconnect_delay(PLAIN, 0, n / 1000, at_once=True) for n in range(1000))
    assert (delays[0], delays[-1]) == (0, 999)
    assert len(set(delays)) == 1000
    assert reconnect_delay(PLAIN, 1, 0, at_once=True) == 15_000


def test_a_storm_spreads_out() -> None:
    chances = random.Random(2)
    delays = [reconnect_delay(PLAIN, 0, chances.random()) for _ in range(10_000)]
    per_second = [0] * 10
    for delay in delays:
        per_second[min(delay // 1000 - 10, 9)] += 1
    # Evenly over the ten seconds of the randomness: none has a tenth more than its share.
    assert max(per_second) < 1_150
    assert min(per_second) > 850


def test_durations_may_be_timedeltas() -> None:
    options = ReconnectOptions(initial_delay=timedelta(seconds=2), randomness=timedelta(0))
    assert reconnect_delay(options, 0, 0.5) == 2000


@pytest.mark.parametrize(
    "given",
    [
        {"initial_delay": -1},
        {"randomness": "1"},
        {"max_delay": None},
        {"multiplier": 0.5},
        {"multiplier": float("nan")},
        {"multiplier": float("inf")},
        {"multiplier": True},
        {"multiplier": "2"},
        {"unknown": 1},
        5,
        "text",
    ],
    ids=repr,
)
def test_wrong_options_are_named(given: Any) -> None:
    with pytest.raises(InvalidOptionsError) as raised:
        ReconnectOptions.of("auto_reconnect_options", given)
    assert str(next(iter(given)) if isinstance(given, dict) else "auto_reconnect_options") in str(
        raised.value
    )


def test_documented_names_are_understood() -> None:
    options = ReconnectOptions.of("x", {"initialDelay": 1, "maxDelay": 2, "multiplier": 3})
    assert (options.initial_delay, options.max_delay, options.multiplier) == (1, 2, 3)


CODES = [(1000, False), (4500, False), (4999, False), (1001, True), (1006, True), (4003, True)]


@pytest.mark.parametrize(("code", "again"), CODES)
async def test_final_codes_are_not_tried_again(code: int, again: bool) -> None:
    reconnector = Reconnector(PLAIN, lambda: None)
    assert reconnector.connection_closed(code) is again
    assert (reconnector.delay is not None) is again
    reconnector.cancel()
    assert reconnector.delay is None


@pytest.mark.parametrize("code", [4000, 4001, 1005])
async def test_accidental_losses_are_tried_again_soon(code: int) -> None:
    reconnector = Reconnector(PLAIN, lambda: None)
    reconnector.connection_closed(code)
    assert reconnector.delay is not None
    assert reconnector.delay <= 1000
    reconnector.connection_closed(code)
    assert reconnector.delay >= 15_000
    reconnector.cancel()


async def test_it_is_off_without_options() -> None:
    assert not Reconnector(None, lambda: None).connection_closed(1006)


async def test_it_connects_when_the_delay_is_over() -> None:
    async with clock() as now:
        calls: list[float] = []
        reconnector = Reconnector(PLAIN, lambda: calls.append(now.time()))
        began = now.time()
        reconnector.connection_closed(1006)
        delay = reconnector.delay
        assert delay is not None
        await now.advance(delay / 1000 - 0.01)
        assert calls == []
        await now.advance(0.02)
        assert calls == [pytest.approx(began + delay / 1000)]
        assert (reconnector.delay, reconnector.attempts) == (None, 1)
