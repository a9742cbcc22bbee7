"""permessage-deflate, without a connection."""

from __future__ import annotations

import zlib

import pytest

from socketcluster.engines.base import DeflateOptions
from socketcluster.engines.deflate import (
    Deflate,
    DeflateCache,
    DeflateOffer,
    InflateError,
    negotiate,
)
from socketcluster.protocol.frames import (
    RSV1,
    binary_frame,
    close_frame,
    payload_start,
    text_frame,
)

TAKEOVER = DeflateOptions(threshold=0, server_no_context_takeover=False)
LONG = text_frame(b"x" * 2000)


def agreed(options: DeflateOptions, cache: DeflateCache | None = None) -> Deflate:
    result = negotiate("permessage-deflate", options, cache or DeflateCache())
    assert result is not None
    return result[1]


def inflated(frame: bytes) -> bytes:
    assert frame[0] & RSV1
    decompress = zlib.decompressobj(wbits=-15)
    return decompress.decompress(frame[payload_start(frame) :] + b"\0\0\xff\xff")


def test_long_messages_are_compressed_and_short_and_control_frames_are_not() -> None:
    deflate = agreed(DeflateOptions(threshold=1000))
    short, close = text_frame(b"x" * 999), close_frame(1000, "x" * 100)
    frames = deflate.compress([LONG, short, binary_frame(b"y" * 70_000), close])
    assert inflated(frames[0]) == b"x" * 2000
    assert inflated(frames[2]) == b"y" * 70_000
    assert (frames[0][0], frames[2][0]) == (0x81 | RSV1, 0x82 | RSV1)
    assert [frames[1], frames[3]] == [short, close]
    assert agreed(DeflateOptions(threshold=0)).compress([close]) == [close]


def test_connections_share_compressed_frames_unless_they_keep_a_context() -> None:
    cache = DeflateCache()
    options = DeflateOptions(threshold=0)
    first, second = agreed(options, cache), agreed(options, cache)
    frames = [LONG]
    assert first.compress(frames) is second.compress(frames)
    assert first.compress([LONG])[0] is second.compress([LONG, LONG])[1]
    narrow = agreed(DeflateOptions(threshold=0, server_max_window_bits=9), cache)
    assert narrow.compress(frames) is not first.compress(frames)
    keeping = agreed(TAKEOVER, cache)
    assert len(keeping.compress(frames)[0]) > len(keeping.compress(frames)[0])


def test_the_cache_forgets_old_frames() -> None:
    cache = DeflateCache()
    frames = [binary_frame(bytes([number])) for number in range(20)]
    for frame in frames:
        cache.put(frame, None, frame * 2)
    assert cache.get(frames[0], None) is None
    assert cache.get(frames[-1], None) == frames[-1] * 2
    assert cache.get(frames[-1], 9) is None


@pytest.mark.parametrize(
    "offer", [None, "", "permessage-bzip", "permessage-deflate; nonsense=1", "=;", "a b c"]
)
def test_other_offers_are_declined(offer: str | None) -> None:
    assert negotiate(offer, DeflateOptions(), DeflateCache()) is None


def test_the_first_acceptable_offer_is_answered() -> None:
    offer = "x-other, permessage-deflate; nonsense=1, permessage-deflate; client_max_window_bits"
    result = negotiate(offer, DeflateOptions(), DeflateCache())
    assert result is not None
    assert result[0].startswith("permessage-deflate; server_no_context_takeover")


def test_a_client_and_a_server_agree() -> None:
    offer = DeflateOffer(DeflateOptions(threshold=0))
    result = negotiate(offer.header, DeflateOptions(threshold=0), DeflateCache())
    assert result is not None
    client = offer.agreed(result[0])
    assert client is not None
    (frame,) = client.compress([LONG])
    payload = frame[payload_start(frame) :]
    assert result[1].inflate(1, True, True, payload, 2000) == b"x" * 2000
    assert offer.agreed(None) is None


@pytest.mark.parametrize("answer", ["permessage-bzip", "permessage-deflate; x=1", "a, b", "=;"])
def test_a_client_refuses_other_answers(answer: str) -> None:
    with pytest.raises(InflateError) as raised:
        DeflateOffer(DeflateOptions()).agreed(answer)
    assert raised.value.code == 1010
