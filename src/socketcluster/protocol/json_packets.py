"""Decoding of JSON messages to packets.

A short message is decoded at once. In a longer one msgspec first finds the fields, ten times as
fast as it decodes them; each field is then decoded on its own, if it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from socketcluster.codecs.base import TypedDecoder
from socketcluster.codecs.collector import MANY_CONTAINERS, pause_collector
from socketcluster.codecs.json import MAX_DEPTH, SHORT, JSONCodec, finite, starts_like_json
from socketcluster.codecs.scan import count_containers, without_lone_surrogates
from socketcluster.errors import InvalidMessageError
from socketcluster.protocol.packets import (
    ABSENT,
    RAW_PACKET,
    SYSTEM_EVENTS,
    AnyPacket,
    Batch,
    Packet,
    Publication,
    PublishPacket,
    Unparsed,
    number,
)


class _Fields(msgspec.Struct, gc=False):
    """A packet with undecoded fields."""

    event: msgspec.Raw = ABSENT
    data: msgspec.Raw = ABSENT
    cid: msgspec.Raw = ABSENT
    rid: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _PublicationFields(msgspec.Struct, gc=False):
    channel: msgspec.Raw = ABSENT
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = ABSENT


class _PublishFields(msgspec.Struct, gc=False):
    event: str
    data: _PublicationFields
    cid: msgspec.Raw = ABSENT


decode_packet: Callable[[bytes], Packet] = msgspec.json.Decoder(Packet, float_hook=finite).decode
_PUBLISH = msgspec.json.Decoder(PublishPacket)
_FIELDS = msgspec.json.Decoder(_Fields)
_PUBLICATION = msgspec.json.Decoder(_PublicationFields)
_PUBLISH_FIELDS = msgspec.json.Decoder(_PublishFields)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()
PUBLISH_START = b'{"event":"#publish",'
_NUMBER_STARTS = b"-0123456789"
_FLAT = (str, int, float, bool, type(None))
DECODE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)
_NUMBER = rb'\s*"cid"\s*:\s*(-?[0-9]{1,16})\s*'
_FIRST_CID = re.compile(rb'\s*\{(?:\s*"event"\s*:\s*"[^"\\]{0,1000}"\s*,)?' + _NUMBER + rb"[,}]")
_LAST_CID = re.compile(rb"[,{]" + _NUMBER + rb"\}\s*\Z")


def read_short_publish(
    codec: JSONCodec | None, message: bytes, levels: int = MAX_DEPTH - 2
) -> PublishPacket | None:
    """Decode a short message that begins like a publish.

    Return None if it is another packet, or its payload is invalid or has more than `levels` levels.

    Raises:
        msgspec.DecodeError, ValueError, RecursionError: `read` has to decode it.
    """
    assert codec is not None
    publish = _PUBLISH.decode(message)
    # A repeated key may have changed the event after its first occurrence.
    if publish.event == "#publish" and codec.is_valid(bytes(publish.data.data), levels):
        return publish
    return None


def read(codec: JSONCodec, message: bytes, unparsed_above: int) -> AnyPacket | Batch:
    """Decode any message to a packet or a batch.

    Raises:
        InvalidMessageError: it begins like JSON but is invalid.
    """
    if not starts_like_json(message):
        return RAW_PACKET
    text = bytes(message)
    try:
        return _read(codec, text, unparsed_above)
    except DECODE_ERRORS as error:
        whole = without_lone_surrogates(text)
        if whole is text:
            raise _decode_error(error) from error
    try:
        return _read(codec, whole, unparsed_above)
    except DECODE_ERRORS as error:
        raise _decode_error(error) from error


def _read(codec: JSONCodec, text: bytes, unparsed_above: int) -> AnyPacket | Batch:
    if text.lstrip()[:1] == b"[":
        if count_containers(text) > MANY_CONTAINERS:
            pause_collector()  # Its packets together may have many lists.
        return Batch(_ITEMS.decode(text), partial(_read_item, codec, unparsed_above))
    return _read_packet(codec, text, unparsed_above, MAX_DEPTH - 1)


def _read_item(codec: JSONCodec, unparsed_above: int, item: msgspec.Raw) -> AnyPacket:
    text = bytes(item)  # A copy, so that one packet does not keep the batch alive.
    if text[:1] != b"{":
        return RAW_PACKET
    levels = MAX_DEPTH - 2
    try:
        if len(text) <= min(unparsed_above, SHORT):
            if text.startswith(PUBLISH_START):
                publish = read_short_publish(codec, text, levels - 1)
                if publish is not None:
                    return publish
            packet = decode_packet(text)
            if type(packet.data) in _FLAT or count_containers(text) <= levels:
                return packet
    except DECODE_ERRORS:
        pass
    try:
        return _read_packet(codec, text, unparsed_above, levels)
    except DECODE_ERRORS as error:
        raise _decode_error(error) from error


def _read_packet(codec: JSONCodec, text: bytes, unparsed_above: int, levels: int) -> AnyPacket:
    publish = _publish_fields(text)
    if publish is not None:
        publication = _checked_publication(codec, publish.data, levels)
        if publication is not None:
            return PublishPacket("#publish", publication, _number(publish.cid))
    fields = _FIELDS.decode(text)
    event = _text(fields.event)
    if event is None:
        return _answer(codec, fields, levels)
    cid = _number(fields.cid)
    if event == "#publish" and publish is None:
        publication = _publication(codec, fields.data, levels)
        if publication is not None:
            return PublishPacket(event, publication, cid)
    data: Any = None
    if bytes(fields.data):
        data = Unparsed(fields.data, len(text), partial(_value, codec, levels))
        if event in SYSTEM_EVENTS or len(text) <= unparsed_above:
            try:
                data = data.parse()
            except InvalidMessageError:
                if cid is None:
                    raise
                # The error occurs again where the call can be answered with it.
    return Packet(event, data, cid)


def _answer(codec: JSONCodec, fields: _Fields, levels: int) -> Packet:
    """Make an answer with undecoded data and error: its call may not be open."""
    rid = _number(fields.rid)
    if rid is None:
        return RAW_PACKET
    parse = partial(_value, codec, levels)
    data, error = (
        Unparsed(field, len(bytes(field)), parse) if bytes(field) else None
        for field in (fields.data, fields.error)
    )
    return Packet(data=data, rid=rid, error=error)


def _publish_fields(text: bytes) -> _PublishFields | None:
    """Find the fields of a publish in one pass, or return None if that needs two."""
    if not text.startswith(PUBLISH_START):
        return None
    try:
        publish = _PUBLISH_FIELDS.decode(text)
    except DECODE_ERRORS:
        return None
    return publish if publish.event == "#publish" else None


def _publication(codec: JSONCodec, data: msgspec.Raw, levels: int) -> Publication | None:
    """Decode the data of a publish except its payload; None if that is invalid."""
    try:
        fields = _PUBLICATION.decode(data)
    except msgspec.DecodeError:
        return None
    return _checked_publication(codec, fields, levels)


def _checked_publication(
    codec: JSONCodec, fields: _PublicationFields, levels: int
) -> Publication | None:
    channel = _text(fields.channel)
    if channel is None or not codec.is_valid(bytes(fields.data), levels - 1):
        return None
    return Publication(channel, fields.data, fields.id)


def _value(
    codec: JSONCodec, levels: int, field: msgspec.Raw, kind: TypedDecoder | None = None
) -> Any:
    data = bytes(field)
    if kind is not None:
        return codec.decode_as(data, kind, levels)
    return codec.decode_value(data, levels)


def _text(field: msgspec.Raw) -> str | None:
    data = bytes(field)
    return _ANY.decode(data) if data[:1] == b'"' else None


def _number(field: msgspec.Raw) -> int | float | None:
    data = bytes(field)
    if data[:1] not in _NUMBER_STARTS or not data:
        return None
    try:
        return number(_ANY.decode(data))
    except msgspec.DecodeError:  # The number is too large.
        return None


def _decode_error(error: Exception) -> InvalidMessageError:
    if isinstance(error, RecursionError):
        return InvalidMessageError(f"The message has more than {MAX_DEPTH} levels")
    return InvalidMessageError(f"The message is not valid JSON: {error}")


def cid_of(message: bytes) -> int | None:
    """Find a call's number in an invalid message, if it is the first or the last member.

    In these positions `"cid":1` cannot be part of another member.
    """
    found = _FIRST_CID.match(message) or _LAST_CID.search(message, max(0, len(message) - 100))
    return int(found[1]) if found else None
