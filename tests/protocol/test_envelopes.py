"""Envelopes: fields of a payload between nodes."""

from __future__ import annotations

import msgpack
import msgspec
import pytest

from socketcluster.protocol.envelopes import TRACE, envelop, open_envelope


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
