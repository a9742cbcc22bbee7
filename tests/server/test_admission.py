"""Which connections a server takes, and how many handshakes in one turn of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from socketcluster import AGServer, Limits, Rate
from socketcluster.engines import request_limits, uvicorn_http, uvicorn_limits
from socketcluster.engines.base import Seat, UpgradeRefusedError, UpgradeRequest
from socketcluster.engines.proxies import TrustedProxies
from socketcluster.errors import InvalidOptionsError
from socketcluster.server import admission
from socketcluster.server.admission import AddressLimits, network_of
from support import connected, self_signed, soon, until
from transports import Refused, dial

STORM = 150
REQUEST = (
    b"GET /socketcluster/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OVER_NETWORK = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)


class Counting:
    """An auth engine that counts the handshakes of each turn; it knows no token."""

    def __init__(self) -> None:
        self.turn = 0
        self.opened: list[int] = []
        self.verified: list[int] = []
        self._marked = False

    def count(self, what: list[int]) -> None:
        what.append(self.turn)
        if not self._marked:
            self._marked = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.turn += 1
        self._marked = False

    async def verify_token(self, token: str, key: Any, options: Any) -> Any:
        self.count(self.verified)
        raise ValueError("unknown")

    async def sign_token(self, token: Any, key: Any, options: Any) -> str:
        raise NotImplementedError


class CountedServer(AGServer):
    """Counts the sockets made in each turn."""

    counting: Counting

    def generate_id(self) -> str:
        self.counting.count(self.counting.opened)
        return super().generate_id()


def most(turns: list[int]) -> int:
    return max(Counter(turns).values())


class Crowd:
    """Clients without a loop of their own, so that what they send arrives in one turn."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def connect(self, server: AGServer, count: int = 1, request: bytes = REQUEST) -> None:
        for _ in range(count):
            self.sockets.append(socket.create_connection(("127.0.0.1", server.source_port), 5))
        self.send(request)

    def send(self, data: bytes) -> None:
        for each in self.sockets:
            each.sendall(data)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    for each in crowd.sockets:
        each.close()


def packet(**fields: Any) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(fields).encode()).serialize(mask=True)


HANDSHAKE = packet(event="#handshake", data={"authToken": "of nobody"}, cid=1)


@OVER_NETWORK
async def test_a_storm_is_handled_a_few_handshakes_a_turn(make_server: Any, crowd: Crowd) -> None:
    counting = Counting()
    server = CountedServer(auth_engine=counting, ping_timeout_disabled=True)
    server.counting = counting
    await make_server(server)
    during: list[int] = []
    server.procedure("where")(lambda: during.append(len(counting.opened + counting.verified)))
    caller = Crowd()
    caller.connect(server)
    await until(lambda: server.pending_clients_count == 1)
    caller.send(HANDSHAKE)
    await until(lambda: server.clients_count == 1)

    crowd.connect(server, STORM)
    caller.send(packet(event="where", cid=2))
    await until(lambda: server.pending_clients_count == STORM)
    crowd.send(HANDSHAKE)
    caller.send(packet(event="where", cid=3))
    await until(lambda: server.clients_count == STORM + 1)

    assert most(counting.opened) <= 16
    assert most(counting.verified) <= 16
    assert len(counting.opened) == len(counting.verified) == STORM + 1
    assert during[0] < STORM / 2  # It did not wait for the storm's requests,
    assert during[1] < STORM * 3 / 2  # nor for its handshakes.
    caller.sockets[0].close()


@OVER_NETWORK
async def test_a_handshake_that_waits_for_its_turn_is_not_timed_out(
    make_server: Any, crowd: Crowd
) -> None:
    server = await make_server(ping_timeout_disabled=True)
    pace = server._context.handshake_pace
    crowd.connect(server, 2)
    await until(lambda: server.pending_clients_count == 2)
    pace._left = 0  # As if this turn had no place left, until `_turn` is called.
    crowd.sockets[0].sendall(HANDSHAKE)
    await until(lambda: len(pace._waiting) == 1)
    server.keepalive.tick(server.ticker.now + 1000)
    await until(lambda: server.pending_clients_count == 1)  # The silent one was closed.
    pace._turn()
    await until(lambda: server.clients_count == 1)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "16"])
