"""Upgrade requests to the picows engine: whole, in pieces, faulty, late or followed by frames."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import websockets
from websockets.frames import Frame, Opcode

from conformance.sites import FRAME_ABC, REQUEST, Endpoint, Site
from socketcluster.engines import request_limits, uvicorn_http
from socketcluster.engines.base import (
    Accepted,
    UpgradeRequest,
)
from socketcluster.engines.deflate import DeflateCache
from socketcluster.engines.picows import open_connection
from socketcluster.engines.upgrade import UpgradeSite, Upgrading
from socketcluster.testing.echo import EchoHandler
from support import soon, until


async def send_request(site: Site, writer: asyncio.StreamWriter, data: bytes, how: str) -> None:
    """Send a request that is the first thing of a connection: in one piece or in two."""
    connections = site.listeners[0]._server.server_state.connections
    if how == "in two pieces":
        writer.write(data[:20])
        await until(lambda: any(isinstance(c, uvicorn_http.UpgradingProtocol) for c in connections))
        data = data[20:]
    writer.write(data)


HOW = pytest.mark.parametrize("how", ["whole", "in two pieces"])


@HOW
async def test_frames_right_behind_the_request_are_not_lost(how: str) -> None:
    site = Site("picows")
    await site.listen()
    site.endpoint.gate = asyncio.Event()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    first = REQUEST + Frame(Opcode.TEXT, b"first").serialize(mask=True)
    await send_request(site, writer, first, how)
    await until(lambda: len(site.endpoint.requests) == 1)
    writer.write(Frame(Opcode.TEXT, b"second").serialize(mask=True))
    await asyncio.sleep(0)
    site.endpoint.gate.set()
    await soon(reader.readuntil(b"\r\n\r\n"))
    assert await soon(reader.readexactly(15)) == b"\x81\x05first\x81\x06second"
    writer.close()
    await writer.wait_closed()
    for listener in site.listeners:
        await listener.close()


async def test_a_request_in_pieces_is_seen_as_a_whole_one() -> None:
    site = Site("picows")
    await site.listen()
    scopes = []
    for how in ("whole", "in two pieces"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        request = REQUEST.replace(b"/ws/", b"/%77s/?a=%20b").replace(
            b"Host: a\r\n", b"Host: a\r\nX-A: 1\r\nx-a: 2\r\nSec-WebSocket-Protocol: x, y\r\n"
        )
        await send_request(site, writer, request, how)
        await soon(reader.readuntil(b"\r\n\r\n"))
        scopes.append(site.endpoint.requests[-1].scope)
        assert scopes[-1]["client"] == writer.get_extra_info("sockname")
        writer.close()
        await writer.wait_closed()
    whole, in_pieces = scopes
    assert (whole["path"], whole["query_string"]) == ("/ws/", b"a=%20b")
    assert whole["subprotocols"] == ["x", "y"]
    assert {**whole, "client": None} == {**in_pieces, "client": None}
    for listener in site.listeners:
        await listener.close()


def test_a_condensed_request_says_the_same() -> None:
    def make() -> dict[str, Any]:
        headers = [
            (b"host", b"a"),
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"x-forwarded-for", b"9.9.9.9"),
        ]
        return {
            **{"path": "/a b/", "raw_path": b"/a%20b/", "query_string": b"c=d"},
            **{"client": ("1.2.3.4", 5), "subprotocols": ["x"], "headers": headers},
        }

    def told(request: UpgradeRequest) -> list[Any]:
        return [
            *(request.url, request.path, request.remote_address, request.remote_port),
            *(request.remote_family, request.forwarded_for_address, request.subprotocols),
            *(request.header("x-a"), request.header("y"), request.headers, request.scope),
        ]

    whole, condensed = UpgradeRequest(make()), UpgradeRequest(make(), make)
    condensed.condense()
    assert condensed.header("x-a") == "1, 2"
    assert told(condensed) == told(whole)
    assert (whole.header("x-a"), whole.headers["x-a"]) == ("1, 2", "1, 2")
    # What somebody has may have been changed.
    condensed.scope["mine"] = 1
    condensed.condense()
    assert condensed.scope["mine"] == 1
    seen = UpgradeRequest(make(), make)
    seen.scope["mine"] = 1
    seen.condense()
    assert seen.scope["mine"] == 1


async def test_several_connection_headers_mean_the_same_in_pieces() -> None:
    site = Site("picows")
    await site.listen()
    answers = []
    for how in ("whole", "in two pieces"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        request = REQUEST.replace(b"keep-alive, Upgrade", b"Upgrade\r\nConnection: keep-alive")
        await send_request(site, writer, request, how)
        answers.append((await soon(reader.readline())).split()[1])
        writer.close()
    assert answers[0] == answers[1] != b"101"
    for listener in site.listeners:
        await listener.close()


async def test_the_time_for_a_head_begins_with_the_connection() -> None:
    site = Site("picows")
    await site.listen()
    connections = site.listeners[0]._server.server_state.connections
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await until(lambda: len(connections) == 1)
    (connection,) = connections
    until_when = connection._head_timer.when()
    await send_request(site, writer, REQUEST[:30], "in two pieces")
    (connection,) = connections
    assert isinstance(connection, uvicorn_http.UpgradingProtocol)
    assert connection.head_timer is not None
    assert connection.head_timer.when() == until_when
    writer.close()
    for listener in site.listeners:
        await listener.close()


async def test_what_follows_a_request_may_fill_its_handler() -> None:
    paused: list[str] = []

    class Full(EchoHandler):
        def text_received(self, data: bytes) -> None:
            self.connection.pause_reading()

    class Transport(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__({"socket": here})

        def set_protocol(self, protocol: Any) -> None:
            pass

        def get_write_buffer_size(self) -> int:
            return 0

        def write(self, data: Any) -> None:
            pass

        def is_closing(self) -> bool:
            return False

        def pause_reading(self) -> None:
            paused.append("paused")

        def resume_reading(self) -> None:
            paused.append("resumed")

    class Taking(Endpoint):
        def open_now(self, request: UpgradeRequest) -> Accepted | None:
            return Accepted(Full())

    here, there = socket.socketpair()
    upgrading = Upgrading(
        Transport(),
        {
            **{"method": "GET", "http_version": "1.1"},
            "headers": [
                (b"host", b"a"),
                (b"sec-websocket-version", b"13"),
                (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
            ],
        },
        UpgradeSite(Taking(), set(), open_connection, DeflateCache()),
        None,
    )
    upgrading.start(FRAME_ABC * 20_000)
    assert paused[0] == "resumed"
    assert set(paused[1:]) == {"paused"}
    here.close()
    there.close()


@pytest.mark.parametrize("where", ["open_now", "open"])
async def test_an_endpoint_that_fails_answers_500(where: str) -> None:
    site = Site("picows")
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    class Failing(Endpoint):
        def open_now(self, request: UpgradeRequest) -> Accepted | None:
            if where == "open_now":
                raise KeyError("secret")
            return None

        async def open(self, request: UpgradeRequest) -> Accepted:
            raise KeyError("secret")

    await site.listen(Failing())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(REQUEST)
    answer = await soon(reader.read())
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert [type(context["exception"]) for context in faults] == [KeyError]
    writer.close()
    await writer.wait_closed()
    for listener in site.listeners:
        await listener.close()


async def test_frames_do_not_overtake_the_answer_to_the_request() -> None:
    here, there = socket.socketpair()
    here.setblocking(False)

    class Transport(asyncio.Transport):
        """Has the answer still to write."""

        def __init__(self) -> None:
            super().__init__({"socket": here})
            self.waiting = b"answer "

        def is_closing(self) -> bool:
            return False

        def set_protocol(self, protocol: Any) -> None:
            pass

        def get_write_buffer_size(self) -> int:
            return len(self.waiting)

        def write(self, data: Any) -> None:
            self.waiting += data

    transport = Transport()
    open_connection(transport, EchoHandler(), Endpoint(), None, set(), FRAME_ABC)
    assert transport.waiting == b"answer \x81\x03abc"
    transport.waiting = b""
    open_connection(transport, EchoHandler(), Endpoint(), None, set(), FRAME_ABC)
    assert there.recv(100) == b"\x81\x03abc"
    here.close()
    there.close()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", b"426"),
        (b"Host: a\r\n", b"", b"400"),
        (b"AAAA==", b"AAAA", b"400"),
        (b"GET", b"POST", b"400"),
        (b"HTTP/1.1", b"HTTP/1.0", b"400"),
        (b"Sec-WebSocket-Key", b"X", b"400"),
        (b"Host: a\r\n", b"Host: a\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", b"400"),
    ],
)
@HOW
async def test_faulty_upgrade_requests_are_refused(
    how: str, old: bytes, new: bytes, status: bytes
) -> None:
    site = Site("picows")
    await site.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await send_request(site, writer, REQUEST.replace(old, new), how)
    assert (await soon(reader.readline())).split()[1] == status
    await soon(reader.read())
    writer.close()
    await writer.wait_closed()
    assert site.endpoint.requests == []
    for listener in site.listeners:
        await listener.close()


@pytest.mark.parametrize(
    ("before", "half"),
    [
        (b"", b""),
        (b"", b"GET / HTTP/1.1\r\nHost:"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost:"),
    ],
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, before: bytes, half: bytes
) -> None:
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.2)
    site = Site("picows")
    await site.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(before)
    if before:
        await soon(reader.readuntil(b"0\r\n\r\n"))
    writer.write(half)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()
    # A request that arrived is not hurried: the time of a later connection is over first.
    async with websockets.connect(f"ws://127.0.0.1:{site.port}/ws/") as ws:
        later, writer = await asyncio.open_connection("127.0.0.1", site.port)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(later.read(), 3) == b""
        writer.close()
        await ws.send("x")
        assert await soon(ws.recv()) == "x"
    for listener in site.listeners:
        await listener.close()
