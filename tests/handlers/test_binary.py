"""Binary data in JSON, where no type says that it is."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster.handlers.binary import with_binary


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"base64": True, "data": "AP8="}, b"\x00\xff"),
        ([{"a": {"base64": True, "data": ""}}], [{"a": b""}]),
        ({"base64": True, "data": "?"}, {"base64": True, "data": "?"}),
        ({"base64": False, "data": "AP8="}, {"base64": False, "data": "AP8="}),
        ({"base64": 1, "data": "AP8="}, {"base64": 1, "data": "AP8="}),
        ([1, "AP8=", None], [1, "AP8=", None]),
    ],
)
def test_all_binary_data_in_its_json_form_becomes_bytes(value: Any, expected: Any) -> None:
    assert with_binary(value) == expected
