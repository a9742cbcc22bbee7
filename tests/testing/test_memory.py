"""Two ends of a connection in memory behave as those of a real one."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from socketcluster import testing
from socketcluster.engines.base import (
    CLOSE_SECONDS,
    Accepted,
    Connection,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.engines.connector import ConnectRequest
from socketcluster.engines.pace import Pace
from socketcluster.protocol.frames import binary_frame, text_frame
from socketcluster.testing.memory import MemoryConnection, join
from support import until


class Handler:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.messages: list[tuple[str, bytes]] = []
        self.lost: list[tuple[int, str]] = []

    def connection_made(self, connection: Connection) -> None:
        self.connection = connection

    def text_received(self, data: bytes) -> None:
        self.messages.append(("text", data))

    def binary_received(self, data: bytes) -> None:
        self.messages.append(("binary", data))

    def connection_lost(self, code: int, reason: str) -> None:
        self.lost.append((code, reason))


class Endpoint:
    """Accepts everybody at /ws/."""

    path = "/ws/"
    max_payload = max_first_message = 1000
    max_outbound_buffer = 1_000_000
    deflate = None
    admission = None
    pace = Pace(16)

    def __init__(self) -> None:
        self.requests: list[UpgradeRequest] = []
        self.handler = Handler()

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        return None

    async def open(self, request: UpgradeRequest) -> Accepted:
        self.requests.append(request)
        return Accepted(self.handler, "b")


def request_for(uri: str, **headers: str) -> ConnectRequest:
    return ConnectRequest(uri, max_payload=500, headers=headers)


async def joined() -> tuple[Handler, Handler]:
    """(client, server) of a new connection."""
    endpoint, client = Endpoint(), Handler()
    await join(endpoint, request_for("ws://localhost/ws/"), client)
    return client, endpoint.handler


async def test_the_request_is_that_of_a_real_upgrade() -> None:
    endpoint = Endpoint()
    headers = {"X-Two": "1", "X-Forwarded-For": "9.9.9.9", "Sec-WebSocket-Protocol": "a, b"}
    accepted, connection = await join(
        endpoint, request_for("ws://example.com:81/ws?a=1&b=%20", **headers), Handler()
    )
    assert isinstance(connection, MemoryConnection)
    assert accepted.subprotocol == "b"
    (request,) = endpoint.requests
    assert (request.path, request.url) == ("/ws", "/ws?a=1&b=%20")
    assert request.headers["x-two"] == "1"
    assert request.headers["host"] == "example.com:81"
    assert request.subprotocols == ["a", "b"]
    assert request.scope["type"] == "websocket"
    assert request.scope["query_string"] == b"a=1&b=%20"
    assert (request.remote_address, request.remote_family) == ("127.0.0.1", "IPv4")
    assert request.forwarded_for_address == "9.9.9.9"


async def test_another_path_is_refused() -> None:
    with pytest.raises(UpgradeRefusedError) as refused:
        await join(Endpoint(), request_for("ws://localhost/other"), Handler())
    assert refused.value.status == 404


async def test_messages_come_in_a_later_turn_in_their_order() -> None:
    client, server = await joined()
    client.connection.write([text_frame(b"1"), binary_frame(b"2" * 300)])
    client.connection.write([text_frame(b"3")])
    assert server.messages == []
    assert client.connection.get_write_buffer_size() == 3 + 304 + 3
    await asyncio.sleep(0)
    assert server.messages == [("text", b"1"), ("binary", b"2" * 300), ("text", b"3")]
    assert client.connection.get_write_buffer_size() == 0
    assert server.connection.get_bytes_received() == 302


async def test_a_paused_reader_is_delivered_nothing() -> None:
    client, server = await joined()
    server.connection.pause_reading()
    client.connection.write([text_frame(b"1")])
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.messages == []
    assert client.connection.get_write_buffer_size() == 3
    server.connection.resume_reading()
    await until(lambda: len(server.messages) == 1)


async def test_pausing_between_two_messages_keeps_the_second_back() -> None:
    client, server = await joined()

    def pause(data: bytes) -> None:
        server.messages.append(("text", data))
        server.connection.pause_reading()

    server.text_received = pause  # type: ignore[method-assign]
    client.connection.write([text_frame(b"1"), text_frame(b"2")])
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.messages == [("text", b"1")]
    server.connection.resume_reading()
    await until(lambda: len(server.messages) == 2)


async def test_closing_follows_what_was_written_and_tells_both() -> None:
    client, server = await joined()
    client.connection.write([text_frame(b"last")])
    client.connection.close(4567, "é" * 200)
    client.connection.write([text_frame(b"late")])
    server.connection.write([text_frame(b"unheard")])
    await until(lambda: len(client.lost) == 1)
    assert server.messages == [("text", b"last")]
    assert server.lost == [(4567, "é" * 61)]
    assert client.messages == []
    assert client.lost == [(4567, "")]
    server.connection.close(4000, "again")
    client.connection.abort()
    await asyncio.sleep(0)
    assert (len(client.lost), len(server.lost)) == (1, 1)


@pytest.mark.parametrize("closing", [0, 1])
async def test_a_close_without_a_code(closing: int) -> None:
    ends = await joined()
    ends[closing].connection.close(1005, "not sent")
    await until(lambda: len(ends[0].lost) == len(ends[1].lost) == 1)
    assert ends[1 - closing].lost == [(1005, "")]


async def test_both_may_close_at_once() -> None:
    client, server = await joined()
    client.connection.close(4001, "a")
    server.connection.close(4002, "b")
    await until(lambda: len(client.lost) == len(server.lost) == 1)
    assert (client.lost, server.lost) == ([(4002, "b")], [(4001, "a")])


async def test_closing_goes_on_reading() -> None:
    client, server = await joined()
    client.connection.pause_reading()
    client.connection.close(4000, "")
    await until(lambda: len(client.lost) == len(server.lost) == 1)


async def test_abort_drops_what_was_not_read_with_1006() -> None:
    client, server = await joined()
    server.connection.write([text_frame(b"last words")])
    client.connection.write([text_frame(b"lost")])
    server.connection.abort()
    assert client.lost == server.lost == []
    await asyncio.sleep(0)
    assert client.messages == [("text", b"last words")]
    assert client.lost == server.lost == [(1006, "")]
    client.connection.write([text_frame(b"late")])
    await asyncio.sleep(0)
    assert server.messages == []


@pytest.mark.parametrize("closes", [0, 1])
async def test_too_large_messages_close_with_1009(closes: int) -> None:
    ends = await joined()
    sender, receiver = ends[1 - closes], ends[closes]
    limit = (500, 1000)[closes]
    sender.connection.write([binary_frame(b"x" * limit)])
    sender.connection.write([binary_frame(b"x" * (limit + 1)), text_frame(b"unheard")])
    await until(lambda: len(sender.lost) == len(receiver.lost) == 1)
    assert [len(data) for _, data in receiver.messages] == [limit]
    assert sender.lost == [(1009, "Message too big")]
    assert receiver.lost[0][0] == 1009


async def test_a_peer_that_does_not_read_is_dropped_after_a_while() -> None:
    client, server = await joined()
    async with testing.clock() as clock:
        client.connection.stall()
        server.connection.close(4000, "")
        await clock.advance(CLOSE_SECONDS - 0.001)
        assert server.lost == []
        await clock.advance(0.001)
        assert server.lost == client.lost == [(1006, "")]


async def test_what_was_at_a_lost_end_is_free() -> None:
    client, server = await joined()
    gone = weakref.ref(server)
    server.connection.close(4000, "")
    lost = server.lost
    del server
    await until(lambda: len(client.lost) == len(lost) == 1)
    gc.collect()
    assert gone() is None
