"""Envelopes: fields of a payload between nodes."""

from __future__ import annotations

import msgpack
import msgspec
import pytest

from socketcluster.protocol.envelopes import (
    STORED,
    TRACE,
    envelop,
    envelop_stored,
    open_envelope,
    read_stored,
)


@pytest.mark.parametrize("fields", [b"", b"x" * 255])
@pytest.mark.parametrize("payload", [b"", b"{}", b"\xc1\x01\x00"])
def test_round_trip(fields: bytes, payload: bytes) -> None:
    assert open_envelope(envelop(TRACE, fields, payload)) == (TRACE, fields, payload)


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\xc1\x01", b"\xc1\x01\x05four", b'"\xc1"'])
def test_no_envelope(message: bytes) -> None:
    assert open_envelope(message) is None


def test_mark_begins_no_payload_of_the_codecs() -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(b"\xc1")
    with pytest.raises(UnicodeDecodeError):
        b"\xc1".decode()
    with pytest.raises(msgpack.FormatError):
        msgpack.unpackb(b"\xc1")


def test_stored_publish_has_its_place() -> None:
    opened = open_envelope(envelop_stored("a1b2", 2**40, 2**40 - 7, b"{}"))
    assert opened is not None
    kind, fields, payload = opened
    assert (kind, payload) == (STORED, b"{}")
    assert read_stored(fields) == ("a1b2", 2**40, 2**40 - 7)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"\0" * 16,
        b"\0" * 15 + b"\1",
        b"\0" * 16 + b"epoch",
        b"\0" * 7 + b"\1" + b"\0" * 8 + b"\xff",
    ],
    ids=["empty", "no epoch", "short", "no order", "no ASCII"],
)
def test_wrong_place_of_a_stored_publish(fields: bytes) -> None:
    assert read_stored(fields) is None
