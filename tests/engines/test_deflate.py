"""permessage-deflate: what is agreed on, and that frames come back as they were."""

from __future__ import annotations

import pytest

from socketcluster.engines.base import DeflateOptions
from socketcluster.engines.deflate import (
    Deflate,
    DeflateCache,
    DeflateOffer,
    InflateError,
    negotiate,
)
from socketcluster.protocol.frames import binary_frame, frame_payload, pong_frame, text_frame

OPTIONS = DeflateOptions(threshold=10)


def agreed(options: DeflateOptions = OPTIONS) -> tuple[Deflate, Deflate]:
    """Both ends of one agreement: the server's and the client's."""
    offer = DeflateOffer(options)
    answer = negotiate(offer.header, options, DeflateCache())
    assert answer is not None
    header, server = answer
    client = offer.agreed(header)
    assert client is not None
    return server, client


def inflated(deflate: Deflate, frame: bytes) -> bytes:
    compressed = bool(frame[0] & 0x40)
    payload = frame_payload(frame)[1]
    if not compressed:
        return payload
    return deflate.inflate(frame[0] & 15, True, True, payload, 1_000_000)


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("size", [5, 100, 5_000, 300_000])
def test_frames_come_back(takeover: bool, size: int) -> None:
    server, client = agreed(
        DeflateOptions(
            threshold=10,
            server_no_context_takeover=not takeover,
            client_no_context_takeover=not takeover,
        )
    )
    text = bytes(range(32, 127)) * (size // 95 + 1)
    for sender, receiver in ((server, client), (client, server)):
        for frame in (text_frame(text[:size]), binary_frame(text[:size])):
            (sent,) = sender.compress([frame])
            assert bool(sent[0] & 0x40) == (size >= 10)
            assert sent[0] & 15 == frame[0] & 15
            assert inflated(receiver, sent) == text[:size]


def test_control_frames_are_not_compressed() -> None:
    server, _ = agreed()
    pong = pong_frame(b"x" * 100)
    assert [*server.compress([pong])] == [pong]


@pytest.mark.parametrize(
    "offer",
    [
        None,
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; unknown",
        "=;,",
    ],
)
def test_an_offer_that_does_not_suit_is_declined(offer: str | None) -> None:
    assert negotiate(offer, OPTIONS, DeflateCache()) is None


def test_the_first_offer_that_suits_is_taken() -> None:
    offers = "x, permessage-deflate; server_max_window_bits=99, permessage-deflate"
    answer = negotiate(offers, OPTIONS, DeflateCache())
    assert answer is not None
    assert answer[0].startswith("permessage-deflate")


@pytest.mark.parametrize("answer", [None, ""])
def test_a_server_may_decline(answer: str | None) -> None:
    assert DeflateOffer(OPTIONS).agreed(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown=1",
        "permessage-deflate, permessage-deflate",
        "=;,",
    ],
)
def test_an_answer_that_was_not_offered_ends_the_handshake(answer: str) -> None:
    with pytest.raises(InflateError) as caught:
        DeflateOffer(OPTIONS).agreed(answer)
    assert caught.value.code == 1010


@pytest.mark.parametrize(
    ("payload", "limit", "code"), [(b"\xff" * 20, 100, 1007), (None, 50, 1009)]
)
def test_what_cannot_be_inflated_has_a_close_code(
    payload: bytes | None, limit: int, code: int
) -> None:
    server, client = agreed()
    if payload is None:
        (frame,) = client.compress([text_frame(b"x" * 5_000)])
        payload = frame_payload(frame)[1]
    with pytest.raises(InflateError) as caught:
        server.inflate(1, True, True, payload, limit)
    assert caught.value.code == code
