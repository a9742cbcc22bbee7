"""Buckets against a simple model: what they let pass, in random programs of events and waits."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from socketcluster import Rate
from socketcluster.server.limits import Bucket

RATES = st.builds(
    Rate, st.integers(1, 10**6), st.floats(0.01, 10**5), st.none() | st.integers(1, 10**4)
)
WAITS = st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 300)), max_size=40)
BEGIN = st.floats(0, 10**6)
CLOSE = Fraction(1, 100)
"""Units within which a float may decide either way."""


class TokenBucket:
    """The textbook's bucket, in exact numbers: tokens flow in, and each event takes one."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = Fraction(rate.count) / Fraction(rate.per)
        self.burst = rate.burst
        self.tokens = Fraction(rate.burst)
        self.now = Fraction(now)

    def flow(self, now: float) -> None:
        self.tokens = min(
            Fraction(self.burst), self.tokens + (Fraction(now) - self.now) * self.rate
        )
        self.now = Fraction(now)


@given(RATES, BEGIN, WAITS)
def test_a_bucket_lets_pass_what_a_token_bucket_does(
    rate: Rate, now: float, waits: list[tuple[float, int]]
) -> None:
    bucket, model, level = Bucket(rate), TokenBucket(rate, now), 0.0
    for wait, events in waits:
        now += wait
        model.flow(now)
        for _ in range(events):
            passes = bucket.has_room(level, now)
            if abs(model.tokens - 1) > CLOSE:
                assert passes is (model.tokens >= 1)
            if not passes:
                break
            level = bucket.add(level, now)
            model.tokens -= 1


@given(RATES, BEGIN, st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_after_the_wait_there_is_room_and_just_before_there_is_none(
    rate: Rate, now: float, sizes: list[int]
) -> None:
    bucket, level = Bucket(rate), 0.0
    for size in sizes:
        level = bucket.add(level, now, size)
    wait, unit = bucket.wait(level, now), rate.per / rate.count
    assert bucket.has_room(level, now + wait + unit / 100)
    if wait > unit:
        assert not bucket.has_room(level, now + wait - unit / 10)


@given(RATES, BEGIN, st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_over_any_time_the_burst_and_the_rate_are_the_most(
    rate: Rate, now: float, waits: list[float]
) -> None:
    bucket, level, begin, passed = Bucket(rate), 0.0, now, 0
    for wait in waits:
        now += wait
        while bucket.has_room(level, now) and passed < 2 * rate.burst:
            level = bucket.add(level, now)
            passed += 1
        assert passed <= rate.burst + (now - begin) * rate.count / rate.per + 0.1
