"""The frames of replays are made once for clients that come back at a time, and not kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recovering import place, publish, publishes, server_with, subscribe
from socketcluster import testing
from socketcluster.brokers.storing import StoredMessage
from socketcluster.codecs.json import JSONCodec
from socketcluster.protocol.wire import Wire
from socketcluster.server.parts import replays
from socketcluster.server.parts.replays import Replays
from support import connected

MESSAGES = [StoredMessage(n, n - 1, b"%d" % n) for n in range(1, 6)]


async def test_frames_are_made_once_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(JSONCodec())
    made: list[int] = []
    frame = wire.payloads.numbered_frame

    class Payloads:
        @staticmethod
        def numbered_frame(channel: str, payload: Any) -> bytes:
            made.append(payload.offset)
            return frame(channel, payload)

    monkeypatch.setattr(wire, "payloads", Payloads())
    async with testing.clock(auto=True):
        kept = Replays(wire, 10_000)
        for start in (0, 2, 0):
            run = kept.run_of("c", "e", MESSAGES[start:])
            assert run is not None
            assert len(run.frames) == 5 - start
            assert [payload.offset for payload in run.payloads] == [*range(start + 1, 6)]  # type: ignore[attr-defined]
        assert made == [1, 2, 3, 4, 5]
        kept.run_of("c", "f", MESSAGES[:1])
        kept.run_of("d", "e", MESSAGES[:1])
        assert len(made) == 7, "another epoch and another channel have their own"
        await asyncio.sleep(replays.KEPT_SECONDS + 1)
        kept.run_of("c", "e", MESSAGES[:1])
        assert len(made) == 8
        kept.clear()
        assert kept.run_of("c", "e", []) is None


async def test_frames_are_bounded_in_bytes() -> None:
    kept = Replays(Wire(JSONCodec()), 1000)
    messages = [StoredMessage(n, n - 1, b'"' + b"x" * 300 + b'"') for n in range(1, 20)]
    for message in messages:
        run = kept.run_of("c", "e", [message])
        assert run is not None
        assert len(run.frames) == 1
        assert len(kept._frames) <= 3
    run = kept.run_of("c", "e", messages)
    assert run is not None
    assert len(run.frames) == len(messages)
    kept.clear()


async def test_another_codec_makes_its_own_frames(make_server: Any) -> None:
    server = await make_server(server_with())
    async with connected(server) as client:
        first = await subscribe(client)
    await publish(server, "a")
    for _ in range(2):
        async with connected(server) as client:
            await subscribe(client, place(first))
            assert publishes(client) == [("a", 1)]
        server.set_codec_engine(JSONCodec())
