"""Frames to messages, without a connection."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from socketcluster.engines.assembler import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    Assembler,
    FrameReceiver,
    Violation,
    max_fragments,
    parse_close,
)
from socketcluster.engines.base import DeflateOptions
from socketcluster.engines.deflate import Deflate, DeflateCache, negotiate


def deflate() -> Deflate:
    agreed = negotiate("permessage-deflate", DeflateOptions(), DeflateCache())
    assert agreed is not None
    return agreed[1]


def compressed(data: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return (compress.compress(data) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_messages_and_control_frames_between_their_fragments() -> None:
    receiver = FrameReceiver(100, None)
    assert receiver.receive(TEXT, True, False, False, b"a") == (TEXT, b"a")
    assert receiver.receive(BINARY, False, False, False, b"bc") is None
    assert receiver.incomplete_size == 2
    assert receiver.receive(PING, True, False, False, b"p") == (PING, b"p")
    assert receiver.receive(CONTINUATION, True, False, False, b"d") == (BINARY, b"bcd")
    assert (receiver.incomplete_size, receiver.bytes_received) == (0, 4)


def test_a_character_may_be_spread_over_fragments() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    receiver = FrameReceiver(100, None)
    assert receiver.receive(TEXT, False, False, False, first) is None
    assert receiver.receive(CONTINUATION, True, False, False, second) == (TEXT, first + second)


FINE = (TEXT, False, False, False, b"a")


@pytest.mark.parametrize(
    ("before", "frame", "code", "reason"),
    [
        ([], (CONTINUATION, True, False, False, b""), 1002, "Unexpected continuation frame"),
        ([FINE], (TEXT, True, False, False, b""), 1002, "Expected a continuation frame"),
        ([FINE], (CONTINUATION, True, True, False, b""), 1002, "RSV1 in a continuation frame"),
        ([], (TEXT, True, True, False, b""), 1002, "RSV1 without an extension"),
        ([], (TEXT, True, False, True, b""), 1002, "Reserved bits are set"),
        ([], (PING, True, True, False, b""), 1002, "Reserved bits are set"),
        ([], (TEXT, True, False, False, b"\xff"), 1007, "Invalid UTF-8"),
        ([FINE], (CONTINUATION, True, False, False, b"\xc3"), 1007, "Invalid UTF-8"),
        ([], (BINARY, True, False, False, b"x" * 11), 1009, "Message too big"),
        ([FINE], (CONTINUATION, False, False, False, b"x" * 10), 1009, "Message too big"),
    ],
)
def test_violations(
    before: list[tuple[int, bool, bool, bool, bytes]],
    frame: tuple[int, bool, bool, bool, bytes],
    code: int,
    reason: str,
) -> None:
    receiver = FrameReceiver(10, None)
    for each in before:
        receiver.receive(*each)
    with pytest.raises(Violation, match=reason) as raised:
        receiver.receive(*frame)
    assert raised.value.code == code


def test_the_limit_is_on_inflated_bytes() -> None:
    receiver = FrameReceiver(1000, deflate())
    data = compressed(b"x" * 1000)
    assert receiver.receive(TEXT, True, True, False, data) == (TEXT, b"x" * 1000)
    with pytest.raises(Violation) as raised:
        receiver.receive(TEXT, True, True, False, compressed(b"x" * 1001))
    assert raised.value.code == 1009
    with pytest.raises(Violation) as raised:
        FrameReceiver(1000, deflate()).receive(BINARY, True, True, False, b"\xff\xff")
    assert raised.value.code == 1007


def test_closing_drops_the_message_in_progress() -> None:
    receiver = FrameReceiver(100, None)
    receiver.receive(BINARY, False, False, False, b"x" * 50)
    receiver.close()
    assert receiver.incomplete_size == 0


@pytest.mark.parametrize("with_deflate", [False, True])
def test_fragments_hold_no_more_than_their_message(with_deflate: bool) -> None:
    assembler = Assembler(64_000, deflate() if with_deflate else None)
    assembler.add(BINARY, False, False, b"")
    tracemalloc.start()
    for _ in range(1000):
        assert assembler.add(CONTINUATION, False, False, b"") is None
        assert assembler.add(CONTINUATION, False, False, b"x") is None
    assert tracemalloc.get_traced_memory()[1] < 20_000
    tracemalloc.stop()
    with pytest.raises(Violation, match="Message too big"):
        assembler.add(CONTINUATION, False, False, b"x" * 63_001)
    for _ in range(max_fragments(64_000) - 2001):
        assert assembler.add(CONTINUATION, False, False, b"") is None
    with pytest.raises(Violation, match="may have 2024 fragments") as refused:
        assembler.add(CONTINUATION, False, False, b"")
    assert refused.value.code == 1009


def test_close_frames() -> None:
    assert parse_close(b"") == (1005, "")
    assert parse_close(b"\x03\xe8") == (1000, "")
    assert parse_close((4321).to_bytes(2, "big") + "é".encode()) == (4321, "é")


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)]
    + [((c).to_bytes(2, "big"), 1002) for c in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)],
)
def test_wrong_close_frames(payload: bytes, code: int) -> None:
    with pytest.raises(Violation) as raised:
        parse_close(payload)
    assert raised.value.code == code
