"""The wire against json and a plain reading of RFC 6455: every message means what its JSON says,
every frame is one, and no bytes raise anything but InvalidMessageError."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.values import HALF_VALUES, SCALARS, VALUES, WHOLE_TEXTS, broken, nested, objects
from socketcluster.codecs import scan
from socketcluster.codecs.base import CodecEngine
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.codecs.text import with_whole_texts
from socketcluster.errors import InvalidMessageError
from socketcluster.protocol import frames
from socketcluster.protocol.packets import (
    SYSTEM_EVENTS,
    AnyPacket,
    Batch,
    BinaryMessage,
    PublishPacket,
    Unparsed,
    channel_and_data,
)
from socketcluster.protocol.wire import Wire


class Plugged:
    """A codec that somebody plugged in."""

    def encode(self, obj: Any) -> str:
        return json.dumps(obj, indent=1)

    def decode(self, message: Any) -> Any:
        return json.loads(message)


CODECS: dict[str, CodecEngine] = {
    "JSON": JSONCodec(),
    "min-bin": MinBinCodec(),
    "plugged in": Plugged(),
}
LIMITS = st.sampled_from([0, 20, 100, 512, sys.maxsize])
"""Bytes above which data is left unparsed."""

EVENTS = st.one_of(st.sampled_from(sorted(SYSTEM_EVENTS)), st.sampled_from(["x", ""]), WHOLE_TEXTS)
PUBLICATIONS = st.one_of(
    st.fixed_dictionaries({"channel": WHOLE_TEXTS}, optional={"data": HALF_VALUES}),
    st.dictionaries(st.sampled_from(["channel", "data", "z"]), HALF_VALUES, max_size=3),
)
DATA = st.one_of(HALF_VALUES, PUBLICATIONS)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9))
MEMBERS = st.one_of(
    st.tuples(st.just("event"), st.one_of(EVENTS, SCALARS)),
    st.tuples(st.just("data"), DATA),
    st.tuples(st.just("cid"), st.one_of(NUMBERS, SCALARS)),
    st.tuples(st.just("rid"), st.one_of(NUMBERS, SCALARS)),
    st.tuples(st.just("error"), HALF_VALUES),
    st.tuples(WHOLE_TEXTS, HALF_VALUES),
)
PACKETS = objects(MEMBERS)
BATCHES = st.lists(st.one_of(PACKETS, HALF_VALUES.map(json.dumps)), max_size=5).map(
    lambda items: "[" + " , ".join(items) + "]"
)
MESSAGES = st.one_of(PACKETS, BATCHES)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def meaning(value: Any) -> Any:
    """What a packet says, by its JSON."""
    if not isinstance(value, dict):
        return "raw"
    value = with_whole_texts(value)
    event, rid = value.get("event"), value.get("rid")
    if isinstance(event, str):
        data = value.get("data")
        if event == "#publish":
            data = channel_and_data(data)
        return "event", event, data, value["cid"] if _number(value.get("cid")) else None
    if _number(rid):
        return "answer", rid, value.get("data"), value.get("error")
    return "raw"


def parsed(value: Any) -> Any:
    return value.parse() if isinstance(value, Unparsed) else value


def meaning_of(packet: AnyPacket) -> Any:
    """What a packet says, as the wire made it."""
    if isinstance(packet, PublishPacket):
        payload = bytes(packet.data.data)
        data = (packet.data.channel, JSONCodec().decode_value(payload))
        return "event", packet.event, data, packet.cid
    if packet.event is not None:
        data = parsed(packet.data)
        if packet.event == "#publish":
            data = channel_and_data(data)
        return "event", packet.event, data, packet.cid
    if packet.rid is not None:
        return "answer", packet.rid, parsed(packet.data), parsed(packet.error)
    return "raw"


@given(MESSAGES, LIMITS)
def test_a_json_message_means_what_its_json_says(text: str, unparsed_above: int) -> None:
    found = Wire(JSONCodec(), unparsed_above=unparsed_above).decode(text.encode())
    value = json.loads(text)
    if isinstance(value, list):
        assert isinstance(found, Batch)
        assert [meaning_of(packet) for packet in found.packets()] == [*map(meaning, value)]
    else:
        assert not isinstance(found, Batch)
        assert meaning_of(found) == meaning(value)


@pytest.mark.parametrize("codec", CODECS)
@given(value=st.one_of(VALUES, st.lists(VALUES, max_size=3)), limit=LIMITS, event=EVENTS)
def test_every_codec_reads_what_it_wrote(codec: str, value: Any, limit: int, event: str) -> None:
    wire = Wire(CODECS[codec], unparsed_above=limit)
    packet = {"event": event, "data": value, "cid": 7}
    for sent in (packet, [packet, packet], {"rid": 7, "data": value}):
        is_text, payload = frames.frame_payload(wire.frame(sent))
        found = wire.decode(payload if is_text else BinaryMessage(payload))
        items = [*found.packets()] if isinstance(found, Batch) else [found]
        expected = sent if isinstance(sent, list) else [sent]
        assert [meaning_of(item) for item in items] == [*map(meaning, expected)]


def read_all(wire: Wire, message: bytes) -> None:
    """Make every value of a message."""
    found = wire.decode(message)
    for index in range(len(found) if isinstance(found, Batch) else 1):
        with suppress(InvalidMessageError):
            meaning_of(found.packet(index) if isinstance(found, Batch) else found)


@given(st.one_of(st.binary(max_size=300), broken(MESSAGES.map(str.encode))), LIMITS)
def test_no_text_raises_another_error(message: bytes, limit: int) -> None:
    wire = Wire(JSONCodec(), unparsed_above=limit)
    try:
        read_all(wire, message)
    except InvalidMessageError:
        cid = wire.cid_of(message)
        assert cid is None or str(cid).encode() in message.replace(b"-0", b"0")


ENCODED = nested(SCALARS, WHOLE_TEXTS).map(
    lambda value: bytes(MinBinCodec().encode({"event": "x", "data": value, "cid": 1}))
)


@pytest.mark.parametrize("codec", ["min-bin", "plugged in"])
@given(message=st.one_of(st.binary(max_size=200), broken(ENCODED)), limit=LIMITS)
def test_no_binary_message_raises_another_error(codec: str, message: bytes, limit: int) -> None:
    with suppress(InvalidMessageError):
        read_all(Wire(CODECS[codec], unparsed_above=limit), BinaryMessage(message))


# Payloads of publishes


@pytest.mark.parametrize("codec", CODECS)
@given(value=VALUES)
def test_a_payload_comes_back(codec: str, value: Any) -> None:
    payload = Wire(CODECS[codec]).payloads.encode(value)
    receiver = Wire(CODECS[codec]).payloads
    receiver.check(payload)
    assert receiver.decode(payload) == value


@pytest.mark.parametrize("codec", CODECS)
@given(payload=st.one_of(st.binary(max_size=60), broken(VALUES.map(json.dumps).map(str.encode))))
def test_a_payload_is_sound_if_it_has_a_value(codec: str, payload: bytes) -> None:
    payloads = Wire(CODECS[codec]).payloads

    def fails(read: Any) -> bool:
        try:
            read(payload)
        except InvalidMessageError:
            return True
        return False

    assert fails(payloads.check) == fails(payloads.decode)


# What is encoded

SENT = nested(st.one_of(SCALARS, st.binary(max_size=20)), WHOLE_TEXTS)


def as_json(value: Any) -> Any:
    """A value as the protocol has it in JSON."""
    if isinstance(value, bytes):
        return {"base64": True, "data": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


@given(st.lists(SENT, min_size=1, max_size=4), NUMBERS)
def test_frames_hold_the_json_of_what_is_sent(values: list[Any], rid: float) -> None:
    wire = Wire(JSONCodec())

    def said(frame: bytes) -> Any:
        is_text, payload = frames.frame_payload(frame)
        assert is_text
        return json.loads(payload)

    packets = [{"event": "x", "data": value} for value in values]
    items = [wire.batch_item(packet) for packet in packets]
    assert said(wire.frame([item for item, _ in items])) == as_json(packets)
    for packet, (_, size) in zip(packets, items, strict=True):
        frame = wire.frame(packet)
        assert said(frame) == as_json(packet)
        assert len(frames.frame_payload(frame)[1]) == size
        data = packet["data"]
        assert said(wire.answer_frame(rid, data)) == {"rid": rid, "data": as_json(data)}
        publish = {"event": "#publish", "data": {"channel": "c", "data": as_json(data)}}
        payload = wire.payloads.encode(data)
        assert said(wire.payloads.publish_frame("c", payload)) == publish


# Frames

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65_535, 65_536, 70_000]))


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each of a server's frames. Source: RFC 6455, section 5.2."""
    found: list[tuple[int, bytes]] = []
    while data:
        assert data[0] & 0xF0 == 0x80, "final, and no extension"
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
            assert size > 125
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
            assert size > 65_535
        assert size < 2**63
        found.append((data[0] & 15, data[start : start + size]))
        assert len(found[-1][1]) == size
        data = data[start + size :]
    return found


