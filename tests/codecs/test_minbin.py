"""The min-bin codec. The messages were recorded from npm sc-codec-min-bin 3."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from socketcluster.codecs.base import COLLISIONS_FROM
from socketcluster.codecs.json import MAX_DEPTH
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import EncodeError, InvalidMessageError
from socketcluster.handlers.data_type import DataType

codec = MinBinCodec()
WHEN = datetime(2024, 2, 28, 12, 30, 1, 250_000, tzinfo=UTC)

# name: (packet, the npm codec's message, what that decodes to if it is not the packet)
RECORDED: dict[str, tuple[Any, str, Any]] = {
    "event": ({"event": "e", "data": {"a": 1}}, "81a16592a16581a16101", None),
    "call": ({"event": "e", "data": [1, "é"], "cid": 3}, "81a16593a1659201a2c3a903", None),
    "publish": (
        {"event": "#publish", "data": {"channel": "c", "data": {"x": 1.5}}, "cid": 7},
        "81a17093a16381a178cb3ff800000000000007",
        None,
    ),
    "publish of nothing": (
        {"event": "#publish", "data": {"channel": "c", "data": None}},
        "81a17092a163c0",
        None,
    ),
    "malformed publish": (
        {"event": "#publish", "data": None, "cid": 1},
        "81a16593a8237075626c697368c001",
        None,
    ),
    "answer": (
        {"rid": 3, "data": {"ok": True}},
        "81a1729303c081a26f6bc3",
        {"rid": 3, "error": None, "data": {"ok": True}},
    ),
    "failure": (
        {"rid": 3, "error": {"name": "E", "message": "m"}},
        "81a172930382a46e616d65a145a76d657373616765a16dc0",
        {"rid": 3, "error": {"name": "E", "message": "m"}, "data": None},
    ),
    "handshake": (
        {"event": "#handshake", "data": {"authToken": None}, "cid": 1},
        "81a16593aa2368616e647368616b6581a961757468546f6b656ec001",
        None,
    ),
    "binary": ({"event": "b", "data": b"\x00\x01\xff"}, "81a16592a162c4030001ff", None),
    "batch": (
        [{"event": "a", "data": 1}, {"rid": 1, "error": None, "data": 2}],
        "9281a16592a1610181a1729301c002",
        None,
    ),
    "raw": ("raw", "a3726177", None),
}


@pytest.mark.parametrize("name", RECORDED)
def test_encodes_as_the_original(name: str) -> None:
    packet, message, _ = RECORDED[name]
    before = repr(packet)
    assert codec.encode(packet).hex() == message
    assert repr(packet) == before, "the packet itself is not changed"


@pytest.mark.parametrize("name", RECORDED)
def test_decodes_what_the_original_encodes(name: str) -> None:
    packet, message, decoded = RECORDED[name]
    assert codec.decode(bytes.fromhex(message)) == (packet if decoded is None else decoded)


def test_large_numbers_of_javascript() -> None:
    message = bytes.fromhex("81a16592a16e94cb433fffffffffffffffce00011170cb3fb999999999999a")
    assert codec.decode(message) == {"event": "n", "data": [2**53 - 1, -1, 70000, 0.1]}


@pytest.mark.parametrize(
    "packet",
    [
        {"event": "a", "data": 1, "extra": 2},
        {"event": "a", "rid": 1, "data": 1},
        {"rid": 1, "cid": 2},
        {"event": "#publish", "data": {"channel": "c"}},
        {"event": "#publish", "data": {"channel": "c", "data": 1, "more": 2}, "cid": 1},
        {"rid": 0, "error": None, "data": None},
        {"event": "", "data": None},
        {"neither": 1},
        [],
        [1, "x", {"event": "a", "data": None}],
    ],
)
def test_nothing_of_a_packet_is_lost(packet: Any) -> None:
    assert codec.decode(codec.encode(packet)) == packet


def test_an_event_without_data_has_none() -> None:
    assert codec.decode(codec.encode({"event": "x"})) == {"event": "x", "data": None}


@pytest.mark.parametrize("value", [object(), 2**64, -(2**63) - 1, {"a": [object()]}])
def test_what_cannot_be_encoded_is_misuse_with_a_cause(value: Any) -> None:
    with pytest.raises(EncodeError) as raised:
        codec.encode({"event": "e", "data": value})
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01\x01",
        b"\x92\x01",
        b"\xc1",
        b"\xa2\xff\xff",
        b"\x81\x80\x01",
        b"\x81\x90\x01",
        b"\x82\xa1a\x01\x92\x01\xa1a\x02",
        b"\x81\x91\x91\x01\x01",
        b"\x91\x81\xdc\x00\x01\x01\x01",
        b"\x91\x81\xdd\x00\x00\x00\x01\x01\x01",
        b"\x81\xd4\x01\x00\x01",
        b"\x81\xa1e\x92\xa1e\x81\x90\x01",
        b"\x81\x90\xa2\xff\xff",
        b"\xd4\xff\x00",
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" * 8,
        b"\xdd\xff\xff\xff\xff\x01",
        b"\x91" * 100_000 + b"\x90",
        b"\x91" * (MAX_DEPTH + 1) + b"\x90",
        b"\x81\xa1a" * (MAX_DEPTH + 1) + b"\x80",
        "text",
    ],
    ids=lambda message: ascii(message[:8]),
)
def test_bad_messages_are_the_peers_fault(message: Any) -> None:
    with pytest.raises(InvalidMessageError):
        codec.decode(message)


@pytest.mark.parametrize("key", [1, -1, 2**63, 1.5, None, True, "a", b"a", WHEN])
def test_keys_are_text_binary_or_scalar(key: Any) -> None:
    value = {"event": "e", "data": [{key: 1}]}
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("key", [1, -1, 2**63, 1.5, None, True, WHEN])
def test_keys_of_long_messages_are_text_or_binary(key: Any) -> None:
    message = codec.encode([{"a": 1, b"a": 2}, b"x" * COLLISIONS_FROM])
    assert codec.decode(message)[0] == {"a": 1, b"a": 2}
    message = codec.encode([{key: 1}, b"x" * COLLISIONS_FROM])
    with pytest.raises(InvalidMessageError, match=r"text or binary keys: .* map key"):
        codec.decode(message)


ARRAY_KEY = b"\x81\x92\xff\xfe\x01"


class Open(msgspec.Struct):
    n: Any


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Any, ARRAY_KEY),
        (dict, ARRAY_KEY),
        (list, b"\x91" + ARRAY_KEY),
        (dict[Any, int], ARRAY_KEY),
        (dict[int, int], ARRAY_KEY),
        (dict[tuple[int, int], int], ARRAY_KEY),
        (dict[str, Any], b"\x81\xa1a" + ARRAY_KEY),
        (list[dict[Any, int]], b"\x91" + ARRAY_KEY),
        (Open, b"\x81\xa1n" + ARRAY_KEY),
        (list[Open], b"\x91\x81\xa1n" + ARRAY_KEY),
        (Open | None, b"\x81\xa1n" + ARRAY_KEY),
    ],
    ids=str,
)
def test_no_type_makes_an_array_a_key(kind: Any, data: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        DataType.of(kind).from_msgpack(data)


def test_the_data_of_a_long_event_has_no_array_as_key() -> None:
    opened = codec.open_event(b"\x81\xa1e\x92\xa1e" + ARRAY_KEY)
    assert opened is not None
    with pytest.raises(InvalidMessageError, match="key of a map"):
        codec.decode_data(opened.data)


def test_times_and_extensions() -> None:
    packet = {"event": "e", "data": [WHEN, WHEN.replace(year=9999), WHEN.replace(year=1)]}
    assert codec.decode(codec.encode(packet)) == packet
    (extension,) = codec.decode(b"\x91\xc7\x02\x80ab")
    assert type(extension) is msgspec.msgpack.Ext
    assert (extension.code, extension.data) == (-128, b"ab")


def test_the_deepest_message_allowed() -> None:
    value = codec.decode(b"\x91" * (MAX_DEPTH - 1) + b"\x90")
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    "packet",
    [
        {"e": 5},
        {"e": []},
        {"p": ["c"]},
        {"p": None},
        {"r": []},
        {"r": [1]},
        {"e": [{}, {}, {}, {}]},
    ],
)
def test_half_packets_are_decoded_without_an_exception(packet: Any) -> None:
    decoded = codec.decode(codec.encode(packet))
    assert isinstance(decoded, dict)


def test_random_bytes_are_decoded_or_refused() -> None:
    source = random.Random(3)
    decoded = 0
    for _ in range(5_000):
        message = source.randbytes(source.randrange(1, 12))
        try:
            value = codec.decode(message)
        except InvalidMessageError:
            continue
        decoded += 1
        codec.encode({"event": "again", "data": value})
    assert decoded > 100


def levels_of(value: Any) -> int:
    """Levels of lists and maps, one by one."""
    if isinstance(value, dict):
        return 1 + max(map(levels_of, value.values()), default=0)
    return 1 + max(map(levels_of, value), default=0) if isinstance(value, list) else 0


def some_value(chance: random.Random, levels: int) -> Any:
    if levels <= 0 or chance.random() < 0.02:
        return chance.choice([None, 1, 1.5, "[[", b"\x90", "é]", msgspec.msgpack.Ext(1, b"{")])
    items = [some_value(chance, levels - chance.randrange(1, 3))]
    if chance.random() < 0.5:
        items.append(some_value(chance, min(levels - 1, chance.randrange(4))))
    if chance.random() < 0.5:
        return items
    return {chance.choice([None, b"k", "[", 5, 1.5, True]): item for item in items}


@pytest.mark.parametrize("seed", range(20))
def test_levels_are_counted_whatever_the_value_holds(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        value = some_value(chance, chance.choice([20, 150]))
        value = [value, [[1]] * 200]  # Enough to have it looked at.
        message = msgspec.msgpack.encode(value)
        found = levels_of(value)
        assert codec.decode_short(message, found)
        with pytest.raises(InvalidMessageError, match="levels"):
            codec.decode_short(message, found - 1)
