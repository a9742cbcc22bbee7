"""One suite over all engines: what a WebSocket does is the same on each."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.frames import Close, Frame, Opcode

from conformance.sites import REQUEST, Endpoint, Site, no_app
from socketcluster import AGServer
from socketcluster.engines.asgi import serve_websocket
from socketcluster.engines.base import (
    Accepted,
    DeflateOptions,
    ListenAddress,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.testing.echo import EchoEndpoint
from support import connected, self_signed, soon, until

ENGINES = ("picows", "asgi")


@pytest.fixture(params=ENGINES)
async def site(request: Any) -> AsyncIterator[Site]:
    made = Site(request.param)
    yield made
    for listener in made.listeners:
        await listener.close()


async def test_echo_of_texts_bytes_and_fragments(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        for message in ("", "é" * 100, b"", b"\x00\xff" * 300, "x" * 70_000):
            await ws.send(message)
            assert await soon(ws.recv()) == message
        await ws.send(iter(["a", "é", "b"]))
        assert await soon(ws.recv()) == "aéb"
        await ws.send(iter([b"a", b"b"]))
        assert await soon(ws.recv()) == b"ab"
    handler = site.endpoint.handlers[0]
    await until(lambda: handler.lost == [(1000, "")])
    assert handler.connection.get_bytes_received() > 70_000


async def test_pings_are_answered(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await soon(await ws.ping(b"abc"))
        await ws.send("x")
        assert await soon(ws.recv()) == "x"


async def test_close_codes_and_reasons(site: Site) -> None:
    address = await site.listen()
    async with websockets.connect(address) as ws:
        await ws.close(4321, "why")
    await until(lambda: site.endpoint.handlers[0].lost == [(4321, "why")])
    async with websockets.connect(address) as ws:
        await until(lambda: hasattr(site.endpoint.handlers[-1], "connection"))
        site.endpoint.handlers[-1].connection.close(4567, "é" * 200)
        await soon(ws.wait_closed())
        assert ws.close_code == 4567
        assert ws.close_reason == "é" * 61
    await until(lambda: len(site.endpoint.handlers[-1].lost) == 1)
    async with websockets.connect(address) as ws:
        await until(lambda: hasattr(site.endpoint.handlers[-1], "connection"))
        site.endpoint.handlers[-1].connection.abort()
        await soon(ws.wait_closed())
    await until(lambda: len(site.endpoint.handlers[-1].lost) == 1)


async def test_a_close_without_a_code(site: Site) -> None:
    """ASGI has none: it sends 4001, after which clients come back at once, too."""
    address = await site.listen()
    async with websockets.connect(address) as ws:
        await until(lambda: hasattr(site.endpoint.handlers[-1], "connection"))
        site.endpoint.handlers[-1].connection.close(1005, "not sent")
        await soon(ws.wait_closed())
        expected = 4001 if type(site.engine).__name__ == "AsgiEngine" else 1005
        assert (ws.close_code, ws.close_reason) == (expected, "")
    await until(lambda: len(site.endpoint.handlers[-1].lost) == 1)
    async with websockets.connect(address, compression=None) as ws:
        await ws.send("a client may do so, too")
        await soon(ws.recv())
        ws.transport.write(Frame(Opcode.CLOSE, b"").serialize(mask=True))
        await soon(ws.wait_closed())
    await until(lambda: site.endpoint.handlers[-1].lost == [(1005, "")])


async def test_nothing_is_delivered_after_close(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.send("one")
        await soon(ws.recv())
        handler = site.endpoint.handlers[0]
        handler.connection.close(4000, "")
        frames = [Frame(Opcode.TEXT, b"late").serialize(mask=True) for _ in range(3)]
        ws.transport.write(b"".join(frames))
        await soon(ws.wait_closed())
    await until(lambda: len(handler.lost) == 1)
    assert handler.messages == [("text", b"one")]


async def test_too_large_messages_close_with_1009(site: Site) -> None:
    address = await site.listen(Endpoint(max_payload=1000))
    for message in ("x" * 1001, ["x" * 600, "x" * 600]):
        async with websockets.connect(address, compression=None) as ws:
            await ws.send("x" * 1000)
            await soon(ws.recv())
            await ws.send(message)
            await soon(ws.wait_closed())
            assert ws.close_code == 1009


async def test_refusal_has_its_status_and_text(site: Site) -> None:
    address = await site.listen()
    site.endpoint.refusal = UpgradeRefusedError(418, "Teapots only")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(address)
    assert refused.value.response.status_code == 418
    assert refused.value.response.body == b"Teapots only"


async def test_request_and_sub_protocol(site: Site) -> None:
    address = await site.listen()
    async with websockets.connect(
        address[:-1] + "?a=1&b=%20",
        subprotocols=[websockets.Subprotocol("a"), websockets.Subprotocol("b")],
        additional_headers={"X-Two": "1", "X-Forwarded-For": "9.9.9.9"},
    ) as ws:
        assert ws.subprotocol == "b"
    (request,) = site.endpoint.requests
    assert request.path == "/ws"
    assert request.url == "/ws?a=1&b=%20"
    assert request.headers["x-two"] == "1"
    assert request.subprotocols == ["a", "b"]
    assert request.scope["type"] == "websocket"
    assert request.scope["query_string"] == b"a=1&b=%20"
    assert request.remote_address == "127.0.0.1"
    assert request.remote_family == "IPv4"
    assert request.forwarded_for_address == "9.9.9.9"


async def test_connection_header_of_firefox_is_accepted(site: Site) -> None:
    await site.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(REQUEST)
    assert (await soon(reader.readline())).startswith(b"HTTP/1.1 101")
    writer.close()
    await writer.wait_closed()
    await until(lambda: len(site.endpoint.handlers[0].lost) == 1)
    assert site.endpoint.handlers[0].lost[0][0] == 1006


async def test_closing_does_not_wait_for_one_who_says_nothing() -> None:
    site = Site("picows")
    await site.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    connections = site.listeners[0]._server.server_state.connections
    await until(lambda: len(connections) == 1)
    await soon(site.listeners[0].close())
    assert await soon(reader.read()) == b""
    assert connections == set()
    writer.close()


async def test_open_is_cancelled_when_the_peer_leaves(site: Site) -> None:
    await site.listen()
    site.endpoint.gate = asyncio.Event()
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(REQUEST)
    await until(lambda: len(site.endpoint.requests) == 1)
    writer.close()
    await writer.wait_closed()
    await until(lambda: site.endpoint.cancelled == 1)
    assert site.endpoint.handlers == []


@pytest.mark.parametrize("threshold", [0, 500])
async def test_permessage_deflate(site: Site, threshold: int) -> None:
    address = await site.listen(Endpoint(DeflateOptions(threshold=threshold)))
    async with websockets.connect(address) as ws:
        assert ws.response is not None
        assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
        for message in ("x" * 10_000, "short", b"\x01" * 5000, "x" * 10_000):
            await ws.send(message)
            assert await soon(ws.recv()) == message
        await ws.send(iter(["a" * 1000, "b" * 1000]))
        assert await soon(ws.recv()) == "a" * 1000 + "b" * 1000
        await ws.send("x" * 100_001)
        await soon(ws.wait_closed())
        assert ws.close_code == 1009
    async with websockets.connect(address, compression=None) as ws:
        await ws.send("y" * 1000)
        assert await soon(ws.recv()) == "y" * 1000


async def test_paused_reading_pushes_back(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.send("go")
        await soon(ws.recv())
        handler = site.endpoint.handlers[0]
        handler.echoing = False
        handler.connection.pause_reading()

        async def send() -> None:
            for _ in range(500):
                await ws.send(b"x" * 50_000)

        sending = asyncio.create_task(send())
        count = -1
        while count != len(handler.messages):
            count = len(handler.messages)
            for _ in range(200):
                await asyncio.sleep(0)
        assert not sending.done()
        assert count < 400
        handler.connection.resume_reading()
        await soon(sending)
        await until(lambda: len(handler.messages) == 501)


async def test_buffered_bytes_are_counted(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.send("go")
        await soon(ws.recv())
        ws.transport.pause_reading()
        connection = site.endpoint.handlers[0].connection
        for _ in range(200):
            site.endpoint.handlers[0].binary_received(b"x" * 50_000)
        for _ in range(500):  # Also once all is passed on that can be.
            await asyncio.sleep(0)
        assert connection.get_write_buffer_size() > 1_000_000
        connection.abort()
        await until(lambda: len(site.endpoint.handlers[0].lost) == 1)
        ws.transport.resume_reading()


async def test_pongs_to_a_peer_that_does_not_read_are_bounded() -> None:
    site = Site("picows")
    await site.listen()
    site.endpoint.max_outbound_buffer = 100_000
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1000)
    writer.write(REQUEST)
    await soon(reader.readuntil(b"\r\n\r\n"))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    pings = Frame(Opcode.PING, b"x" * 100).serialize(mask=True) * 200
    handler = site.endpoint.handlers[0]
    most = 0
    while not handler.lost:
        writer.write(pings)
        most = max(most, handler.connection.get_write_buffer_size())
        await asyncio.sleep(0)
    assert most < 200_000
    assert handler.lost == [(1006, "")]
    writer.close()
    for listener in site.listeners:
        await listener.close()


@pytest.mark.parametrize("frame", [b"\xc1\x80AAAA", b"\x83\x80AAAA", b"\x81\x00", b"\x80\x80AAAA"])
async def test_protocol_violations_close_with_1002(site: Site, frame: bytes) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.send("fine")
        assert await soon(ws.recv()) == "fine"
        ws.transport.write(frame)
        await soon(ws.wait_closed())
        assert ws.close_code == 1002


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_illegal_close_codes_close_with_1002(code: int) -> None:
    site = Site("picows")
    async with websockets.connect(await site.listen(), compression=None) as ws:
        ws.transport.write(Frame(Opcode.CLOSE, code.to_bytes(2, "big")).serialize(mask=True))
        await soon(ws.wait_closed())
        assert ws.close_code == 1002
    for listener in site.listeners:
        await listener.close()


async def test_invalid_utf8_closes_with_1007(site: Site, caplog: Any) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        ws.transport.write(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
        await soon(ws.wait_closed())
        assert ws.close_code == 1007
    assert site.endpoint.handlers[0].messages == []
    assert caplog.text == ""


async def test_read_buffer_does_not_stay_large() -> None:
    site = Site("picows")
    async with websockets.connect(
        await site.listen(Endpoint(max_payload=2_000_000)), compression=None, max_size=None
    ) as ws:
        await ws.send(b"x" * 1_500_000)
        await soon(ws.recv())
        await ws.send("small")
        assert await soon(ws.recv()) == "small"
        connection: Any = site.endpoint.handlers[0].connection
        assert len(connection._reader._parser.get_buffer(-1)) < 100_000
    for listener in site.listeners:
        await listener.close()


async def test_tls(site: Site, tmp_path: Path) -> None:
    certfile, keyfile = self_signed(tmp_path)
    await site.listen(ssl_certfile=certfile, ssl_keyfile=keyfile)
    context = ssl.create_default_context(cafile=certfile)
    async with websockets.connect(
        f"wss://localhost:{site.port}/ws/", ssl=context, host="127.0.0.1"
    ) as ws:
        await ws.send("x" * 50_000)
        assert await soon(ws.recv()) == "x" * 50_000
    assert site.endpoint.requests[0].scope["scheme"] == "wss"
    with pytest.raises(OSError, match=r"."):
        await site.listen(ssl_certfile=str(tmp_path / "none.pem"))


async def test_unix_socket(site: Site, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    await site.listen(uds=path)
    assert site.port is None
    async with websockets.unix_connect(path, "ws://localhost/ws/") as ws:
        await ws.send("hi")
        assert await soon(ws.recv()) == "hi"
    assert site.endpoint.requests[0].remote_family == "unix"
    site.listeners[0].stop_accepting()
    assert not os.path.exists(path)  # noqa: ASYNC240


async def test_port_in_use(site: Site) -> None:
    await site.listen()
    with pytest.raises(OSError, match=r"Cannot listen on 127\.0\.0\.1"):
        await site.engine.listen(site.endpoint, no_app, ListenAddress(port=site.port))


@pytest.mark.parametrize("engine", ENGINES)
async def test_http_application_on_the_same_port(make_server: Any, engine: str) -> None:
    async def other(ws: Any) -> None:
        await ws.accept()
        await ws.send_text("other " + await ws.receive_text())
        await ws.close()

    started: list[str] = []

    async def lifespan(app: Any) -> AsyncIterator[None]:
        started.append("up")
        yield
        started.append("down")

    app = Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("home")),
            WebSocketRoute("/other", other),
        ],
        lifespan=asynccontextmanager(lifespan),
    )
    server: AGServer = await make_server(app=app, ws_engine=engine)
    assert started == ["up"]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await soon(reader.read())).endswith(b"home")
    writer.close()
    await writer.wait_closed()
    async with websockets.connect(f"ws://127.0.0.1:{server.source_port}/other") as ws:
        await ws.send("x")
        assert await soon(ws.recv()) == "other x"
    async with connected(server):
        assert server.clients_count == 1
    await server.close()
    assert started == ["up", "down"]


async def test_close_frame_is_answered(site: Site) -> None:
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.close(3000, "bye")
        assert ws.protocol.close_rcvd == Close(3000, "") or ws.close_code == 3000


async def test_a_peer_that_does_not_read_is_dropped_soon_after_close(
    site: Site, monkeypatch: Any
) -> None:
    for engine in ENGINES:
        monkeypatch.setattr(f"socketcluster.engines.{engine}.CLOSE_SECONDS", 0.05)
    async with websockets.connect(await site.listen(), compression=None) as ws:
        await ws.send("go")
        await soon(ws.recv())
        ws.transport.pause_reading()
        handler = site.endpoint.handlers[0]
        for _ in range(200):
            handler.binary_received(b"x" * 50_000)
        handler.connection.close(4000, "")
        await until(lambda: len(handler.lost) == 1)
        ws.transport.resume_reading()


@pytest.mark.parametrize("how", ["left", "cancelled", "refused to send"])
async def test_a_handler_hears_of_a_peer_that_left_while_it_was_accepted(how: str) -> None:
    endpoint = Endpoint()
    received: asyncio.Queue[Any] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    turns = asyncio.Event()

    class Slow(EchoEndpoint):
        async def open(self, request: UpgradeRequest) -> Accepted:
            await turns.wait()
            if how == "left":
                received.put_nowait({"type": "websocket.disconnect", "code": 1006})
            elif how == "cancelled":
                serving.cancel()
            return await endpoint.open(request)

    async def send(message: Any) -> None:
        if how == "refused to send":
            raise OSError("Gone")
        await asyncio.Event().wait()

    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    serving = asyncio.ensure_future(serve_websocket(Slow(), scope, received.get, send))
    for _ in range(5):
        await asyncio.sleep(0)
    turns.set()
    await asyncio.wait({serving}, timeout=5)
    assert endpoint.handlers[0].lost == [(1006, "")]
    assert serving.cancelled() == (how == "cancelled")


async def test_half_sent_frames_hold_no_more_than_a_message() -> None:
    site = Site("picows")
    await site.listen(Endpoint(max_payload=100_000))
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(REQUEST)
    await soon(reader.readuntil(b"\r\n\r\n"))
    whole = Frame(Opcode.BINARY, b"x" * 90_000).serialize(mask=True)
    writer.write(whole[:80_000])
    await until(lambda: hasattr(site.endpoint.handlers[0], "connection"))
    connection: Any = site.endpoint.handlers[0].connection
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(connection._reader._parser.get_buffer(-1)) < 300_000
    # A frame that announces more is refused by its first bytes.
    too_large = Frame(Opcode.BINARY, b"x" * 200_000).serialize(mask=True)
    writer.write(whole[80_000:] + too_large[:20])
    rest = await soon(reader.read())
    assert rest.endswith(b"\x88\x02\x03\xf1")  # 1009
    writer.close()
    await writer.wait_closed()
    for listener in site.listeners:
        await listener.close()
