"""The options of the metrics, and the histogram of durations."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable
from random import Random
from threading import Thread
from typing import Any

import pytest

from socketcluster import AGServer, Metrics, ServerOptions
from socketcluster.errors import InvalidOptionsError, UsageError
from socketcluster.metrics.calls import CallTimes
from socketcluster.metrics.durations import BOUNDS, EVERY, FEW, MANY, CallDurations, Durations


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "metrics.token"),
        ({"token": ""}, "metrics.token"),
        ({"token": 7}, "metrics.token"),
        ({"token": "t", "path": "metrics"}, "metrics.path"),
        ({"token": "t", "path": 7}, "metrics.path"),
        ({"port": 65536}, "metrics.port"),
        ({"port": "9100"}, "metrics.port"),
        ({"port": True}, "metrics.port"),
        ({"port": 9100, "host": ""}, "metrics.host"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOptionsError, match=name) as caught:
        Metrics(**fields)
    assert caught.value.option == name


def test_a_token_is_needed_beside_the_clients_only() -> None:
    assert Metrics(token=None).secret is None
    assert Metrics(token="secret").secret == "secret"
    assert "secret" not in repr(Metrics(token="secret"))
    assert Metrics(port=9100).secret is None
    assert Metrics(path=None).secret is None


def test_the_option_is_checked() -> None:
    with pytest.raises(InvalidOptionsError, match="metrics"):
        AGServer(metrics="/metrics")  # type: ignore[arg-type]
    metrics = Metrics(port=0)
    assert ServerOptions.from_mapping({"metrics": metrics}).metrics is metrics
    assert AGServer().metrics is None


def test_the_extra_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("socketcluster.metrics.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"socketcluster\[metrics\]"):
        AGServer(metrics=Metrics(token="t"))


def test_durations_are_in_the_buckets_that_they_belong_to() -> None:
    random = Random(7)
    durations, added = Durations(), [0.0, 0.001, 10.0, 11.0]
    for value in added:
        durations.add(value)
    for _ in range(20):
        values = [random.choice((random.random() * 12, *BOUNDS)) for _ in range(50)]
        for value in values:
            durations.add(value)
        added += values
        durations.settle()
    places = [bisect_left(BOUNDS, value) for value in added]
    expected = [sum(place <= index for place in places) for index in range(len(BOUNDS) + 1)]
    assert [count for _, count in durations.buckets()] == expected
    assert durations.count == len(added)
    assert durations.total == pytest.approx(sum(added))


@pytest.mark.parametrize("make", [Durations, CallDurations])
def test_a_long_list_is_sorted_before_the_scrape(make: type[Durations]) -> None:
    durations = make()
    for _ in range(MANY):
        durations.add(0.001)
    durations.settle_many()
    assert len(durations._recent) == MANY
    durations.add(0.001)
    durations.settle_many()
    assert durations._recent == []
    assert durations.count == MANY + 1


def test_no_duration_is_lost_while_threads_read() -> None:
    durations = Durations()

    def settle() -> None:
        for _ in range(2000):
            durations.settle()

    readers = [Thread(target=settle) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(50_000):
        durations.add(0.001)
    for reader in readers:
        reader.join()
    assert durations.count == 50_000


def take(times: CallDurations, durations: Iterable[float]) -> int:
    """Make calls of these seconds; return how many were timed."""
    timed = 0
    for each in durations:
        if next(times.flags):
            times.start()
            times.add(each)
            timed += 1
    return timed


def test_of_many_calls_some_are_timed_and_stand_for_all() -> None:
    times = CallDurations()
    assert take(times, [0.002] * FEW) == FEW
    assert take(times, [0.2] * EVERY * 100) == 100
    assert times.begun == times.count == FEW + EVERY * 100
    assert times.total == pytest.approx(FEW * 0.002 + EVERY * 100 * 0.2)
    buckets = dict(times.buckets())
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.25"]) == (0, FEW, times.count)


def test_no_rhythm_hides_calls_that_take_long() -> None:
    rounds = 12_800
    for place in (0, 17, EVERY - 1):
        times = CallDurations()
        take(times, [0.002] * FEW)
        take(times, [20.0 if each == place else 0.002 for each in range(EVERY)] * rounds)
        long = times.count - dict(times.buckets())["10.0"]
        assert 0.6 < long / rounds < 1.4  # The standard deviation is 0.07.


@pytest.mark.parametrize("before", [0, 1, FEW, FEW + 1, FEW + EVERY * 300 + 3])
def test_the_first_calls_of_each_second_are_timed(before: int) -> None:
    times = CallDurations()
    take(times, [0.1] * before)
    times.time_all()
    assert times.begun == before
    assert take(times, [0.1] * FEW) == FEW
    assert times.begun == before + FEW
    assert take(times, [0.1] * 2 * EVERY) == 2


async def test_calls_of_loops_are_timed_by_requests_of_their_own() -> None:
    calls = CallTimes()
    make: Any = calls.request_class()
    socket: Any = type("Socket", (), {"messaging": None})

    def timed(count: int) -> int:
        requests = [make(socket, number, "x", None) for number in range(count)]
        return sum(each._responder is not None for each in requests)

    assert timed(FEW + 2 * EVERY) == FEW + 2
    calls.settle()
    assert timed(FEW) == FEW
    assert calls.others.begun == 2 * FEW + 2 * EVERY
