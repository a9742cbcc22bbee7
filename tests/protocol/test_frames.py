"""Frames: what is joined once for many connections, and what is not kept."""

from __future__ import annotations

import pytest

from socketcluster.protocol.frames import (
    MAX_JOINED_KEPT,
    close_frame,
    cut_reason,
    frame_of,
    frame_payload,
    join,
    may_be_sent,
)


def test_frames_for_many_connections_are_joined_once() -> None:
    frames = [b"a" * 10, b"b" * 10]
    joined = join(frames)
    assert joined == b"a" * 10 + b"b" * 10
    assert join(frames) is joined
    assert join([b"c" * 10, b"d"]) == b"c" * 10 + b"d"
    assert join(frames) == joined


def test_long_frames_are_not_kept() -> None:
    frames = [b"a" * MAX_JOINED_KEPT, b"b"]
    assert join(frames) == b"".join(frames)
    assert join(frames) is not join(frames)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
@pytest.mark.parametrize("text", [True, False])
def test_the_payload_of_a_frame_is_found(size: int, text: bool) -> None:
    message = "x" * size if text else b"x" * size
    assert frame_payload(frame_of(message)) == (text, b"x" * size)


def test_a_reason_is_cut_between_characters() -> None:
    assert cut_reason("ä" * 100) == "ä" * 61
    assert close_frame(1000, "ä" * 100)[1] == 2 + 122
    assert close_frame(1005, "no code") == b"\x88\x00"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(999, False), (1000, True), (1005, False), (1006, False), (2999, False), (4999, True)],
)
def test_codes_that_may_be_sent(code: int, expected: bool) -> None:
    assert may_be_sent(code) is expected
