"""What may be signed, and what may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from socketcluster.auth import JWTAuthEngine
from socketcluster.errors import InvalidArgumentsError

KEY = "k" * 32


@pytest.mark.parametrize(
    ("claims", "key", "options", "problem"),
    [
        (["no", "dict"], KEY, {}, "must be a dict"),
        ({}, KEY, {"algorithm": "none"}, "must be signed"),
        ({}, "-----BEGIN PUBLIC KEY-----\nx", {"algorithm": "HS256"}, "cannot be the secret"),
        ({}, KEY, {"header": "kid"}, "must be a dict"),
        ({}, KEY, {"header": {"alg": "none"}}, "cannot change the algorithm"),
        ({"exp": "tomorrow"}, KEY, {}, "should be a number of seconds"),
        ({}, KEY, {"expires_in": "1h"}, "must be a number of seconds or a timedelta"),
        ({}, KEY, {"expires_in": 10**20}, "must be a number of seconds or a timedelta"),
    ],
)
def test_a_token_that_would_not_be_verified_is_not_signed(
    claims: Any, key: str, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidArgumentsError, match=problem):
        JWTAuthEngine().sign_token(claims, key, {"algorithm": "HS256", **options})


def test_times_can_be_datetimes_and_timedeltas() -> None:
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    engine = JWTAuthEngine()
    signed = engine.sign_token({"exp": moment}, KEY, {"not_before": timedelta(seconds=-1)})
    claims = engine.verify_token(signed, KEY, {"algorithms": ["HS256"]})
    assert claims["exp"] == moment.timestamp()
    assert claims["nbf"] == claims["iat"] - 1
