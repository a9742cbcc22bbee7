"""The wire: messages to packets, with every codec."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec
import pytest

from socketcluster.codecs.json import MAX_DEPTH, JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import EncodeError, InvalidDataError, InvalidMessageError
from socketcluster.protocol.packets import (
    SYSTEM_EVENTS,
    Batch,
    BinaryMessage,
    Packet,
    Publication,
    PublishPacket,
    Unparsed,
    answer_of,
)
from socketcluster.protocol.wire import Wire


class Indented:
    """A codec that somebody plugged in."""

    def encode(self, obj: Any) -> str:
        return json.dumps(obj, indent=1)

    def decode(self, message: Any) -> Any:
        return json.loads(message)


CODECS = [JSONCodec(), MinBinCodec(), Indented()]


def received(codec: Any, packet: Any) -> bytes:
    """What a socket hands to its wire."""
    message = codec.encode(packet)
    return message.encode() if isinstance(message, str) else BinaryMessage(message)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("cid", [None, 7])
def test_long_data_is_kept_as_bytes_until_it_is_wanted(codec: Any, cid: int | None) -> None:
    wire = Wire(codec, unparsed_above=512)
    data = {"text": "x" * 600}
    message = received(codec, {"event": "e", "data": data} | ({"cid": cid} if cid else {}))
    packet = wire.decode(message)
    assert isinstance(packet, Packet)
    assert (packet.event, packet.cid) == ("e", cid)
    assert isinstance(packet.data, Unparsed)
    assert packet.data.size == len(message)
    value = packet.data.parse()
    assert value == data
    assert packet.data.parse() is value, "it is built once"


class Numbers:
    """A type: a list of numbers. It counts how it was decoded."""

    has_binary = False
    has_floats = True
    may_collide = False

    def refusal(self, error: msgspec.ValidationError) -> InvalidDataError:
        return InvalidDataError("Expected numbers")

    def __init__(self) -> None:
        self.straight = 0
        self.checked = 0
        self.json_decoder: Any = partial(self._decode, msgspec.json.Decoder(list[float]).decode)
        self.msgpack_decoder: Any = partial(
            self._decode, msgspec.msgpack.Decoder(list[float]).decode
        )

    def _decode(self, decode: Any, data: bytes) -> Any:
        value = decode(data)
        self.straight += 1
        return tuple(value)

    def from_value(self, value: Any) -> Any:
        self.checked += 1
        if not isinstance(value, list) or not all(isinstance(n, float) for n in value):
            raise InvalidDataError("Expected numbers")
        return tuple(value)


def unparsed(codec: Any, data: Any) -> Unparsed:
    packet = Wire(codec, unparsed_above=512).decode(received(codec, {"event": "e", "data": data}))
    assert isinstance(packet, Packet)
    assert isinstance(packet.data, Unparsed)
    return packet.data


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_long_data_is_decoded_straight_into_a_type(codec: Any) -> None:
    numbers, kind = [float(number) for number in range(120)], Numbers()
    data = unparsed(codec, [*numbers, 5.25, 1e-7] if codec is CODECS[2] else numbers)
    expected = tuple(numbers) if codec is not CODECS[2] else (*numbers, 5.25, 1e-7)
    assert data.parse_as(kind) == expected
    assert (kind.straight, kind.checked) == ((0, 1) if codec is CODECS[2] else (1, 0))
    assert data.parse() == list(expected), "the bytes are still there"
    assert data.parse_as(kind) == expected
    assert kind.checked == (2 if codec is CODECS[2] else 1), "the value is not decoded again"


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_long_data_of_another_type_is_refused(codec: Any) -> None:
    data = unparsed(codec, ["x" * 600])
    with pytest.raises(InvalidDataError, match="Expected numbers"):
        data.parse_as(Numbers())
    assert data.parse() == ["x" * 600]


@pytest.mark.parametrize(
    ("data", "straight"),
    [
        (",".join(["1.5"] * 300), True),
        (",".join(["1e300"] * 300), False),
        (",".join(["1.5"] * 1000 + ["1e300"]), True),
    ],
    ids=["ordinary", "costly", "one costly"],
)
def test_numbers_that_are_costly_for_msgspec_are_not_decoded_by_it(
    data: str, straight: bool
) -> None:
    packet = Wire(JSONCodec(), unparsed_above=512).decode(
        f'{{"event":"e","data":[{data}]}}'.encode()
    )
    kind = Numbers()
    assert packet.data.parse_as(kind) == tuple(json.loads(f"[{data}]"))  # type: ignore[union-attr]
    assert (kind.straight, kind.checked) == ((1, 0) if straight else (0, 1))


@pytest.mark.parametrize(
    "data", ["[" * 127 + "]" * 127, "1e9999", "9" * 5000, '"\\q"'], ids=["deep", "inf", "int", "q"]
)
def test_data_beyond_the_limits_is_refused_for_any_type(data: str) -> None:
    class Anything(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.json_decoder = msgspec.json.Decoder().decode

        def from_value(self, value: Any) -> Any:
            return value

        def refusal(self, error: msgspec.ValidationError) -> InvalidDataError:
            assert "Integer value out of range" in str(error)
            return InvalidDataError("An integer is out of range")

    message = f'{{"event":"e","data":[{data},"{"x" * 600}"],"cid":1}}'
    wire = Wire(JSONCodec(), unparsed_above=512)
    with pytest.raises((InvalidMessageError, InvalidDataError)):
        wire.decode(message.encode()).data.parse_as(Anything())  # type: ignore[union-attr]


class Answer(msgspec.Struct):
    text: str
    number: int = 1


@pytest.mark.parametrize("codec", CODECS[:2], ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize(
    ("data", "text"),
    [(Answer("x"), "x"), (Answer("\ud83d"), "\ufffd"), ([Answer("é")], None)],
    ids=["plain", "half a character", "list"],
)
def test_an_answer_is_the_same_if_it_is_encoded_directly(
    codec: Any, data: Any, text: str | None
) -> None:
    wire = Wire(codec)
    frame = wire.answer_frame(1, data, directly=True)
    assert frame == wire.answer_frame(1, data)
    assert text is None or text.encode() in frame


@pytest.mark.parametrize("codec", CODECS[:2], ids=lambda codec: type(codec).__name__)
def test_an_answer_without_a_form_cannot_be_encoded_directly_either(codec: Any) -> None:
    with pytest.raises(EncodeError):
        Wire(codec).answer_frame(1, [object()], directly=True)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_short_data_is_parsed_at_once(codec: Any) -> None:
    packet = Wire(codec, unparsed_above=512).decode(received(codec, {"event": "e", "data": [1]}))
    assert isinstance(packet, Packet)
    assert packet.data == [1]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("event", sorted(SYSTEM_EVENTS - {"#publish"}))
def test_data_of_the_protocols_own_events_is_parsed_at_once(codec: Any, event: str) -> None:
    data = {"channel": "c", "data": "x" * 600}
    packet = Wire(codec, unparsed_above=512).decode(
        received(codec, {"event": event, "data": data, "cid": 1})
    )
    assert packet.data == data  # type: ignore[union-attr]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_long_answers_have_a_number_at_once_and_their_data_when_asked(codec: Any) -> None:
    packet = Wire(codec, unparsed_above=512).decode(received(codec, {"rid": 1, "data": "x" * 600}))
    assert isinstance(packet, Packet)
    assert packet.rid == 1
    assert isinstance(packet.data, Unparsed) == isinstance(codec, JSONCodec)
    assert answer_of(packet) == (None, "x" * 600)


@pytest.mark.parametrize("data", ["[" * 500 + "]" * 500, "1e9999", "9" * 5000, '"\\q"'])
def test_data_that_has_no_value_raises_when_it_is_wanted(data: str) -> None:
    message = f'{{"event":"e","data":[{data},"{"x" * 600}"],"cid":1}}'
    wire = Wire(JSONCodec(), unparsed_above=512)
    with pytest.raises(InvalidMessageError):
        wire.decode(message.encode()).data.parse()  # type: ignore[union-attr]


@pytest.mark.parametrize("pad", [0, 1000])
@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("kind", ["event", "call", "subscribe", "publish", "answer", "batch"])
def test_the_levels_of_the_whole_message_count(kind: str, levels: int, pad: int) -> None:
    around = {"publish": 2, "batch": 2}.get(kind, 1)
    nested = "[" * (levels - around) + "]" * (levels - around)
    padding = f'"pad":"{"x" * pad}"'
    text = {
        "event": f'{{{padding},"event":"e","data":{nested}}}',
        "call": f'{{{padding},"event":"e","data":{nested},"cid":1}}',
        "subscribe": f'{{{padding},"event":"#subscribe","data":{nested},"cid":1}}',
        "publish": (
            f'{{"event":"#publish",{padding},"data":{{"channel":"c","data":{nested}}},"cid":1}}'
        ),
        "answer": f'{{{padding},"rid":1,"data":{nested}}}',
        "batch": f'[{{{padding},"event":"e","data":{nested},"cid":1}}]',
    }[kind]
    wire = Wire(JSONCodec(), unparsed_above=512)
    if kind == "event" and not pad and levels > MAX_DEPTH:
        with pytest.raises(InvalidMessageError, match="levels"):
            wire.decode(text.encode())
        return
    found = wire.decode(text.encode())
    packet = found.packet(0) if isinstance(found, Batch) else found
    if kind == "answer":
        assert isinstance(packet, Packet)
        error, data = answer_of(packet)
        if levels > MAX_DEPTH:
            assert isinstance(error, InvalidMessageError)
        else:
            assert (error, data) == (None, json.loads(nested))
        return
    is_good = levels <= MAX_DEPTH
    if kind == "publish":
        assert isinstance(packet, PublishPacket) == is_good
    elif is_good:
        data = packet.data.parse() if isinstance(packet.data, Unparsed) else packet.data
        assert data == json.loads(nested)
    if not is_good:
        assert isinstance(packet.data, Unparsed)
        with pytest.raises(InvalidMessageError, match="levels"):
            packet.data.parse()


@pytest.mark.parametrize("pad", ["", "x" * 1000])
def test_one_bad_packet_does_not_lose_the_others_of_a_batch(pad: str) -> None:
    items = [
        '{"event":"a","data":1}',
        f'{{"event":"b","data":["{pad}",1e999],"cid":2}}',
        f'{{"event":"c","data":["{pad}","\\ud83d"],"cid":3}}',
        "[]",
        "7",
        f'{{"event":"#publish","data":{{"channel":"c\\ud83d","data":"\\ude00{pad}"}},"cid":4}}',
        '{"event":5,"cid":6}',
        '{"rid":9,"data":null}',
    ]
    batch = Wire(JSONCodec(), unparsed_above=512).decode(f"[{','.join(items)}]".encode())
    assert isinstance(batch, Batch)
    packets = [batch.packet(index) for index in range(len(batch))]
    assert [packet.event for packet in packets] == [
        "a",
        "b",
        "c",
        None,
        None,
        "#publish",
        None,
        None,
    ]
    assert [packet.cid for packet in packets[:3]] == [None, 2, 3]
    bad: Any = packets[1].data
    whole: Any = packets[2].data
    publish = packets[5]
    assert isinstance(bad, Unparsed)
    with pytest.raises(InvalidMessageError):
        bad.parse()
    assert (whole.parse() if pad else whole) == [pad, "\ufffd"]
    assert isinstance(publish, PublishPacket)
    assert (publish.data.channel, publish.cid) == ("c\ufffd", 4)
    assert json.loads(bytes(publish.data.data)) == "\ufffd" + pad
    assert packets[7].rid == 9  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "cid"),
    [
        ('{"event":"e","data":[1,],"cid":5}', 5),
        ('{"cid":5,"event":"e","data":[1,]}', 5),
        ('{"event":"e","cid":5,"data":[1,]}', 5),
        (' { "event" : "e" , "data" : x , "cid" : 5 } ', 5),
        ('{"event":"e","data":' + "[" * 100_000 + "]" * 100_000 + ',"cid":5}', 5),
        ('{"event":"e","data":[{"cid":5}x]}', None),
        ('{"event":"e","data":["\\"cid\\":5}', None),
        ('{"data":x,"cid":"5"}', None),
    ],
)
def test_the_number_of_an_unreadable_call_is_found(message: str, cid: int | None) -> None:
    wire = Wire(JSONCodec())
    with pytest.raises(InvalidMessageError):
        wire.decode(message.encode())
    assert wire.cid_of(message.encode()) == cid


@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("kind", ["e", "free"])
def test_the_levels_of_a_min_bin_message_count(kind: str, levels: int) -> None:
    around = 2 if kind == "e" else 1
    nested = b"\x91" * (levels - around - 1) + b"\x90"
    fields = (
        b"\x81\xa1e\x94\xa1x" + nested + b"\x01" if kind == "e" else b"\x82\xa1f\x01\xa1d" + nested
    )
    fields += b"\xda\x03\xe8" + b"x" * 1000 if kind == "e" else b""
    wire = Wire(MinBinCodec(), unparsed_above=512 if kind == "e" else 10_000)
    if levels <= MAX_DEPTH:
        packet = wire.decode(BinaryMessage(fields))
        assert isinstance(packet, Packet)
        if kind == "e":
            assert isinstance(packet.data, Unparsed)
            assert packet.data.parse() == msgspec.msgpack.decode(nested)
        return
    with pytest.raises(InvalidMessageError, match="levels"):
        wire.decode(BinaryMessage(fields)).data.parse()  # type: ignore[union-attr]


def test_an_event_of_min_bin_with_half_a_character_in_its_name() -> None:
    message = b"\x81\xa1e\x93\xa4a\xed\xa0\xbd\xda\x03\xe8" + b"x" * 1000 + b"\x07"
    packet = Wire(MinBinCodec(), unparsed_above=512).decode(BinaryMessage(message))
    assert isinstance(packet, Packet)
    assert (packet.event, packet.cid) == ("a\ufffd", 7)
    assert packet.data.parse() == "x" * 1000


@pytest.mark.parametrize("event", ["e", "#publish", "#subscribe"])
def test_a_short_event_whose_data_has_no_value_is_malformed(event: str) -> None:
    message = f'{{"event":"{event}","data":{{"channel":"c","data":1e999}}}}'
    with pytest.raises(InvalidMessageError, match="out of range"):
        Wire(JSONCodec(), unparsed_above=512).decode(message.encode())


LONG_TEXT = f'"{"x" * 600}"'


@pytest.mark.parametrize(
    "rest",
    [
        f'"data":{{"channel":"c","data":{LONG_TEXT}}},"cid":5}}',
        f'"data":{{"data":{LONG_TEXT}}},"cid":5}}',
        f'"data":{{"channel":5,"data":{LONG_TEXT}}},"cid":5}}',
        f'"data":{{"channel":"c","data":{LONG_TEXT}}},"cid":"5"}}',
        f'"data":{{"channel":"c","data":{LONG_TEXT}}},"cid":1e999}}',
        f'"data":{{"channel":"c","data":[1e999,{LONG_TEXT}]}},"cid":5}}',
        f'"data":{LONG_TEXT},"cid":5}}',
        f'"data":{LONG_TEXT},"data":{{"channel":"c"}}}}',
        f'"data":{{"channel":"c"}},"data":{{"data":{LONG_TEXT}}}}}',
        f'"data":{{"channel":"c","data":{LONG_TEXT}}},"event":"x"}}',
        f'"data":{{"channel":"c","data":{LONG_TEXT}}},"event":5,"rid":1}}',
        f'"data":{{"channel":"\\ud83d","data":{LONG_TEXT}}}}}',
        f'"other":{LONG_TEXT}}}',
    ],
)
def test_a_long_publish_is_read_in_one_pass_as_in_two(rest: str) -> None:
    def read(message: str) -> Any:
        try:
            packet = Wire(JSONCodec()).decode(message.encode())
        except InvalidMessageError:
            return "invalid"
        assert not isinstance(packet, Batch)
        kind, data = type(packet), packet.data
        if isinstance(data, Publication):
            return kind, packet.event, data.channel, bytes(data.data), packet.cid
        if isinstance(data, Unparsed):
            try:
                data = data.parse()
            except InvalidMessageError:
                data = "invalid"
        return kind, packet.event, data, packet.cid

    start = '{"event":"#publish",'
    assert read(start + rest) == read(" " + start + rest)
