"""The options `Limits` and `Rate`, and the arithmetic of one bucket."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from socketcluster import AGServer, Limits, Rate, ServerOptions
from socketcluster.errors import InvalidOptionsError, RateLimitError, dehydrate_error, hydrate_error
from socketcluster.server.limits import Bucket


def test_a_rate_has_defaults() -> None:
    rate = Rate(100)
    assert (rate.count, rate.per, rate.burst, rate.exceeded) == (100, 1.0, 100, None)
    assert Rate(5, per=timedelta(minutes=1), burst=2).per == 60.0
    assert Rate(5, per=2) == Rate(5, 2.0, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rate.count = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"count": 0}, "Rate.count"),
        ({"count": True}, "Rate.count"),
        ({"count": 1.5}, "Rate.count"),
        ({"count": "5"}, "Rate.count"),
        ({"count": 5, "per": 0}, "Rate.per"),
        ({"count": 5, "per": float("inf")}, "Rate.per"),
        ({"count": 5, "per": float("nan")}, "Rate.per"),
        ({"count": 5, "per": True}, "Rate.per"),
        ({"count": 5, "per": "1"}, "Rate.per"),
        ({"count": 5, "per": timedelta(0)}, "Rate.per"),
        ({"count": 5, "burst": 0}, "Rate.burst"),
        ({"count": 5, "burst": 1.5}, "Rate.burst"),
        ({"count": 5, "exceeded": "drop"}, "Rate.exceeded"),
    ],
)
def test_a_rate_refuses_other_values(fields: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOptionsError, match=f"The {option} option must be") as caught:
        Rate(**fields)
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("fields", "option", "told"),
    [
        ({"message": 5}, "limits.message", "must be a rate"),
        ({"bytes": 5}, "limits.bytes", "must be a rate"),
        ({"connect_per_ip": 5}, "limits.connect_per_ip", "must be a rate"),
        ({"connections_per_ip": Rate(5)}, "limits.connections_per_ip", "an integer above 0"),
        ({"connections_per_ip": 0}, "limits.connections_per_ip", "an integer above 0"),
        ({"sockets_per_user": True}, "limits.sockets_per_user", "an integer above 0"),
        ({"exceeded": "drop"}, "limits.exceeded", "'error', 'pause' or 'close'"),
        ({"procedures": Rate(5)}, "limits.procedures", "must be a mapping"),
        ({"procedures": {"add": 5}}, "limits.procedures", "must be a mapping"),
        ({"procedures": {"#publish": Rate(5)}}, "limits.procedures", "use limits.publish"),
        (
            {"procedures": {"add": Rate(5, exceeded="pause")}},
            r"limits.procedures['add']",
            "always receives an error",
        ),
        (
            {"procedures": {"add": Rate(5, exceeded="close")}},
            r"limits.procedures['add']",
            "always receives an error",
        ),
        (
            {"connect_per_ip": Rate(5, exceeded="pause")},
            "limits.connect_per_ip",
            "always receives an error",
        ),
        ({"exceeded": "pause", "sockets_per_user": 2}, "limits.exceeded", "no limit uses it"),
        ({"exceeded": "close", "procedures": {"a": Rate(1)}}, "limits.exceeded", "no limit uses"),
    ],
)
def test_limits_refuse_contradictions(fields: dict[str, Any], option: str, told: str) -> None:
    with pytest.raises(InvalidOptionsError) as caught:
        Limits(**fields)
    assert caught.value.option == option
    assert told in str(caught.value)


def test_a_rate_decides_for_itself_what_happens_past_it() -> None:
    limits = Limits(message=Rate(5, exceeded="close"), invoke=Rate(5), exceeded="pause")
    assert limits.message is not None
    assert limits.invoke is not None
    assert limits.exceeded_of(limits.message) == "close"
    assert limits.exceeded_of(limits.invoke) == "pause"


def test_the_option_takes_limits_only() -> None:
    limits = Limits(invoke=Rate(5))
    assert ServerOptions().limits is None
    assert ServerOptions.from_mapping({"limits": limits}).limits is limits
    wrong: Any = {"invoke": 5}
    with pytest.raises(InvalidOptionsError, match=r"such as Limits\(invoke=Rate\(100\)\)"):
        AGServer(limits=wrong)


def test_a_bucket_has_room_for_its_burst_and_then_for_the_rate() -> None:
    bucket = Bucket(Rate(2, per=1, burst=3))
    level = 0.0
    for _ in range(3):
        assert bucket.has_room(level, 8.0)
        level = bucket.add(level, 8.0)
    assert not bucket.has_room(level, 8.0)
    assert bucket.wait(level, 8.0) == 0.5
    assert bucket.has_room(level, 8.5)
    assert bucket.wait(level, 9.5) == 0.0


def test_units_beyond_the_room_are_waited_for_afterwards() -> None:
    bucket = Bucket(Rate(100, per=1))
    level = bucket.add(0.0, 1.0, 350)
    assert not bucket.has_room(level, 3.5)
    assert bucket.has_room(level, 3.51)


def test_the_error_tells_a_client_when_to_try_again() -> None:
    wire = dehydrate_error(RateLimitError("m", 250))
    assert wire == {"message": "m", "name": "RateLimitError", "retryAfter": 250}
    error = hydrate_error(wire)
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, error.is_remote) == (250, True)


@pytest.mark.parametrize(
    ("rate", "channels", "warns"),
    [
        (Rate(10), 1000, True),
        (Rate(10), None, True),
        (Rate(10, burst=1000), 1000, False),
        (Rate(10, exceeded="pause"), 1000, False),
    ],
)
def test_a_subscribe_limit_that_makes_clients_lose_channels_is_warned_of(
    rate: Rate, channels: int | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    AGServer(limits=Limits(subscribe=rate), socket_channel_limit=channels)
    assert ("limits.subscribe refuses" in caplog.text) is warns
