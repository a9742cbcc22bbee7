"""The wire: messages to packets, with every codec."""

from __future__ import annotations

import json
from typing import Any

import pytest

from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidMessageError
from socketcluster.protocol.packets import BinaryMessage, Packet, Unparsed
from socketcluster.protocol.wire import SYSTEM_EVENTS, Wire


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
def test_long_answers_are_parsed_at_once(codec: Any) -> None:
    packet = Wire(codec, unparsed_above=512).decode(received(codec, {"rid": 1, "data": "x" * 600}))
    assert isinstance(packet, Packet)
    assert (packet.rid, packet.data) == (1, "x" * 600)


@pytest.mark.parametrize("data", ["[" * 500 + "]" * 500, "1e9999", "9" * 5000, '"\\q"'])
def test_data_that_has_no_value_raises_when_it_is_wanted(data: str) -> None:
    message = f'{{"event":"e","data":[{data},"{"x" * 600}"],"cid":1}}'
    wire = Wire(JSONCodec(), unparsed_above=512)
    with pytest.raises(InvalidMessageError):
        wire.decode(message.encode()).data.parse()  # type: ignore[union-attr]
