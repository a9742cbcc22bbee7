"""The JSON codec. Expected texts were recorded from npm sc-formatter."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from socketcluster.codecs.json import MAX_DEPTH, JSONCodec
from socketcluster.errors import EncodeError, InvalidMessageError, UsageError
from socketcluster.protocol.wire import Wire

codec = JSONCodec()


@dataclass
class Point:
    x: int
    blob: bytes = b"\x00\x01\xff"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_binary_data_becomes_a_base64_object(kind: Any) -> None:
    text = codec.encode({"event": "b", "data": kind(b"\x00\x01\xff")})
    assert text == '{"event":"b","data":{"base64":true,"data":"AAH/"}}'


@pytest.mark.parametrize(
    "holder",
    [
        [b"\x00\x01\xff"],
        (b"\x00\x01\xff",),
        {"deep": [{"er": b"\x00\x01\xff"}]},
        {b"\x00\x01\xff"},
        Point(1),
        [Point(1)],
    ],
)
def test_binary_data_is_found_wherever_it_is(holder: Any) -> None:
    assert '{"base64":true,"data":"AAH/"}' in codec.encode({"data": holder})


def test_base64_objects_stay_objects_when_decoded() -> None:
    data = {"base64": True, "data": "AAH/"}
    assert codec.decode(json.dumps(data)) == data


def test_data_that_looks_like_a_serialised_buffer_is_left_alone() -> None:
    data = {"type": "Buffer", "data": [1, 2, 3]}
    assert codec.decode(codec.encode({"data": data})) == {"data": data}


def test_what_is_not_finite_becomes_null() -> None:
    numbers = [float("nan"), float("inf"), float("-inf"), 1.5]
    assert codec.encode(numbers) == "[null,null,null,1.5]"
    assert codec.encode({"a": numbers, "b": b""}).startswith('{"a":[null,null,null,1.5]')


def test_common_types_are_encoded() -> None:
    moment, ident = datetime(2020, 1, 2, tzinfo=UTC), uuid.UUID(int=1)
    encoded = json.loads(codec.encode({"t": moment, "u": ident, "p": Point(2, b"")}))
    assert encoded == {
        "t": "2020-01-02T00:00:00Z",
        "u": str(ident),
        "p": {"x": 2, "blob": {"base64": True, "data": ""}},
    }


def test_keys_that_are_numbers_become_strings() -> None:
    assert codec.decode(codec.encode({1: "a", 1.5: b"x"})) == {
        "1": "a",
        "1.5": {"base64": True, "data": "eA=="},
    }


def test_raw_values_are_copied() -> None:
    assert codec.encode_bytes({"a": msgspec.Raw(b'{"x": 1}')}) == b'{"a":{"x": 1}}'
    assert codec.encode_bytes([b"", msgspec.Raw(b"7")]).endswith(b",7]")


def cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "value",
    [object(), {"a": [object()]}, {None: 1}, {(1,): 1}, cycle(), 10**5000, ValueError()],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_encoded_is_misuse_with_a_cause(value: Any) -> None:
    with pytest.raises(EncodeError) as raised:
        codec.encode(value)
    assert raised.value.__cause__ is not None
    assert isinstance(raised.value, UsageError)


@pytest.mark.parametrize("message", ["#1", "#2", "", "hello", "12", '"text"', "nullx"])
def test_what_does_not_begin_like_json_is_a_raw_message(message: str) -> None:
    assert codec.decode(message) == message
    assert codec.decode(message.encode()) == message


def test_raw_binary_messages_stay_binary() -> None:
    assert codec.decode(b"\xff\xfe") == b"\xff\xfe"


@pytest.mark.parametrize(
    "message", ['{"a":1}', ' \r\n\t{"a":1} ', b'{"a":1}', bytearray(b'{"a":1}')]
)
def test_text_and_bytes_are_decoded(message: Any) -> None:
    assert codec.decode(message) == {"a": 1}


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[1,",
        '{"a":1}x',
        "[NaN]",
        "[Infinity]",
        "[1e999]",
        b'["\xff"]',
        b'["\xed\xa0\x80"]',
        "[" + "1" * 5000 + "]",
        "[" * 100_000,
        "[" * 900 + "]" * 900,
        '{"a":' * 200 + "1" + "}" * 200,
    ],
    ids=lambda message: ascii(message[:12]),
)
def test_bad_messages_are_the_peers_fault(message: Any) -> None:
    with pytest.raises(InvalidMessageError):
        codec.decode(message)


@pytest.mark.parametrize(
    "message",
    [
        "[18446744073709551615]",
        "[-9223372036854775808]",
        "[18446744073709551616]",
        "[" + "9" * 400 + "]",
        "[1e308]",
        r'["\ud83d\ude00"]',
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '{"__proto__":{"constructor":1}}',
        '["' + "[" * 1000 + '"]',
    ],
    ids=lambda message: ascii(message[:24]),
)
def test_what_is_decoded_can_be_encoded_again(message: str) -> None:
    try:
        value = codec.decode(message)
    except InvalidMessageError:
        assert "9" * 20 in message or "551616" in message, "only integers beyond 64 bits may be"
        return
    assert codec.decode(codec.encode(value)) == value == json.loads(message)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "[1", "text", [], {"a": [1]}, [[1], 2]])
def test_decode_value_is_the_reverse_of_encode_bytes(value: Any) -> None:
    assert codec.decode_value(codec.encode_bytes(value)) == value


@pytest.mark.parametrize("data", [b"", b"1,2", b"]", b"1],[2", b"x"])
def test_decode_value_takes_one_value(data: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        codec.decode_value(data)


@pytest.mark.parametrize(
    "item",
    [b"1" * 3999, b'"' + b"1" * 3999 + b'"', b"[", b"{}", b'"\\u0041"', b'{"base64":true}'],
)
def test_no_message_takes_long(item: bytes) -> None:
    wire = Wire(JSONCodec())
    count = 1024 * 1024 // (len(item) + 1)
    message = b'{"event":"x","data":[' + b",".join([item] * count) + b"]}"
    began = time.process_time()
    with contextlib.suppress(InvalidMessageError):
        wire.decode(message)
    assert time.process_time() - began < 1


def test_data_with_a_lone_surrogate_and_no_json_is_refused() -> None:
    with pytest.raises(EncodeError, match="cannot be encoded as JSON"):
        codec.encode(["\ud800", object()])


def test_a_decoded_lone_surrogate_is_encoded_again() -> None:
    value = codec.decode('["\\ud800"]')
    assert codec.decode(codec.encode_decoded(value)) == value


@pytest.mark.parametrize(
    ("text", "valid"),
    [("[1e300,{}]", True), ("[1e999,{}]", False), ("[" * 200 + "{}" + "]" * 200, False)],
)
@pytest.mark.parametrize("length", [0, 1000])
def test_validity_is_that_of_decoding(text: str, valid: bool, length: int) -> None:
    data = text.replace("{}", f'"{"x" * length}"').encode()
    assert codec.is_valid(data) is valid
