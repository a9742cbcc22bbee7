"""The wire form of messages between servers: hostile, forged and long ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from socketcluster.errors import InvalidArgumentsError
from socketcluster.nodes.wire import (
    MAX_MESSAGE_BYTES,
    MessageRejectedError,
    NodeMessage,
    NodeWire,
    derived_key,
    encode_data,
)

WIRE = NodeWire("sc", "secret")


def message(**fields: Any) -> NodeMessage:
    return NodeMessage(**{"type": "t", "node": "n", "number": 1, "time": 5.5, **fields})


def test_a_message_returns_as_it_was() -> None:
    sent = message(target="m", data=encode_data({"a": [1, None, "é"], "b": 1.5}))
    opened = WIRE.open(WIRE.seal(sent))
    assert opened == sent
    signature, body = json.loads(WIRE.seal(message()))
    assert len(signature) == 64
    assert body == {
        "type": "t", "node": "n", "number": 1, "time": 5.5, "target": None, "data": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wire",
    [
        NodeWire("sc", "other"),
        NodeWire("sc2", "secret"),
        NodeWire("", "secret"),
        NodeWire("sc", derived_key("secret")),
    ],
    ids=["key", "prefix", "no prefix", "derived twice"],
)
def test_another_key_or_prefix_signs_otherwise(wire: NodeWire) -> None:
    with pytest.raises(MessageRejectedError, match="same cluster_key") as raised:
        WIRE.open(wire.seal(message()))
    assert raised.value.kind == "forged"


def test_each_field_is_signed() -> None:
    sealed = WIRE.seal(message(target="m", data=encode_data("d"))).decode()
    for old, new in (
        ('"type":"t"', '"type":"u"'),
        ('"node":"n"', '"node":"o"'),
        ('"number":1', '"number":2'),
        ('"time":5.5', '"time":6.5'),
        ('"target":"m"', '"target":null'),
        ('"data":"d"', '"data":"e"'),
        ('"data":"d"', '"data":"d","more":1'),
    ):
        assert sealed.count(old) == 1
        with pytest.raises(MessageRejectedError) as raised:
            WIRE.open(sealed.replace(old, new).encode())
        assert raised.value.kind == "forged"


def test_former_keys_are_accepted_and_do_not_sign() -> None:
    old, new = NodeWire("sc", "old"), NodeWire("sc", "new", ["older", b"old"])
    assert new.open(old.seal(message())) == message()
    assert NodeWire("sc", "new").open(new.seal(message())) == message()
    with pytest.raises(MessageRejectedError):
        old.open(new.seal(message()))


HOSTILE = [
    b"",
    b"null",
    b"{}",
    b"[]",
    b'["x"]',
    b'["x",{},1]',
    b"[1,{}]",
    b'["\\ud800",{}]',
    '["é",{}]'.encode(),
    b'["",' + b"[" * 60_000,
    b'["",' + b"[" * 30_000 + b"]" * 30_000 + b"]",
    b'["",' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"]",
    b'["",' + b"9" * 60_000 + b"]",
    b'["","' + b"\xff" * 10 + b'"]',
    b"\xc1\x01\x00",
    bytes(range(256)),
]


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_messages_are_rejected(payload: bytes) -> None:
    with pytest.raises(MessageRejectedError) as raised:
        WIRE.open(payload)
    assert raised.value.kind in ("malformed", "forged")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"type": ""},
        {"type": "t" * 65},
        {"type": 1},
        {"node": ""},
        {"number": 0},
        {"number": 10**400},
        {"number": "1"},
        {"time": "now"},
        {"time": None},
        {"target": ""},
    ],
    ids=str,
)
def test_a_signed_body_is_checked_too(change: dict[str, Any]) -> None:
    """Of another version: whoever signs has the key."""
    body = json.dumps({"type": "t", "node": "n", "number": 1, "time": 1, **change}).encode()
    signature = WIRE._signature(WIRE._keys[0], body)
    with pytest.raises(MessageRejectedError, match="its body is wrong") as raised:
        WIRE.open(msgspec.json.encode((signature, msgspec.Raw(body))))
    assert raised.value.kind == "malformed"


def test_messages_are_bounded() -> None:
    room = MAX_MESSAGE_BYTES - len(WIRE.seal(message(data=encode_data(""))))
    longest = WIRE.seal(message(data=encode_data("x" * room)))
    assert len(longest) == MAX_MESSAGE_BYTES
    WIRE.open(longest)
    with pytest.raises(InvalidArgumentsError, match=r"has 65,537 bytes; it may have 65,536"):
        WIRE.seal(message(data=encode_data("x" * (room + 1))))
    with pytest.raises(MessageRejectedError) as raised:
        WIRE.open(longest + b" ")
    assert raised.value.kind == "too long"


def test_data_without_a_json_form() -> None:
    for data in (object(), {"a": {"b": object()}}, {(1,): 1}):
        with pytest.raises(InvalidArgumentsError, match="The data for other servers: "):
            encode_data(data)
