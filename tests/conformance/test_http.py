"""The HTTP side of all engines: heads, what comes before an upgrade, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from socketcluster import AGServer
from socketcluster.engines import request_limits
from socketcluster.engines.base import Accepted, ListenAddress, UpgradeRequest
from socketcluster.engines.registry import resolve_engine
from socketcluster.testing.echo import EchoEndpoint, EchoHandler
from support import self_signed, soon, until

UPGRADE = (
    b"GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PLAIN = b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n"
HEADS = pytest.mark.parametrize("head", [UPGRADE, PLAIN], ids=["upgrade", "plain"])


class Endpoint(EchoEndpoint):
    """Accepts at once, and remembers what was asked."""

    path = "/ws/"

    def __init__(self) -> None:
        super().__init__(None, 100_000)
        self.requests: list[UpgradeRequest] = []

    def open_now(self, request: UpgradeRequest) -> Accepted | None:
        self.requests.append(request)
        return Accepted(EchoHandler())


class Site:
    """An echo endpoint and an application on one engine."""

    def __init__(self, engine: str) -> None:
        self.engine = resolve_engine(engine, {})
        self.endpoint = Endpoint()
        self.begin = asyncio.Event()
        self.finish = asyncio.Event()
        self.begin.set()
        self.finish.set()
        self.asked = 0
        self.bodies: list[int] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        assert scope["type"] == "http"
        self.asked += 1
        if scope["path"] == "/early":
            await send({"type": "http.response.start", "status": 413, "headers": []})
            await send({"type": "http.response.body", "body": b"applause"})
            return
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        self.bodies.append(size)
        self.headers.append(scope["headers"])
        await self.begin.wait()
        headers = [(b"content-length", b"8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"appl", "more_body": True})
        await self.finish.wait()
        await send({"type": "http.response.body", "body": b"ause"})

    async def listen(self, **at: Any) -> None:
        self.listener = await self.engine.listen(
            self.endpoint, self.app, ListenAddress(port=0, **at)
        )

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, *pieces: bytes) -> bytes:
        """All that the server sends until it closes."""
        reader, writer = await self.dial()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await everything(reader)


async def everything(reader: asyncio.StreamReader) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await soon(reader.read(65536)):
            data += piece
    return data


@pytest.fixture(params=["picows", "asgi"])
def engine(request: Any) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def site(engine: str) -> AsyncIterator[Site]:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    made = Site(engine)
    await made.listen()
    yield made
    for writer in made.writers:
        writer.close()
    await made.listener.close()
    assert faults == []


def padded(head: bytes, size: int) -> bytes:
    """A head made `size` bytes long by one header."""
    return head[:-2] + b"X-Pad: " + b"p" * (size - len(head) - 9) + b"\r\n\r\n"


def with_headers(head: bytes, count: int) -> bytes:
    """A head with `count` headers."""
    missing = count - head.count(b"\r\n") + 2
    return head[:-2] + b"".join(b"X-%d: 1\r\n" % i for i in range(missing)) + b"\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def first_line(site: Site, *pieces: bytes) -> bytes:
    reader, writer = await site.dial()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    line: bytes = await soon(reader.readline())
    return line


# Heads


@HEADS
@pytest.mark.parametrize("cut", [None, 10, 40_000])
async def test_a_head_within_the_limits_is_served(site: Site, head: bytes, cut: int | None) -> None:
    """Guarantee 4: a head of up to 64 KiB and 200 headers is served, whole or in pieces."""
    assert padded(head, 65_536).__len__() == 65_536
    assert with_headers(head, 200).count(b"\r\n") == 202
    expected = 101 if head is UPGRADE else 200
    for whole in (padded(head, 65_536), with_headers(head, 200)):
        pieces = [whole] if cut is None else [whole[:cut], whole[cut:]]
        assert status(await first_line(site, *pieces)) == expected
    if head is UPGRADE:
        large, many = site.endpoint.requests
        pad = large.header("x-pad")
        assert pad is not None
        assert len(pad) > 65_000
        assert many.header("x-190") == "1"
        assert large.scope["path"] == many.scope["path"] == "/ws/"


@HEADS
async def test_a_larger_head_gets_431_and_is_closed(site: Site, head: bytes) -> None:
    """Guarantee 4."""
    endless = head[:-2] + b"X-Pad: " + b"p" * 1_000_000
    for pieces in (
        [padded(head, 65_537)],
        [padded(head, 65_537)[:40_000], padded(head, 65_537)[40_000:]],
        [with_headers(head, 201)],
        [b"GET /" + b"p" * 70_000 + b" HTTP/1.1\r\n"],
        [endless],
        [b"\r\n" * 40_000],
    ):
        answer = await site.ask(*pieces)
        assert status(answer) == 431
        assert answer.count(b"HTTP/1.1 ") == 1
    assert (site.endpoint.requests, site.asked) == ([], 0)


async def test_a_body_is_no_part_of_a_head(site: Site) -> None:
    head = b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    reader, writer = await site.dial()
    for _ in range(2):  # One after the other on one connection, in one piece each.
        writer.write(head + b"b" * 200_000)
        answer = await soon(reader.readuntil(b"applause"))
        assert status(answer) == 200
    assert site.bodies == [200_000, 200_000]


@HEADS
async def test_a_larger_head_behind_a_request_gets_431(site: Site, head: bytes) -> None:
    reader, writer = await site.dial()
    writer.write(PLAIN)
    await soon(reader.readuntil(b"applause"))
    writer.write(padded(head, 65_537))
    assert status(await everything(reader)) == 431
    assert (site.endpoint.requests, site.asked) == ([], 1)


@pytest.mark.parametrize("trailer", [b"X: " + b"x" * 200_000, b"X: x\r\n" * 40_000])
async def test_trailers_without_end_get_431(site: Site, trailer: bytes) -> None:
    """Guarantee 4."""
    head = b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status(await site.ask(head + b"1\r\nb\r\n0\r\n" + trailer)) == 431


async def test_trailers_are_no_headers(site: Site) -> None:
    head = b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await site.dial()
    for _ in range(2):
        writer.write(head + b"2\r\nbb\r\n" * 50_000 + b"0\r\nX-Admin: 1\r\n\r\n")
        assert status(await soon(reader.readuntil(b"applause"))) == 200
    assert site.bodies == [100_000] * 2
    assert [b"x-admin" in dict(headers) for headers in site.headers] == [False] * 2


@pytest.mark.parametrize(
    ("before", "half"),
    [
        (b"", b""),
        (b"", b"GET / HTTP/1.1\r\nHost:"),
        (b"", UPGRADE[:-2]),
        (b"", b"\r\n"),
        (PLAIN, b"GET / HTTP/1.1\r\nHost:"),
        (PLAIN, UPGRADE[:-2]),
    ],
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, before: bytes, half: bytes
) -> None:
    """Guarantee 4: a client that is silent or slow holds no connection."""
    if not before:
        monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    reader, writer = await site.dial()
    if before:
        writer.write(before)
        await soon(reader.readuntil(b"applause"))
        monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    writer.write(half)
    assert await everything(reader) == b""


async def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee 4."""
    reader, writer = await site.dial()
    writer.write(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    assert status(await soon(reader.readuntil(b"applause"))) == 413
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    writer.write(b"b")  # Stops the time that uvicorn gives between requests.
    assert b"HTTP/1.1" not in await everything(reader)


async def test_a_whole_head_stops_the_clock(site: Site) -> None:
    site.begin.clear()
    connections = site.listener._server.server_state.connections  # type: ignore[attr-defined]
    reader, writer = await site.dial()
    writer.write(PLAIN[:20])
    await until(lambda: any(getattr(c, "head_timer", None) for c in connections))
    writer.write(PLAIN[20:])
    await until(lambda: site.asked == 1)
    (connection,) = connections
    assert connection.head_timer is None
    site.begin.set()
    assert status(await soon(reader.readuntil(b"applause"))) == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["silent", "half"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_tls_handshake_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, engine: str, sent: bytes
) -> None:
    """Guarantee 4."""
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    certfile, keyfile = self_signed(tmp_path)

    async def dial() -> None:
        site = Site(engine)
        await site.listen(ssl_certfile=certfile, ssl_keyfile=keyfile)
        reader, writer = await site.dial()
        writer.write(sent)
        try:
            assert await everything(reader) == b""
        finally:
            writer.close()
            await site.listener.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(dial())


async def test_a_larger_head_gets_431_over_tls(engine: str, tmp_path: Path) -> None:
    site = Site(engine)
    certfile, keyfile = self_signed(tmp_path)
    await site.listen(ssl_certfile=certfile, ssl_keyfile=keyfile)
    context = ssl.create_default_context(cafile=certfile)
    for head, expected in ((padded(UPGRADE, 65_536), 101), (padded(UPGRADE, 200_000), 431)):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", site.listener.port, ssl=context, server_hostname="localhost"
        )
        writer.write(head)
        assert status(await soon(reader.readline())) == expected
        if expected == 431:
            assert b"HTTP/1.1" not in await everything(reader)
        writer.transport.abort()
    await site.listener.close()


