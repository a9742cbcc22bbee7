"""Why a connection was not made, or was lost: told, as fields too, and without secrets."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from client.fakes import Peer, Stream, fake_server, tcp_server
from client.test_lifecycle import certificate
from socketcluster import AGClientSocket, AGServer, testing
from socketcluster.client.options import ClientOptions, url_options
from socketcluster.engines.connect_errors import redacted
from socketcluster.errors import BadConnectionError, InvalidOptionsError, SocketProtocolError
from support import record, soon

SECRET = "s3cr3t-of-the-test"

Way = Callable[[Any], Any]


def answering(head: str, body: str = "") -> Stream:
    """What answers an upgrade request with an HTTP response."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = request.split()[1]
        text = body.replace("PATH", path)
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


def unused_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@asynccontextmanager
async def nothing() -> AsyncIterator[int]:
    yield unused_port()


WAYS: dict[str, tuple[Callable[[], Any], dict[str, Any], str, type[BaseException] | None]] = {
    "refused": (nothing, {}, "Connection refused", ConnectionRefusedError),
    "unknown host": (
        nothing,
        {"hostname": "no-such-host.invalid"},
        "host name could not be resolved",
        socket.gaierror,
    ),
    "no such socket": (
        nothing,
        {"socket_path": "/nowhere/at/all"},
        "No such file or directory",
        FileNotFoundError,
    ),
    "status": (
        lambda: tcp_server(answering("403 Forbidden", "Not you")),
        {},
        "HTTP 403: Not you",
        Exception,
    ),
    "status that repeats the request": (
        lambda: tcp_server(answering("404 Not Found", "Cannot GET PATH")),
        {},
        "HTTP 404: Cannot GET /socketcluster/?…",
        Exception,
    ),
    "redirect": (
        lambda: tcp_server(answering("302 Found\r\nLocation: /?token=" + SECRET)),
        {},
        "HTTP 302 Found",
        Exception,
    ),
    "page": (
        lambda: tcp_server(answering("502 Bad Gateway\r\nContent-Type: text/html", "<html>")),
        {},
        "HTTP 502 Bad Gateway",
        Exception,
    ),
    "no HTTP": (
        lambda: tcp_server(answering("nonsense")),
        {},
        "invalid HTTP status line",
        Exception,
    ),
    "no answer": (lambda: tcp_server(hang_up), {}, "hung up without an answer", None),
    "time": (
        lambda: tcp_server(silent),
        {"connect_timeout": 50},
        "no answer within 50 ms",
        None,
    ),
    "no TLS": (lambda: tcp_server(plain), {"secure": True}, "TLS failed", ssl.SSLError),
    "proxy": (
        nothing,
        {"ws_options": {"proxy": f"http://user:{SECRET}@127.0.0.1:1"}},
        "Connection refused",
        Exception,
    ),
    "proxy that refuses": (
        lambda: tcp_server(answering("407 Proxy Authentication Required")),
        {"ws_options": {"proxy": f"http://user:{SECRET}@127.0.0.1:PORT"}},
        "407",
        Exception,
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_reason_and_no_secret(make_client: Any, caplog: Any, way: str) -> None:
    serve, options, reason, cause = WAYS[way]
    async with serve() as port:
        given = options.get("ws_options", {})
        if "proxy" in given:
            options = {"ws_options": {"proxy": given["proxy"].replace("PORT", str(port))}}
        client = make_client(
            port, auto_connect=False, auto_reconnect=False, query={"token": SECRET}, **options
        )
        found = record(client)
        with caplog.at_level(logging.DEBUG), pytest.raises(BadConnectionError) as raised:
            await soon(client.__aenter__())
        events = dict(found)
        error = events["error"].error
    assert isinstance(error, SocketProtocolError)
    status = "Client connection establishment timed out" if way == "time" else "Socket hung up"
    assert str(error).startswith(f"{status}: ")
    assert reason in str(error)
    assert error.reason is not None
    assert error.reason.startswith(f"{status}: ")
    assert reason in error.reason
    assert error.name == "SocketProtocolError"
    assert error.code == (4007 if way == "time" else 1006)
    if cause is not None:
        assert isinstance(error.__cause__, cause)
    for name in ("connectAbort", "close"):
        assert (events[name].code, events[name].reason) == (error.code, error.reason)
    assert (raised.value.code, raised.value.reason) == (error.code, error.reason)
    told = "".join(traceback.format_exception(raised.value))
    for text in (told, repr(found), caplog.text, repr(client.options)):
        assert SECRET not in text
    assert f"token={SECRET}" in client.uri()


@pytest.mark.parametrize(("head", "status"), [("403 Forbidden", 403), ("503 Busy", 503)])
async def test_the_status_is_a_field(make_client: Any, head: str, status: int) -> None:
    async with tcp_server(answering(head)) as port:
        client = make_client(port, auto_reconnect=False)
        event = await client.listener("error").once(4000)
    assert event.error.http_status == status


async def test_a_certificate(make_client: Any, tmp_path: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "localhost"))
    async with tcp_server(silent, ssl=context) as port:
        client = make_client(port, secure=True, auto_reconnect=False, query={"token": SECRET})
        event = await client.listener("error").once(4000)
    assert "certificate does not verify" in str(event.error)
    assert isinstance(event.error.__cause__, ssl.SSLCertVerificationError)
    assert SECRET not in str(event.error)


async def test_our_server_says_why_in_memory_too() -> None:
    server = AGServer(origins="example.com:80")
    with pytest.raises(BadConnectionError, match="HTTP 403: Failed to authorize") as raised:
        async with testing.connect(server, query={"token": SECRET}):
            pass
    assert isinstance(raised.value.__cause__, SocketProtocolError)
    assert raised.value.__cause__.http_status == 403
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    await server.close()


async def test_a_connector_of_somebody_else(make_client: Any) -> None:
    class Failing:
        async def connect(self, request: Any, handler: Any) -> None:
            raise LookupError(f"nobody at {request.uri}")

    client = make_client(1, connector=Failing(), auto_reconnect=False, query=f"token={SECRET}")
    event = await client.listener("error").once(4000)
    assert str(event.error).startswith("Socket hung up: ")
    assert "nobody at ws://127.0.0.1:1/socketcluster/?…" in str(event.error)
    assert isinstance(event.error.__cause__, LookupError)


@pytest.mark.parametrize("shakes_hands", [False, True])
@pytest.mark.parametrize(
    ("how", "reason"),
    [("abort", "Connection reset by peer"), ("close", "ended the connection without a close")],
)
async def test_a_connection_that_is_lost(
    make_client: Any, how: str, reason: str, shakes_hands: bool
) -> None:
    async def handle(peer: Peer) -> None:
        if shakes_hands:
            await peer.handshake()
            await peer.call("go")
        transport = peer.ws.transport
        if how == "abort":
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        transport.abort()

    async with fake_server(handle) as port:
        client = make_client(port, auto_reconnect=False, auto_connect=False)
        found = record(client)
        closed = client.listener("close").create_consumer()
        client.transmit("go")
        await closed.next(4000)
    events = dict(found)
    assert events["error"].error.code == 1006
    assert str(events["error"].error).startswith("Socket hung up: ")
    assert reason in str(events["error"].error)
    event = events["disconnect" if shakes_hands else "connectAbort"]
    assert event.reason == events["error"].error.reason == str(events["error"].error)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://localhost:8000/socketcluster/", "ws://localhost:8000/socketcluster/"),
        (f"ws://localhost/a/?token={SECRET}", "ws://localhost/a/"),
        (f"wss://user:{SECRET}@[::1]:80/a#{SECRET}", "wss://[::1]:80/a"),
        (f"ws://user:{SECRET}@x@host/", "ws://host/"),
        (f"ws://user:{SECRET}/x@host/", "ws://…"),
        (f"ws://user:{SECRET}?x@host/", "ws://…"),
        (f"user:{SECRET}@host", "host"),
        (f"/a?token={SECRET}", "/a"),
        (f"host name:{SECRET}", "…"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"ws://user:{SECRET}@host:99999/?token={SECRET}",
        f"ws://user:{SECRET}/x@host/",
        f"ftp://user:{SECRET}@host/?token={SECRET}",
        f"ws://[::1/?token={SECRET}",
        f"user:{SECRET}@host",
    ],
)
def test_a_bad_url(url: str) -> None:
    with pytest.raises(InvalidOptionsError) as raised:
        url_options(url)
    assert raised.value.option == "url"
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "options",
    [
        {"host": f"user:{SECRET}@host:80"},
        {"hostname": f"user:{SECRET}@host"},
        {"path": f"/socketcluster/?token={SECRET}"},
        {"query": SECRET.encode()},
        {"ws_options": {"headers": {"Authorization": f"{SECRET}\n"}}},
        {"ws_options": {"headers": [("Authorization", SECRET)]}},
        {"ws_options": {"proxy": f"user:{SECRET}@host"}},
        {"ws_options": [SECRET]},
    ],
)
def test_a_wrong_option(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError) as raised:
        ClientOptions.of(**options)
    assert SECRET not in str(raised.value)


async def test_a_client_that_never_connected_tells_nothing(make_client: Any) -> None:
    client: AGClientSocket = make_client(1, auto_connect=False, query={"token": SECRET})
    assert SECRET not in repr(client)
