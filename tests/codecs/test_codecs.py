"""The JSON and min-bin codecs, and any other."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest

from socketcluster.codecs.json import MAX_DEPTH, JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import EncodeError, InvalidMessageError
from support import connected, until


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, '{"a":[1,2.5,null,true,"é"]}'),
        (float("nan"), "null"),
        (b"hi", '{"base64":true,"data":"aGk="}'),
        ({"a": [bytearray(b"hi")], "b": (1, memoryview(b"\x00"))},) * 2,
    ][:3],
)
def test_json_encodes_as_the_original(value: Any, text: str) -> None:
    assert JSONCodec().encode(value) == text


def test_json_finds_binary_data_anywhere() -> None:
    found = json.loads(JSONCodec().encode({"a": [{"b": (memoryview(b"\x00"),)}], "c": {"d": b""}}))
    assert found == {
        "a": [{"b": [{"base64": True, "data": "AA=="}]}],
        "c": {"d": {"base64": True, "data": ""}},
    }


def test_json_leaves_what_looks_like_a_buffer() -> None:
    text = '{"type":"Buffer","data":[1,2]}'
    assert JSONCodec().encode(JSONCodec().decode(text)) == text


@pytest.mark.parametrize("value", [object(), {"a": {1, object()}}, {object(): 1}])
def test_json_refuses_what_it_cannot_encode(value: Any) -> None:
    with pytest.raises(EncodeError):
        JSONCodec().encode(value)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(EncodeError):
        JSONCodec().encode(circle)


@pytest.mark.parametrize("text", ["hello", "", "5", '"x"', "#1"])
def test_json_leaves_raw_texts(text: str) -> None:
    assert JSONCodec().decode(text) == text
    assert JSONCodec().decode(text.encode()) == text


NOT_JSON = ["{", "[1,]", "[NaN]", "[" * 3000, "[1e999]", '{"a":1}x']
TOO_MUCH = ["[" + "9" * 5000 + "]", "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)]


@pytest.mark.parametrize("text", [*NOT_JSON, *TOO_MUCH])
def test_json_refuses_what_could_not_be_encoded_again(text: str) -> None:
    with pytest.raises(InvalidMessageError):
        JSONCodec().decode(text)


def test_json_takes_large_and_deep_but_not_too_deep() -> None:
    text = f"[{2**63 - 1},{-(2**63)},{2**100}]"
    assert JSONCodec().decode(text) == [2**63 - 1, -(2**63), 2**100]
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert JSONCodec().encode(JSONCodec().decode(text)) == text


# Made by npm sc-codec-min-bin 3.0.0.
MINBIN = [
    ({"event": "a", "data": 1}, "81a16592a16101"),
    ({"event": "a", "data": 1, "cid": 2}, "81a16593a1610102"),
    ({"event": "#publish", "data": {"channel": "c", "data": "d"}}, "81a17092a163a164"),
    (
        {"event": "#publish", "data": {"channel": "c", "data": "d"}, "cid": 3},
        "81a17093a163a16403",
    ),
    ({"rid": 1, "error": None, "data": "x"}, "81a1729301c0a178"),
    ({"free": True}, "81a466726565c3"),
]


@pytest.mark.parametrize(("packet", "message"), MINBIN)
def test_minbin_is_compatible(packet: Any, message: str) -> None:
    codec = MinBinCodec()
    assert codec.encode(packet).hex() == message
    assert codec.decode(bytes.fromhex(message)) == packet
    assert codec.decode(codec.encode([packet, packet])) == [packet, packet]


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x92\x01", b"\x91" * 5000 + b"\x01", "text"])
def test_minbin_refuses_what_it_cannot_decode(message: Any) -> None:
    with pytest.raises(InvalidMessageError):
        MinBinCodec().decode(message)


@pytest.mark.parametrize("message", [{"e": 5}, {"p": []}, {"r": [1]}, {"e": ["x"]}, {1: 2}])
def test_minbin_survives_odd_packets(message: Any) -> None:
    codec = MinBinCodec()
    assert codec.decode(codec._encode(message)) is not None


def test_minbin_keeps_binary_data() -> None:
    codec = MinBinCodec()
    assert codec.decode(codec.encode({"event": "a", "data": b"\x00"}))["data"] == b"\x00"
    with pytest.raises(EncodeError):
        codec.encode({"event": object()})


class Rot13:
    """A codec of text that is no JSON codec of ours."""

    def encode(self, obj: Any) -> str:
        return codecs.encode(json.dumps(obj), "rot13")

    def decode(self, message: Any) -> Any:
        assert isinstance(message, str)
        return json.loads(codecs.decode(message, "rot13"))


async def test_any_object_with_encode_and_decode_is_a_codec(make_server: Any, running: Any) -> None:
    codec = Rot13()
    server = await make_server(codec_engine=codec)
    assert server.codec is codec
    watched = running.collect(server.exchange.subscribe("c"))
    running.procedure(server, "echo")
    async with connected(server, handshake=False) as client:
        await client.send(codec.encode({"event": "#handshake", "data": {}, "cid": 1}))
        await until(lambda: len(client.messages) == 1)
        await client.send(codec.encode({"event": "#subscribe", "data": {"channel": "c"}, "cid": 2}))
        publish = {"event": "#publish", "data": {"channel": "c", "data": [1]}, "cid": 3}
        await client.send(codec.encode([publish, {"event": "echo", "data": 5, "cid": 4}]))
        await client.send("not this codec")
        await until(lambda: len(client.messages) == 5)
        decoded = [codec.decode(m) for m in client.messages]
        assert decoded[1] == {"rid": 2}
        assert decoded[2]["data"] == {"channel": "c", "data": [1]}
        assert decoded[3:] == [{"rid": 3}, {"rid": 4, "data": 5}]
        assert watched == [[1]]
