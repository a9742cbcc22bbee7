"""The options of the description that a server serves."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer, AsyncAPI
from socketcluster.errors import InvalidOptionsError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", 1),
        ("version", None),
        ("description", b""),
        ("path", "asyncapi"),
        ("path", "/"),
        ("path", None),
        ("url", "https://chat.example.com/"),
        ("url", "wss://"),
        ("url", 1),
        ("token", ""),
        ("token", b"secret"),
    ],
)
def test_invalid_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match=f"asyncapi.{name} ") as caught:
        AsyncAPI(**{name: value})
    assert caught.value.option == f"asyncapi.{name}"


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(AsyncAPI(token="secret"))


def test_a_server_takes_no_other_value() -> None:
    with pytest.raises(InvalidOptionsError, match="asyncapi") as caught:
        AGServer(asyncapi="/asyncapi")  # type: ignore[arg-type]
    assert caught.value.option == "asyncapi"