def test_handshakes_per_turn_is_a_number_above_0(value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="handshakes_per_turn"):
        AGServer(handshakes_per_turn=value)


# max_connections


@pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
async def test_past_max_connections_upgrades_are_refused_with_503(make_server: Any) -> None:
    server = await make_server(max_connections=2)
    async with connected(server), connected(server, handshake=False):
        await until(lambda: (server.clients_count, server.pending_clients_count) == (1, 1))
        with pytest.raises(Refused) as refused:
            await dial(server)
        assert refused.value.status == 503
        assert b"as many connections as it takes" in refused.value.body
        assert server.rate_limits.limited["max_connections"] == 1
    await until(lambda: server.clients_count == 0)
    async with connected(server):
        assert server.rate_limits.limited["max_connections"] == 1


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_a_full_server_makes_nothing_for_an_upgrade(
    make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await make_server(max_connections=1)
    async with connected(server):
        monkeypatch.delattr(uvicorn_http, "Upgrading")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        writer.write(REQUEST)
        head, _, body = (await soon(reader.read())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 10\r\n" in head
        assert body.startswith(b"The server has as many")
        writer.close()


@pytest.mark.parametrize("make_server", ["picows", "memory"], indirect=True)
async def test_upgrades_that_wait_for_middleware_count(make_server: Any) -> None:
    server = await make_server(max_connections=1)
    decide = asyncio.Event()

    async def middleware(actions: Any) -> None:
        async for action in actions:
            await decide.wait()
            action.allow()

    server.set_middleware(server.MIDDLEWARE_HANDSHAKE, middleware)
    first = asyncio.ensure_future(dial(server))
    await until(lambda: server.endpoint._opening == 1)
    with pytest.raises(Refused) as refused:
        await dial(server)
    assert refused.value.status == 503
    decide.set()
    await (await soon(first)).close()


@pytest.mark.parametrize("option", ["max_connections", "max_pending_clients"])
async def test_connections_that_an_asgi_server_still_accepts_count(option: str) -> None:
    server = AGServer(**{option: 1})  # type: ignore[arg-type]
    await server.start()
    sent: list[Any] = []
    accepting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not accepting.is_set():
            return {"type": "websocket.connect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "websocket.accept":
            accepting.set()
            await asyncio.Event().wait()

    scope = {
        "type": "websocket",
        "path": "/socketcluster/",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
        "extensions": {"websocket.http.response": {}},
    }
    first = asyncio.create_task(server(scope, receive, send))
    await soon(accepting.wait())
    accepting.clear()
    await soon(server(scope, receive, send))
    assert [message.get("status") for message in sent[1:2]] == [503]
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    accepting.clear()
    third = asyncio.create_task(server(scope, receive, send))
    await soon(accepting.wait())
    third.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await third
    await server.close()


@OVER_NETWORK
async def test_a_full_server_still_answers_http(make_server: Any) -> None:
    server = await make_server(max_connections=1)
    async with connected(server):
        assert b" 200 " in (await get(server, "/health/live")).partition(b"\r\n")[0]
        assert b" 404 " in (await get(server, "/")).partition(b"\r\n")[0]


async def get(server: AGServer, path: str, connection: str = "close") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n".encode())
    answer: bytes = await soon(reader.read())
    writer.close()
    return answer


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "16"])
def test_max_connections_is_a_number_above_0(value: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="max_connections"):
        AGServer(max_connections=value)


def test_a_server_without_limits_has_no_gate() -> None:
    assert AGServer().endpoint.admission is None
    assert AGServer(limits=Limits(invoke=Rate(1))).endpoint.admission is None
    assert AGServer(max_connections=1).endpoint.admission is not None
    assert AGServer(limits=Limits(connect_per_ip=Rate(1))).endpoint.admission is not None


# Addresses


def seats(server: AGServer) -> dict[str, int]:
    """How many connections of each network have a seat."""
    addresses = server.endpoint._admission.addresses
    assert addresses is not None
    return addresses._open


@pytest.mark.parametrize("make_server", ["asgi", "memory"], indirect=True)
async def test_connections_per_ip(make_server: Any) -> None:
    server = await make_server(limits=Limits(connections_per_ip=2))
    async with connected(server), connected(server, handshake=False):
        with pytest.raises(Refused) as refused:
            await dial(server)
        assert refused.value.status == 429
        assert refused.value.body == b"Too many connections from this address"
        assert server.rate_limits.limited["connections_per_ip"] == 1
    await until(lambda: not seats(server))
    async with connected(server):
        assert seats(server) == {"127.0.0.1": 1}


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_a_peer_past_its_connections_is_dropped_before_its_request(make_server: Any) -> None:
    server = await make_server(limits=Limits(connections_per_ip=2))
    async with connected(server), connected(server, handshake=False):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        with contextlib.suppress(ConnectionResetError):
            assert await soon(reader.read()) == b""
        writer.close()
        assert server.rate_limits.limited["connections_per_ip"] == 1
        assert seats(server) == {"127.0.0.1": 2}
    await until(lambda: not seats(server))
    async with connected(server):
        assert seats(server) == {"127.0.0.1": 1}


def encrypted(folder: Path, **options: Any) -> tuple[AGServer, dict[str, Any], ssl.SSLContext]:
    """A server with limits of addresses, how it listens with TLS, and its clients' context."""
    certfile, keyfile = self_signed(folder)
    server = AGServer(limits=Limits(connections_per_ip=2), drain_timeout=100, **options)
    files = {"ssl_certfile": certfile, "ssl_keyfile": keyfile}
    return server, files, ssl.create_default_context(cafile=certfile)


async def test_a_peer_past_its_connections_is_dropped_before_its_tls_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowd: Crowd
) -> None:
    server, files, context = encrypted(tmp_path)
    await server.listen(0, **files)

    async def shake_hands() -> asyncio.StreamWriter:
        connecting = asyncio.open_connection(
            "127.0.0.1", server.source_port, ssl=context, server_hostname="localhost"
        )
        writer: asyncio.StreamWriter = (await soon(connecting))[1]
        return writer

    writer = await shake_hands()
    crowd.connect(server, request=b"")  # It says nothing.
    await until(lambda: seats(server) == {"127.0.0.1": 2})
    reader, refused = await asyncio.open_connection("127.0.0.1", server.source_port)
    assert await soon(reader.read()) == b""
    refused.close()
    assert server.rate_limits.limited["connections_per_ip"] == 1

    # Every end gives the seat back: of a connection, of one that is no TLS, and of a silent one.
    writer.transport.abort()
    await until(lambda: seats(server) == {"127.0.0.1": 1})
    reader, plain = await asyncio.open_connection("127.0.0.1", server.source_port)
    plain.write(REQUEST)
    assert b"HTTP" not in await soon(reader.read())
    plain.close()
    await until(lambda: seats(server) == {"127.0.0.1": 1})
    crowd.sockets[0].close()
    await until(lambda: not seats(server))
    monkeypatch.setattr(request_limits, "HEAD_SECONDS", 0.05)
    reader, silent = await asyncio.open_connection("127.0.0.1", server.source_port)
    assert await soon(reader.read()) == b""
    silent.close()
    await until(lambda: not seats(server))
    assert server.rate_limits.limited["connections_per_ip"] == 1
    await server.close()


