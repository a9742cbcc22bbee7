"""Guarantee 4: a fast sender does not delay others. What one client sends is carried out a bounded
share in each turn of the loop; the tests count messages and bytes in a turn, not time."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from conformance.floods import Raw, Turns, masked
from socketcluster.engines.base import Accepted, DeflateOptions, ListenAddress, UpgradeRequest
from socketcluster.engines.frame_scheduler import FrameScheduler
from socketcluster.engines.registry import resolve_engine
from socketcluster.engines.uvicorn_websocket import BudgetedWebSocket
from socketcluster.protocol.frames import text_frame
from socketcluster.testing.echo import EchoEndpoint, EchoHandler
from support import soon, until

MESSAGES = 256
BYTES = 64 * 1024
LARGE = 200_000

ENGINES = ("picows", "asgi")


class Counting(EchoHandler):
    """Counts what it is given."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.largest = 0
        self.last = b""
        self.lost: list[tuple[int, str]] = []
        self.pause_at = -1
        self.answers = False

    def text_received(self, data: bytes) -> None:
        assert not self.lost
        self.messages += 1
        self.bytes += len(data)
        self.largest = max(self.largest, len(data))
        self.last = data
        if self.messages == self.pause_at:
            self.connection.pause_reading()
        if self.answers:
            self.connection.write([text_frame(data)])

    binary_received = text_received

    def connection_lost(self, code: int, reason: str) -> None:
        self.lost.append((code, reason))


class Endpoint(EchoEndpoint):
    path = "/socketcluster/"

    def __init__(self, deflate: DeflateOptions | None = None, max_payload: int = 1 << 20) -> None:
        super().__init__(deflate, max_payload)
        self.max_first_message = 40 * 1024
        self.handler = Counting()

    async def open(self, request: UpgradeRequest) -> Accepted:
        return Accepted(self.handler)


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(scope["type"])


class Site:
    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.client = Raw()
        self.listener: Any = None

    async def open(self, endpoint: Endpoint | None = None, extra: bytes = b"") -> Counting:
        endpoint = endpoint or Endpoint()
        engine = resolve_engine(self.engine, {})
        self.listener = await engine.listen(endpoint, no_app, ListenAddress(port=0))
        await self.client.open(self.listener.port, extra=extra)
        await until(lambda: hasattr(endpoint.handler, "connection"))
        return endpoint.handler