@given(st.lists(st.tuples(st.sampled_from([1, 2, 10]), SIZES, st.binary(min_size=1, max_size=3))))
def test_frames_are_read_as_they_were_built(drawn: list[tuple[int, int, bytes]]) -> None:
    build = {1: frames.text_frame, 2: frames.binary_frame, 10: frames.pong_frame}
    sent = [
        (opcode, (some * size)[: min(size, 125) if opcode == 10 else size])
        for opcode, size, some in drawn
    ]
    built = [build[opcode](payload) for opcode, payload in sent]
    assert read_frames(frames.join(built)) == sent
    for frame, (opcode, payload) in zip(built, sent, strict=True):
        assert frames.frame_payload(frame) == (opcode == 1, payload)


@given(st.sampled_from([1000, 1001, 1014, 3000, 4999]), st.text(max_size=200))
def test_a_close_frame_has_as_much_of_its_reason_as_fits(code: int, reason: str) -> None:
    ((opcode, payload),) = read_frames(frames.close_frame(code, reason))
    assert opcode == 8
    assert len(payload) <= 125
    assert int.from_bytes(payload[:2], "big") == code
    sent = payload[2:].decode()
    assert reason.startswith(sent)
    if sent != reason:
        assert len((sent + reason[len(sent)]).encode()) > frames.MAX_REASON_BYTES


# What is found in bytes

STRINGS = st.text(st.sampled_from('[]{}"\\ax'), max_size=6)
BRACKETS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(STRINGS, st.just([]), st.just({})),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(STRINGS, inner, max_size=3)
    ),
    max_leaves=20,
)


def levels(value: Any) -> int:
    """How deep a value is."""
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return 1 + max(map(levels, children), default=0)
    return 0


@given(BRACKETS, st.integers(0, 40), st.integers(-2, 2))
def test_the_depth_of_a_text_is_that_of_its_value(value: Any, more: int, off: int) -> None:
    for _ in range(more):
        value = [value]
    text = json.dumps(value).encode()
    limit = max(0, levels(value) + off)
    assert scan.deeper_than(text, limit) == (levels(value) > limit)
    assert scan.count_containers(text) >= levels(value)


@given(HALF_VALUES)
def test_a_text_without_half_characters_has_them_replaced(value: Any) -> None:
    text = json.dumps(value).encode()
    whole = scan.without_lone_surrogates(text)
    assert json.loads(whole) == with_whole_texts(json.loads(text))