async def test_a_closing_server_gives_the_seats_of_tls_handshakes_back(
    tmp_path: Path, crowd: Crowd
) -> None:
    server, files, _ = encrypted(tmp_path)
    await server.listen(0, **files)
    crowd.connect(server, request=b"")
    await until(lambda: seats(server) == {"127.0.0.1": 1})
    server.endpoint.pace._left = 0
    crowd.connect(server, request=b"\x16\x03\x01")
    await until(lambda: len(server.endpoint.pace._waiting) > 0)
    await server.close()
    assert not seats(server)


async def test_a_refused_peer_keeps_its_seat_until_its_connection_ends(tmp_path: Path) -> None:
    server, files, context = encrypted(tmp_path, origins="example.com:*")
    await server.listen(0, **files)

    def ask() -> tuple[ssl.SSLSocket, bytes]:
        plain = socket.create_connection(("127.0.0.1", server.source_port), 5)
        client = context.wrap_socket(plain, server_hostname="localhost")
        client.sendall(REQUEST)
        return client, client.recv(100)  # The end of TLS, which comes next, is not answered.

    client, answer = await soon(asyncio.to_thread(ask))
    assert b" 403 " in answer
    assert seats(server) == {"127.0.0.1": 1}
    client.close()
    await until(lambda: not seats(server))
    await server.close()