@pytest.fixture(params=ENGINES)
async def site(request: Any) -> AsyncIterator[Site]:
    made = Site(request.param)
    yield made
    await made.client.close()
    await made.listener.close()


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 10_000, LARGE])
async def test_messages_are_delivered_a_share_per_turn(site: Site, size: int) -> None:
    """Guarantee 4: at most 256 messages or about 64 KiB of one client in a turn."""
    handler = await site.open()
    site.client.send(masked("first"))
    await until(lambda: handler.messages == 1)
    count = min(5000, 4_000_000 // (size + 6))
    with Turns(lambda: handler.messages) as messages, Turns(lambda: handler.bytes) as sizes:
        site.client.send(masked("x" * size) * count)
        await until(lambda: handler.messages == 1 + count)
    assert messages.most <= MESSAGES
    assert sizes.most <= max(BYTES + size, size)


async def test_order_and_content_survive(site: Site) -> None:
    handler = await site.open()
    seen: list[bytes] = []
    handler.text_received = seen.append  # type: ignore
    handler.binary_received = seen.append  # type: ignore
    sent = [os.urandom(3).hex().encode() * (number % 700) for number in range(3000)]
    frames = []
    for number, data in enumerate(sent):
        if number % 5 == 0:
            frames.append(masked(b"", Opcode.PING))
        if number % 3 == 0:
            frames.append(masked(data[:10], Opcode.BINARY, fin=False))
            frames.append(masked(data[10:], Opcode.CONT))
        else:
            frames.append(masked(data))
    frames.append(masked((1000).to_bytes(2, "big") + b"bye", Opcode.CLOSE))
    site.client.send(*frames)
    await asyncio.gather(site.client.drain(), until(lambda: bool(handler.lost)))
    assert seen == sent
    assert handler.lost == [(1000, "bye")]


@pytest.mark.parametrize("kind", ["pings", "pongs", "empty fragments", "small fragments"])
async def test_frames_are_parsed_a_share_per_turn(
    site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee 4: control frames and fragments are bounded as messages are."""
    counted = [0]

    def count(cls: Any, name: str) -> None:
        original = getattr(cls, name)

        def counting(self: Any, *args: Any) -> Any:
            counted[0] += 1
            return original(self, *args)

        monkeypatch.setattr(cls, name, counting)

    count(FrameScheduler, "_process")
    for name in ("handle_ping", "handle_pong", "handle_cont"):
        count(BudgetedWebSocket, name)
    handler = await site.open()
    site.client.send(masked("first"))
    await until(lambda: handler.messages == 1)
    rounds = 3
    frames = {
        "pings": masked(b"", Opcode.PING) * 1000,
        "pongs": masked(b"", Opcode.PONG) * 1000,
        "empty fragments": masked(b"", fin=False)
        + masked(b"", Opcode.CONT, fin=False) * 1000
        + masked(b"", Opcode.CONT),
        "small fragments": masked(b"", fin=False)
        + masked(b"x" * 64, Opcode.CONT, fin=False) * 1000
        + masked(b"", Opcode.CONT),
    }[kind]
    draining = asyncio.ensure_future(site.client.drain())
    with Turns(lambda: counted[0]) as turns:
        site.client.send((frames) * rounds, masked("last"))
        await until(lambda: handler.last == b"last")
    assert turns.most <= MESSAGES
    await site.client.close()
    await draining


async def test_what_is_inflated_counts(site: Site) -> None:
    """Guarantee 4: a kilobyte that inflates to a megabyte is a megabyte."""
    offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate"
    handler = await site.open(Endpoint(DeflateOptions()), offer)
    site.client.send(masked("first"))
    await until(lambda: handler.messages == 1)
    compress = zlib.compressobj(wbits=-12)
    data = compress.compress(b"x" * LARGE) + compress.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(masked(data[:-4]))
    frame[0] |= 0x40
    with Turns(lambda: handler.messages) as turns:
        site.client.send(bytes(frame) * 100)
        await until(lambda: handler.messages == 101)
    assert turns.most == 1


async def test_a_large_frame_is_parsed_in_large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece for each 32 KiB of a large frame at the most, and what the reads cut off."""
    pieces: list[int] = []
    original = ServerProtocol.receive_data

    def counting(self: Any, data: bytes) -> None:
        pieces.append(len(data))
        original(self, data)

    monkeypatch.setattr(ServerProtocol, "receive_data", counting)
    site = Site("asgi")
    handler = await site.open()
    site.client.send(masked("first"))
    await until(lambda: handler.messages == 1)
    pieces.clear()
    with Turns(lambda: sum(pieces)) as turns:
        site.client.send(masked("x" * 1_000_000) * 8)
        await until(lambda: handler.messages == 9)
    assert max(pieces) == 32 * 1024
    large = [size for size in pieces if size > 1024]
    assert sum(large) > 7_900_000
    assert turns.most <= BYTES + 32 * 1024
    await site.client.close()
    await site.listener.close()


async def test_a_pause_of_the_handler_holds(site: Site) -> None:
    """A handler that pauses gets no more than what was read, and all of it once it resumes."""
    handler = await site.open()
    handler.pause_at = 1
    site.client.send(masked("x" * 10) * 5000)
    await until(lambda: handler.messages >= 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert handler.messages <= MESSAGES
    handler.pause_at = handler.messages + 500
    handler.connection.resume_reading()
    await until(lambda: handler.messages >= handler.pause_at)
    for _ in range(100):
        await asyncio.sleep(0)
    assert handler.messages <= handler.pause_at + MESSAGES
    handler.connection.resume_reading()
    await until(lambda: handler.messages == 5000)


@pytest.mark.parametrize("how", ["close frame", "close frame, then line breaks", "line breaks"])
async def test_what_was_received_is_delivered_before_the_end(site: Site, how: str) -> None:
    """Guarantee 2: what came before the close frame, or before the line broke, is delivered."""
    handler = await site.open()
    site.client.send(masked("x") * 2000)
    if how != "line breaks":
        site.client.send(masked((4321).to_bytes(2, "big") + b"bye", Opcode.CLOSE))
        site.client.send(masked("late") * 10)
    if how != "close frame":
        site.client.writer.close()
    await until(lambda: bool(handler.lost))
    assert (handler.messages, handler.last) == (2000, b"x")
    assert handler.lost == [(1006, "") if how == "line breaks" else (4321, "bye")]


@pytest.mark.parametrize("what", ["messages", "pings"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_answers_that_cannot_be_sent_are_dropped_in_silence(
    site: Site, caplog: pytest.LogCaptureFixture, how: str, what: str
) -> None:
    """A transport that is closing logs a warning for each write after the first few."""
    handler = await site.open()
    handler.answers = True
    opcode = Opcode.TEXT if what == "messages" else Opcode.PING
    site.client.send(masked("first"), masked("x" * 50, opcode) * 500)
    await until(lambda: handler.messages > 0)
    transport = site.client.writer.transport
    await until(lambda: transport.get_write_buffer_size() == 0)
    transport.close() if how == "close" else transport.abort()
    await until(lambda: bool(handler.lost))
    for _ in range(100):
        await asyncio.sleep(0)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_answers_that_cannot_be_sent_do_not_end_what_was_received() -> None:
    """Guarantee 2: the client is gone while most of what it sent is still with the kernel, and
    each message is answered. (An ASGI server ends at the first answer that it cannot send.)"""
    site = Site("picows")
    handler = await site.open()
    handler.answers = True
    site.client.send(masked("x" * 50) * 1000)
    await until(lambda: handler.messages > 0)
    await until(lambda: site.client.writer.transport.get_write_buffer_size() == 0)
    await site.client.close()
    await until(lambda: bool(handler.lost))
    assert handler.messages == 1000
    await site.listener.close()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_nothing_is_delivered_after_this_side_closed(site: Site, how: str) -> None:
    handler = await site.open()
    site.client.send(masked("x") * 5000, masked((4321).to_bytes(2, "big"), Opcode.CLOSE))
    await until(lambda: handler.messages > 0)
    if how == "close":
        handler.connection.close(4000, "")
    else:
        handler.connection.abort()
    count = handler.messages
    await until(lambda: bool(handler.lost))
    assert handler.messages == count <= MESSAGES


async def test_a_violation_waits_its_turn(site: Site) -> None:
    handler = await site.open()
    site.client.send(masked("x") * 2000, b"\x83\x80AAAA", masked("late") * 500)
    await until(lambda: bool(handler.lost))
    assert (handler.messages, handler.last) == (2000, b"x")


async def test_a_message_may_have_so_many_fragments(site: Site) -> None:
    """Guarantee 4: 1,024 fragments, and one more for each 64 bytes of the limit."""
    handler = await site.open(Endpoint(max_payload=64_000))
    empty = masked(b"", Opcode.CONT, fin=False)
    site.client.send(masked("first"))
    site.client.send(masked(b"", fin=False), empty * 2000, masked(b"", Opcode.CONT))
    await until(lambda: handler.messages == 2)
    site.client.send(masked(b"", fin=False), empty * 3000, masked(b"", Opcode.CONT))
    answer = await soon(site.client.reader.read())
    assert answer.startswith(b"\x88")
    assert answer[2:4] == (1009).to_bytes(2, "big")
    assert b"fragments" in answer
    assert handler.messages == 2


@pytest.mark.parametrize(
    "how", ["one frame", "half a frame", "fragments", "pings", "binary", "with the request"]
)
async def test_the_first_message_is_bounded(site: Site, how: str) -> None:
    """Guarantee 4: until its first message is complete a client may send 40 KiB."""
    handler = await site.open()
    large = masked("x" * 50_000)
    fragment = masked("x" * 1000, Opcode.CONT, fin=False)
    draining = asyncio.ensure_future(site.client.drain()) if how == "pings" else None
    site.client.send(
        {
            "one frame": large,
            "half a frame": large[:49_000],
            "fragments": masked("", fin=False) + fragment * 50,
            "pings": masked("x" * 100, Opcode.PING) * 500,
            "binary": masked(b"x" * 50_000, Opcode.BINARY),
            "with the request": large,
        }[how]
    )
    if draining is None:
        answer = await soon(site.client.reader.read())
        assert answer[:1] == b"\x88"
        assert answer[2:4] == (1009).to_bytes(2, "big")
    else:
        await soon(draining)
    await until(lambda: bool(handler.lost))
    assert handler.messages == 0


async def test_later_messages_may_be_as_long_as_the_limit(site: Site) -> None:
    handler = await site.open()
    site.client.send(masked("x" * 40_000), masked("x" * 1_000_000), masked("y" * 1_000_000))
    await until(lambda: handler.messages == 3)
    assert handler.largest == 1_000_000
    assert not handler.lost