# What comes before and behind an upgrade


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_request_before_an_upgrade_that_is_not_answered_yet(
    site: Site, caplog: pytest.LogCaptureFixture, pieces: int
) -> None:
    """Guarantee 6: nothing of an HTTP answer gets into a WebSocket."""
    caplog.set_level(logging.DEBUG)
    site.begin.clear()
    reader, writer = await site.dial()
    writer.write(PLAIN + UPGRADE if pieces == 1 else PLAIN)
    if pieces == 2:
        await until(lambda: site.asked == 1)
        writer.write(UPGRADE)
    assert status(await soon(reader.readuntil(b"\r\n\r\n"))) == 400
    site.begin.set()
    assert b"HTTP/1.1" not in await everything(reader)
    assert site.endpoint.requests == []
    assert "Traceback" not in caplog.text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_an_answer_that_has_begun_is_cut_by_an_upgrade(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Guarantee 6."""
    site.finish.clear()
    reader, writer = await site.dial()
    writer.write(PLAIN + PLAIN)
    await soon(reader.readuntil(b"appl"))
    writer.write(UPGRADE)
    # A second answer inside the first would be taken for a part of it.
    assert await everything(reader) == b""
    site.finish.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert site.endpoint.requests == []
    assert caplog.text == ""


@pytest.mark.parametrize("many", [1, 3])
async def test_an_upgrade_behind_a_finished_answer_is_legal(site: Site, many: int) -> None:
    reader, writer = await site.dial()
    writer.write(PLAIN * many)
    for _ in range(many):
        await soon(reader.readuntil(b"applause"))
    writer.write(UPGRADE + Frame(Opcode.TEXT, b"abc").serialize(mask=True))
    assert status(await soon(reader.readuntil(b"\r\n\r\n"))) == 101
    assert await soon(reader.readexactly(5)) == b"\x81\x03abc"


@pytest.mark.parametrize("behind", [UPGRADE, PLAIN], ids=["upgrade", "plain"])
async def test_what_is_behind_an_upgrade_is_no_http(site: Site, behind: bytes) -> None:
    """Guarantee 6."""
    answer = await site.ask(UPGRADE + behind)
    assert status(answer) == 101
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\x88" in answer
    assert b"\x03\xea" in answer  # 1002
    assert (len(site.endpoint.requests), site.asked) == (1, 0)


async def test_frames_behind_the_request_are_not_lost(site: Site) -> None:
    """Guarantee 1."""
    reader, writer = await site.dial()
    frames = Frame(Opcode.TEXT, b"a").serialize(mask=True) + Frame(Opcode.TEXT, b"b").serialize(
        mask=True
    )
    writer.write(UPGRADE + frames)
    await soon(reader.readuntil(b"\r\n\r\n"))
    assert await soon(reader.readexactly(6)) == b"\x81\x01a\x81\x01b"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"Version: 13", b"Version: 8", 426),
        (b"Host: a\r\n", b"", 400),
        (b"AAAA==", b"AAAA", 400),
        (b"GET", b"POST", 400),
        (b"GET", b"HEAD", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"Sec-WebSocket-Key", b"X", 400),
        (b"Host: a\r\n", b"Host: a\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 400),
        (b"Host: a\r\n", b"Host: a\r\nContent-Length: 5\r\n", 400),
        (b"Host: a\r\n", b"Host: a\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"GET /ws/", b"GET /\xc3\xa9", 400),
        (b"Host: a\r\n", b"Host: a\r\nX: \x01\r\n", 400),
        (b"HTTP/1.1", b"HTTP/2.0", 400),
    ],
)
@pytest.mark.parametrize("cut", [None, 20])
async def test_faulty_upgrades_are_refused(
    site: Site, old: bytes, new: bytes, code: int, cut: int | None
) -> None:
    """Guarantee 6."""
    whole = UPGRADE.replace(old, new)
    answer = await site.ask(*([whole] if cut is None else [whole[:cut], whole[cut:]]))
    assert status(answer) == code
    assert (b"\r\nUpgrade: websocket\r\n" in answer) == (code == 426)
    assert (site.endpoint.requests, site.asked) == ([], 0)


async def test_a_length_of_zero_is_no_body(site: Site) -> None:
    whole = UPGRADE.replace(b"Host: a\r\n", b"Host: a\r\nContent-Length: 0\r\n")
    assert status(await first_line(site, whole)) == 101


async def test_an_offer_of_another_protocol_is_passed_over(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    head = PLAIN[:-2] + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    reader, writer = await site.dial()
    writer.write(head * 3)
    for _ in range(3):
        assert status(await soon(reader.readuntil(b"applause"))) == 200
    assert caplog.text == ""


@pytest.mark.parametrize(
    "junk", [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
async def test_what_is_no_http_gets_400(
    site: Site, caplog: pytest.LogCaptureFixture, junk: bytes
) -> None:
    """Guarantee 10: what a client does wrong fills no log."""
    assert status(await site.ask(junk)) == 400
    assert caplog.text == ""


async def test_values_are_kept_byte_by_byte(site: Site) -> None:
    whole = UPGRADE.replace(b"Host: a\r\n", b"Host: a\r\nX-A: \xc3\xa9\r\nX-A: 2\r\n")
    assert status(await first_line(site, whole)) == 101
    assert site.endpoint.requests[0].header("x-a") == "\xc3\xa9, 2"


async def test_pongs_to_a_client_that_does_not_read_are_bounded(site: Site) -> None:
    """Guarantee 4."""
    await site.listener.close()
    site.endpoint.max_outbound_buffer = 100_000
    await site.listen()
    reader, writer = await site.dial()
    writer.write(UPGRADE)
    await soon(reader.readuntil(b"\r\n\r\n"))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    pings = Frame(Opcode.PING, b"x" * 100).serialize(mask=True) * 200
    while not writer.transport.is_closing():
        writer.write(pings)
        await asyncio.sleep(0)


async def test_no_log_has_a_query_string(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    site = Site(engine)
    await site.listen()
    for path in (b"/ws/", b"/other"):
        head = UPGRADE.replace(b"/ws/", path + b"?token=secret")
        assert status(await first_line(site, head)) == 101
    for writer in site.writers:
        writer.close()
    await site.listener.close()
    assert "secret" not in caplog.text


async def test_only_other_paths_are_pinged_by_uvicorn() -> None:
    """Guarantee 9: it would close a connection over which a long message comes."""
    site = Site("asgi")
    await site.listen()
    connections = site.listener._server.server_state.connections  # type: ignore[attr-defined]
    seen = {}
    for path in (b"/ws/", b"/other"):
        assert status(await first_line(site, UPGRADE.replace(b"/ws/", path))) == 101
        (seen[path],) = (c.ping_timer is not None for c in connections)
        for writer in site.writers:
            writer.close()
        await until(lambda: not connections)
    assert seen == {b"/ws/": False, b"/other": True}
    await site.listener.close()


# A server


async def test_the_path_without_an_upgrade_is_the_applications(
    make_server: Any, engine: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 299, "headers": []})
            await send({"type": "http.response.body", "body": b"mine"})

    async def ask(server: AGServer, path: str, method: str = "GET") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        lines = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        writer.write(lines.encode())
        answer = await everything(reader)
        writer.close()
        return answer

    alone = await make_server(ws_engine=engine)
    for path in ("/socketcluster/", "/socketcluster", "/socketcluster/?a=1"):
        for method in ("GET", "HEAD"):
            answer = await ask(alone, path, method)
            assert status(answer) == 426
            assert b"\r\nupgrade: websocket\r\n" in answer
            assert answer.endswith(b"WebSocket") == (method == "GET")
    assert status(await ask(alone, "/other")) == 404
    assert status(await ask(alone, "/health/live")) == 200
    beside = await make_server(ws_engine=engine, app=app)
    assert status(await ask(beside, "/socketcluster/")) == 299


async def test_the_address_of_a_client_behind_a_proxy(
    make_server: Any, engine: str, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    async def admit(stream: Any) -> None:
        async for action in stream:
            seen.append(action.request.client_address)
            action.allow()

    async def connect(server: AGServer, path: str | None) -> None:
        head = UPGRADE.replace(b"/ws/", b"/socketcluster/").replace(
            b"Host: a\r\n",
            b"Host: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 6.6.6.6:77, 127.0.0.1\r\n"
            b"Cookie: a=1\r\nCookie: b=2; c=3\r\n",
        )
        reader, writer = await (
            asyncio.open_unix_connection(path)
            if path
            else asyncio.open_connection("127.0.0.1", server.source_port)
        )
        writer.write(head)
        assert status(await soon(reader.readuntil(b"\r\n\r\n"))) == 101
        await until(lambda: server.pending_clients_count == 1)
        (socket,) = server.pending_clients.values()
        seen.append(socket.client_address)
        assert socket.forwarded_for_address == "9.9.9.9"
        assert socket.remote_address == (None if path else "127.0.0.1")
        assert socket.request.header("cookie") == "a=1; b=2; c=3"
        assert socket.request.headers["cookie"] == "a=1; b=2; c=3"
        writer.close()
        await until(lambda: server.pending_clients_count == 0)

    for trusted, peer, expected in (
        ([], "tcp", "127.0.0.1"),
        (["127.0.0.0/8"], "tcp", "6.6.6.6"),
        ("127.0.0.0/8", "unix", None),
        ("127.0.0.0/8 unix", "unix", "6.6.6.6"),
    ):
        server = await make_server(ws_engine=engine, trusted_proxies=trusted)
        path = None
        if peer == "unix":
            path = str(tmp_path / f"{len(seen)}")
            await server.listen(uds=path)
        await connect(server, path)
        assert seen.pop() == expected
        server.set_middleware(server.MIDDLEWARE_HANDSHAKE, admit)
        await connect(server, path)
        assert [seen.pop(), seen.pop()] == [expected] * 2
        await server.close()


async def test_an_origin_by_its_scheme(make_server: Any, engine: str) -> None:
    server = await make_server(ws_engine=engine, origins=["https://example.com"])
    for origin, expected in (
        ("https://example.com", 101),
        ("http://example.com", 403),
        ("https://example.com:0", 403),
        ("https://example.com, https://evil.net", 403),
        ("null", 403),
        ("https://" + "e" * 5000, 403),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        line = f"Host: a\r\nOrigin: {origin}\r\n".encode()
        writer.write(UPGRADE.replace(b"/ws/", b"/socketcluster/").replace(b"Host: a\r\n", line))
        assert status(await soon(reader.readline())) == expected
        if expected == 403:
            assert len(await everything(reader)) < 1000
        writer.close()