@OVER_NETWORK
async def test_behind_a_proxy_each_client_has_its_limit(make_server: Any) -> None:
    server = await make_server(
        trusted_proxies="127.0.0.1", limits=Limits(connections_per_ip=1, connect_per_ip=Rate(2))
    )

    def of(address: str) -> dict[str, str]:
        return {"X-Forwarded-For": address}

    async with (
        connected(server, additional_headers=of("192.0.2.1")),
        connected(server, additional_headers=of("192.0.2.2")),
        connected(server),  # The proxy names no client.
        connected(server),
    ):
        assert seats(server) == {"192.0.2.1": 1, "192.0.2.2": 1}
        with pytest.raises(Refused) as refused:
            await dial(server, additional_headers=of("192.0.2.1"))
        assert refused.value.status == 429
    await until(lambda: not seats(server))
    async with connected(server, additional_headers=of("192.0.2.1")):
        pass
    await until(lambda: not seats(server))
    with pytest.raises(Refused) as refused:
        await dial(server, additional_headers=of("192.0.2.1"))
    assert refused.value.body == b"Too many new connections from this address"
    assert +Counter(server.rate_limits.limited) == {"connections_per_ip": 1, "connect_per_ip": 1}


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
async def test_the_answer_says_when_to_try_again(make_server: Any) -> None:
    server = await make_server(
        trusted_proxies="127.0.0.1", limits=Limits(connect_per_ip=Rate(1, per=3600))
    )
    request = REQUEST[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
    answers = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        writer.write(request)
        answers.append(await soon(reader.readuntil(b"\r\n\r\n")))
        writer.close()
    assert answers[0].startswith(b"HTTP/1.1 101 ")
    assert answers[1].startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 3600\r\n" in answers[1]


@OVER_NETWORK
@pytest.mark.parametrize("proxies", ["", "127.0.0.1"])
async def test_every_end_gives_the_seat_back(make_server: Any, proxies: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    server = AGServer(
        app=app,
        origins="example.com:*",
        trusted_proxies=proxies,
        limits=Limits(connections_per_ip=100),
    )
    await make_server(server)
    forwarded = b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
    origin = b"Origin: http://example.com\r\n" + forwarded
    ours = REQUEST[:-2]
    requests = {
        "accepted, and the client leaves": ours + origin,
        "a forbidden origin": ours + forwarded,
        "no WebSocket": ours.replace(b"Version: 13", b"Version: 12") + origin,
        "of the application": ours.replace(b"/socketcluster/", b"/other") + origin,
        "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "nothing": b"",
        "half a head": ours[:20],
    }
    for request in requests.values():
        _, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        writer.write(request)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    state = server.lifecycle.listening.listeners[0]._server.server_state  # type: ignore[attr-defined]
    for how in ("at once", "in two pieces"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.source_port)
        if how != "at once":
            writer.write(ours[:20])
            await until(
                lambda: any(isinstance(c, uvicorn_limits.GuardedHttp) for c in state.connections)
            )
            writer.write(ours[20:] + origin)
        else:
            writer.write(ours + origin)
        await soon(reader.readuntil(b"\r\n\r\n"))
        await until(lambda: sum(seats(server).values()) == 1)
        writer.close()
        await until(lambda: not seats(server))


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
@pytest.mark.parametrize("proxies", ["", "unix"])
async def test_unix_sockets(make_server: Any, tmp_path: Path, proxies: str) -> None:
    """A peer without an address has no limit; behind a trusted one each client has."""
    server = AGServer(trusted_proxies=proxies, limits=Limits(connections_per_ip=1))
    await make_server(server)
    path = str(tmp_path / "socket")
    await server.listen(uds=path)
    writers = []
    heads = []
    for _ in range(2):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST[:-2] + b"X-Forwarded-For: 2001:db8::1\r\n\r\n")
        heads.append(await soon(reader.readuntil(b"\r\n\r\n")))
        writers.append(writer)
    assert b" 101 " in heads[0]
    assert (b" 429 " if proxies else b" 101 ") in heads[1]
    for writer in writers:
        writer.close()
    await until(lambda: not seats(server))


class Clocked:
    """Address limits on a clock of their own."""

    def __init__(self, **limits: Any) -> None:
        self.now = 0.0
        self.limited = {"connections_per_ip": 0, "connect_per_ip": 0}
        self.addresses = AddressLimits(
            Limits(**limits),
            TrustedProxies(["10.0.0.0/8"]),
            self.limited,
            clock=lambda: self.now,
        )

    def peer(self, address: str | None) -> Seat | None:
        return self.addresses.seat_peer(address)

    def refused(self, address: str) -> int | None:
        with pytest.raises(UpgradeRefusedError) as refused:
            self.peer(address)
        assert refused.value.status == 429
        return refused.value.retry_after


def test_the_rate_of_new_connections() -> None:
    clocked = Clocked(connect_per_ip=Rate(2, per=10, burst=3))
    for _ in range(3):
        seat = clocked.peer("192.0.2.1")
        assert seat is not None
        seat.release()  # Connections that have ended count all the same.
    assert clocked.refused("192.0.2.1") == 5
    assert clocked.peer("192.0.2.2") is not None
    clocked.now = 4.5
    assert clocked.refused("192.0.2.1") == 1
    clocked.now = 5.0
    assert clocked.peer("192.0.2.1") is not None
    assert clocked.refused("192.0.2.1") == 5
    assert clocked.limited == {"connections_per_ip": 0, "connect_per_ip": 3}


def test_a_connection_that_is_refused_for_their_number_does_not_count_for_the_rate() -> None:
    clocked = Clocked(connections_per_ip=1, connect_per_ip=Rate(2, per=10))
    seat = clocked.peer("192.0.2.1")
    assert seat is not None
    for _ in range(5):
        clocked.refused("192.0.2.1")
    seat.release()
    seat.release()  # A second time has no effect.
    assert clocked.addresses._open == {}
    assert clocked.peer("192.0.2.1") is not None
    assert clocked.limited == {"connections_per_ip": 5, "connect_per_ip": 0}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:0:1::", "2001:db8:0:0:2::", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_networks(first: str, second: str, same: bool) -> None:
    assert (network_of(first) == network_of(second)) is same
    clocked = Clocked(connections_per_ip=1)
    assert clocked.peer(first) is not None
    if same:
        assert clocked.refused(second) == 10
    else:
        assert clocked.peer(second) is not None


def test_proxies_and_unix_sockets_have_no_seat() -> None:
    clocked = Clocked(connections_per_ip=1)
    assert [clocked.peer("10.1.2.3"), clocked.peer("10.1.2.3"), clocked.peer(None)] == [None] * 3


def test_an_address_that_connected_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 3)
    clocked = Clocked(connect_per_ip=Rate(2, per=1000))
    for address in ("a", "b", "c", "a", "d"):
        clocked.peer(address)
    assert set(clocked.addresses._levels) == {"c", "a", "d"}
    clocked.refused("a")
    clocked.peer("b")  # Its rate begins anew.
    clocked.peer("b")
    clocked.refused("b")


def test_a_request_with_a_seat_gets_no_other() -> None:
    server = AGServer(limits=Limits(connections_per_ip=1))
    request = UpgradeRequest({"client": ("192.0.2.1", 1), "headers": []})
    assert server.endpoint.admission is not None
    request.seat = server.endpoint.admission.seat_peer("192.0.2.1")
    server.endpoint._admission.seat_client(request)
    assert seats(server) == {"192.0.2.1": 1}
    request.leave()
    assert seats(server) == {}
