"""Connections made, lost and made again; the outbox; TLS, Unix sockets, proxies."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client.fakes import Peer, fake_server, tcp_server
from client.parts import connection_of, gauge_of, outbox_of
from socketcluster import AGClientSocket, AGServer, MemoryTokenStore
from socketcluster.errors import (
    BadConnectionError,
    InvalidArgumentsError,
    InvalidOptionsError,
    ResourceLimitError,
    SocketProtocolError,
    TimeoutError,
)
from support import Running, names, record, soon, until, until_full

AGAIN = {"initial_delay": 1, "randomness": 1, "multiplier": 1}


# async with, states


async def test_a_block_connects_and_disconnects(make_server: Any) -> None:
    server = await make_server()
    client = AGClientSocket(hostname="127.0.0.1", port=server.source_port, auto_connect=False)
    found = record(client)
    async with client as entered:
        assert entered is client
        assert (client.state, client.get_state()) == ("open", "open")
        assert client.id in server.clients
    assert client.state == "closed"
    assert names(found) == ["connecting", "connect", "disconnect", "close"]
    await until(lambda: server.clients_count == 0)


async def test_a_block_can_be_entered_while_it_connects_and_again(make_server: Any) -> None:
    server = await make_server()
    client = AGClientSocket(hostname="127.0.0.1", port=server.source_port)
    for _ in range(2):
        async with client:
            assert client.state == "open"
            async with client:  # Which is connected already.
                assert client.state == "open"


async def test_an_exception_in_a_block_disconnects(make_server: Any) -> None:
    server = await make_server()
    client = AGClientSocket(hostname="127.0.0.1", port=server.source_port)
    with pytest.raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    assert client.state == "closed"


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_is_lost_at_once_fails_the_entry(
    make_client: Any, turns: int
) -> None:
    async def leave(peer: Peer) -> None:
        await peer.handshake()

    async with fake_server(leave) as port:
        client = make_client(port, auto_connect=False)
        emit = client.emit

        def leave_after(turns: int) -> None:
            if turns:
                asyncio.get_running_loop().call_soon(leave_after, turns - 1)
            else:
                client.disconnect(4700, "enough")

        def emit_and_leave(name: str, event: Any = None) -> None:
            emit(name, event)
            if name == "connect":
                asyncio.get_running_loop().call_soon(leave_after, turns)

        client.emit = emit_and_leave
        entering = asyncio.ensure_future(client.__aenter__())
        await soon(asyncio.wait([entering]))
        assert isinstance(entering.exception(), BadConnectionError | None)
        await until(lambda: client.state == "closed")


async def test_cancelling_the_entry_gives_up(make_client: Any) -> None:
    async def silent(peer: Peer) -> None:
        await peer.receive()

    async with fake_server(silent) as port:
        client = make_client(port)
        entering = asyncio.create_task(client.__aenter__())
        await until(lambda: connection_of(client).writer is not None)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert client.state == "closed"
        assert not client.pending_reconnect


async def test_the_ids(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    client = make_client(server, client_id="me", version="1.2")
    assert (client.client_id, client.version, client.id) == ("me", "1.2", None)
    event = await client.listener("connect").once(4000)
    first = client.id
    assert event.id == first in server.clients
    client.reconnect()
    await client.listener("connect").once(4000)
    assert client.id not in (None, first)
    assert client.client_id == "me"
    other = make_client(server)
    assert other.client_id


@pytest.mark.parametrize("code", [None, "1000", 999, 5000, 1000.5, True])
async def test_disconnect_takes_a_close_code(make_client: Any, code: Any) -> None:
    client = make_client(1, auto_connect=False)
    with pytest.raises(InvalidArgumentsError, match="code"):
        client.disconnect(code)


async def test_disconnect_of_a_closed_one_does_nothing(make_client: Any) -> None:
    client = make_client(1, auto_connect=False)
    found = record(client)
    client.disconnect()
    await client.wait_closed()
    assert found == []


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1015, 4000])
async def test_any_code_closes_properly(make_server: Any, make_client: Any, code: int) -> None:
    server = await make_server()
    client = make_client(server, auto_reconnect=False)
    await client.listener("connect").once(4000)
    closed = server.listener("disconnection").create_consumer()
    client.disconnect(code, "x" * 500)
    event = (await closed.next(4000)).value
    assert event.code == (code if code in (1001, 4000) else 1005)
    await soon(client.wait_closed())


async def test_a_lost_connection_is_made_again(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    client = make_client(server, auto_reconnect_options=AGAIN)
    await client.listener("connect").once(4000)
    found = record(client)
    for socket in list(server.clients.values()):
        socket.terminate()
    await until(lambda: "connect" in names(found))
    assert names(found) == ["disconnect", "close", "error", "connecting", "connect"]
    assert found[0][1].code == 1006
    assert client.connect_attempts == 0
    assert client.pending_reconnect_timeout is None


async def test_without_auto_reconnect_it_stays_closed(make_server: Any, make_client: Any) -> None:
    server = await make_server()
    client = make_client(server, auto_reconnect=False)
    await client.listener("connect").once(4000)
    for socket in list(server.clients.values()):
        socket.terminate()
    await client.listener("close").once(4000)
    assert not client.pending_reconnect
    assert client.state == "closed"


async def test_attempts_are_counted(make_client: Any) -> None:
    async def refuse(reader: Any, writer: Any) -> None:
        pass

    async with tcp_server(refuse) as port:
        client = make_client(port, auto_reconnect_options={**AGAIN, "max_delay": 50})
        await until(lambda: client.connect_attempts >= 3)
        await until(lambda: client.pending_reconnect)
        assert client.pending_reconnect_timeout in (1, 2)
        client.disconnect()
        assert not client.pending_reconnect


@pytest.mark.parametrize(("version", "ping", "pong"), [(2, "", ""), (1, "#1", "#2")])
async def test_a_ping_is_answered_once_the_handshake_is_done(
    make_client: Any, version: int, ping: str, pong: str
) -> None:
    received: asyncio.Queue[Any] = asyncio.Queue()

    async def handle(peer: Peer) -> None:
        handshake = json.loads(await peer.ws.recv())
        for _ in range(3):  # Servers of npm take an answer for a message before the handshake.
            await peer.ws.send(ping)
        await peer.send({"event": "early"})
        received.put_nowait(handshake["event"])
        await peer.send({"rid": handshake["cid"], "data": {"id": "x", "pingTimeout": 20000}})
        async for message in peer.ws:
            received.put_nowait(message)

    async with fake_server(handle) as port:
        client = make_client(port, protocol_version=version)
        await soon(client.listener("connect").once())
        client.transmit("after")
        assert await soon(received.get()) == "#handshake"
        assert [await soon(received.get()) for _ in range(2)] == [pong, '{"event":"after"}']


# What waits for a connection


async def test_packets_sent_while_closed_arrive_in_order(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    order: list[Any] = []

    async def note(socket: Any) -> None:
        async for data in socket.receiver("note"):
            order.append(data)

    async def call(socket: Any) -> None:
        async for request in socket.procedure("call"):
            order.append(request.data)
            request.end(request.data)

    running.on_connection(server, note)
    running.on_connection(server, call)
    client = make_client(server, auto_connect=False)
    changing: list[Any] = [0]
    client.transmit("note", changing)
    changing.append("changed")
    calls = [asyncio.create_task(client.invoke("call", 1))]
    await asyncio.sleep(0)
    client.transmit("note", 2)
    calls.append(asyncio.create_task(client.invoke("call", 3)))
    assert await asyncio.gather(*calls) == [1, 3]
    # One receiver and one procedure have loops of their own; each sees its own in order.
    assert [data for data in order if data in ([0], 2)] == [[0], 2]
    assert [data for data in order if data in (1, 3)] == [1, 3]


async def test_order_on_the_wire_through_a_reconnection(make_client: Any) -> None:
    connections = 0
    arrived: list[Any] = []
    done = asyncio.Event()

    async def handle(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.handshake()
        if connections == 1:
            await peer.call("first")
            peer.ws.transport.abort()
            return
        while True:
            packet = await peer.receive()
            arrived.append((packet["event"], packet.get("data")))
            if packet["event"] == "last":
                done.set()

    async with fake_server(handle) as port:
        client = make_client(port, auto_reconnect_options={**AGAIN, "initial_delay": 30})
        client.subscribe("low", priority=1)
        client.subscribe("high", priority=5)
        client.transmit("first")
        await client.listener("close").once(4000)
        assert client.pending_reconnect
        # These connect at once.
        for number in range(3):
            client.transmit("note", number)
        calling = asyncio.create_task(client.invoke("call", 3))
        await asyncio.sleep(0)
        client.transmit("last")
        await soon(done.wait())
        assert arrived == [
            ("#subscribe", {"channel": "high"}),
            ("#subscribe", {"channel": "low"}),
            ("note", 0),
            ("note", 1),
            ("note", 2),
            ("call", 3),
            ("last", None),
        ]
        calling.cancel()


async def test_packets_that_wait_too_long_are_given_up(make_client: Any) -> None:
    async def silent(peer: Peer) -> None:
        await peer.ws.wait_closed()

    async with fake_server(silent) as port:
        client = make_client(port, ack_timeout=50, auto_connect=False)
        errors = client.listener("error").create_consumer()
        client.transmit("note", 1)
        with pytest.raises(TimeoutError):
            await client.invoke("call")
        error = (await errors.next(4000)).value.error
        assert isinstance(error, TimeoutError)
        assert "note" in str(error)
        assert len(outbox_of(client)) == 0


async def test_the_outbox_is_dropped_when_connecting_is_given_up(make_client: Any) -> None:
    async def refuse(reader: Any, writer: Any) -> None:
        pass

    async with tcp_server(refuse) as port:
        client = make_client(port, auto_reconnect=False, auto_connect=False)
        errors = client.listener("error").create_consumer()
        client.transmit("note", 1)
        with pytest.raises(BadConnectionError) as raised:
            await client.invoke("call")
        assert (raised.value.type, raised.value.code) == ("connectAbort", 1006)
        error = (await errors.next(4000)).value.error
        assert isinstance(error, BadConnectionError)
        assert "note" in str(error)
        assert len(outbox_of(client)) == 0


async def test_the_outbox_survives_failed_attempts(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = AGServer(drain_timeout=0)
    await server.listen(0)
    port = server.source_port
    assert port is not None
    await server.close()
    client = make_client(port, auto_reconnect_options=AGAIN, auto_connect=False)
    calling = asyncio.create_task(client.invoke("echo", 5))
    await until(lambda: client.connect_attempts >= 3)
    assert not calling.done()
    server = AGServer(drain_timeout=100)
    running.procedure(server, "echo")
    await server.listen(port)
    try:
        assert await soon(calling) == 5
    finally:
        client.disconnect()
        await server.close()


async def test_a_call_that_is_cancelled_is_not_sent(make_client: Any) -> None:
    arrived: list[Any] = []
    done = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        while (packet := await peer.receive())["event"] != "last":
            arrived.append(packet["event"])
        done.set()

    async with fake_server(handle) as port:
        client = make_client(port)
        calling = asyncio.create_task(client.invoke("call"))
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.sleep(0)
        client.transmit("last")
        await soon(done.wait())
        assert arrived == []


async def test_the_outbox_is_bounded(make_client: Any) -> None:
    client = make_client(1, auto_connect=False, max_outbound_buffer=1000, auto_reconnect=False)
    client.transmit("note", "x" * 900)
    with pytest.raises(ResourceLimitError, match="max_outbound_buffer"):
        client.transmit("note", "x" * 200)
    with pytest.raises(ResourceLimitError):
        await client.invoke("call", "x" * 200)
    client.disconnect()
    client.transmit("note", "x" * 900)


async def test_a_full_outbox_is_sent_whole(make_client: Any) -> None:
    """Frames are larger than their packets: the limit is not applied twice."""
    arrived = 0
    done = asyncio.Event()

    async def handle(peer: Peer) -> None:
        nonlocal arrived
        await peer.handshake()
        while True:
            assert (await peer.receive())["event"] == "n"
            arrived += 1
            if arrived == sent:
                done.set()

    async with fake_server(handle) as port:
        client = make_client(port, max_outbound_buffer=2000)
        sent = until_full(lambda: client.transmit("n"))
        await soon(done.wait())
        assert client.state == "open"


# Options given to connect()


async def test_connect_with_other_limits(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()

    async with fake_server(handle) as port:
        client = make_client(port, max_inbound_backlog=5, batch_interval=1000)
        client.start_batching()
        await client.listener("connect").once(4000)
        client.connect(max_inbound_backlog=7, batch_interval=2000)
        await client.listener("connect").once(4000)
        assert gauge_of(client).limit == 7
        assert client.batching.interval == 2000


async def test_connect_goes_elsewhere(make_server: Any, make_client: Any) -> None:
    one, two = await make_server(), await make_server()
    client = make_client(one)
    await client.listener("connect").once(4000)
    store = MemoryTokenStore()
    client.connect(port=two.source_port, auth_engine=store)
    await client.listener("connect").once(4000)
    assert client.id in two.clients
    assert client.auth.store is store
    with pytest.raises(InvalidOptionsError, match="port"):
        client.connect(port=0)
    assert client.state == "open"


# Ways to connect


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, private


@pytest.fixture
async def secure(tmp_path: Path, running: Running) -> Any:
    """(server, certificate) of a server that speaks TLS as "localhost"."""
    cert, key = certificate(tmp_path, "localhost")
    server = AGServer(drain_timeout=100)
    running.procedure(server, "echo")
    await server.listen(0, ssl_certfile=str(cert), ssl_keyfile=str(key))
    yield server, cert
    await server.close()


async def test_tls(secure: Any, make_client: Any) -> None:
    server, cert = secure
    context = ssl.create_default_context(cafile=str(cert))
    options = {"hostname": "localhost", "secure": True, "ws_options": {"ssl": context}}
    client = make_client(server, **options)
    assert client.uri() == f"wss://localhost:{server.source_port}/socketcluster/"
    assert await client.invoke("echo", "x" * 300_000) == "x" * 300_000


@pytest.mark.parametrize("trust", [False, True])
async def test_a_certificate_that_does_not_verify(
    secure: Any, make_client: Any, trust: bool
) -> None:
    server, cert = secure
    # Of an unknown issuer; or of another host.
    options: dict[str, Any] = {"ws_options": {}}
    if trust:
        options["ws_options"] = {"ssl": ssl.create_default_context(cafile=str(cert))}
    client = make_client(
        server, secure=True, auto_reconnect_options=AGAIN, auto_connect=False, **options
    )
    found = record(client)
    client.connect()
    await until(lambda: names(found).count("connectAbort") >= 2)
    error = next(event.error for name, event in found if name == "error")
    assert isinstance(error, SocketProtocolError)
    assert "certificate does not verify" in str(error)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    client.disconnect()


async def test_tls_with_a_server_that_does_not(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server(), secure=True, auto_connect=False)
    with pytest.raises(BadConnectionError) as raised:
        async with client:
            raise AssertionError
    assert isinstance(raised.value.__cause__, SocketProtocolError)


async def test_a_unix_socket(running: Running, make_client: Any, tmp_path: Path) -> None:
    server = AGServer(drain_timeout=100)
    running.procedure(server, "echo")
    path = str(tmp_path / "socket")
    await server.listen(uds=path)
    try:
        client = make_client(80, socket_path=path)
        assert await client.invoke("echo", 1) == 1
        client.disconnect()
    finally:
        await server.close()


async def test_headers_query_and_path(make_server: Any, make_client: Any) -> None:
    server = await make_server(path="/sc/")
    headers = {"X-Mine": "yes", "Cookie": "a=b"}
    client = make_client(
        server, path="/sc/", query={"a": "1", "b": ["x", "y"]}, ws_options={"headers": headers}
    )
    await client.listener("connect").once(4000)
    request = server.clients[client.id].request
    assert request.headers["x-mine"] == "yes"
    assert request.headers["cookie"] == "a=b"
    assert request.url == "/sc/?a=1&b=x&b=y"


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy that tunnels."""
    line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
    method, target, _ = line.split()
    assert method == "CONNECT"
    host, port = target.rsplit(":", 1)
    there, back = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()

    try:
        await asyncio.gather(copy(reader, back), copy(there, writer))
    finally:
        back.close()


async def test_a_proxy(make_server: Any, make_client: Any, running: Running) -> None:
    server = await make_server()
    running.procedure(server, "echo")
    async with tcp_server(proxy) as port:
        client = make_client(server, ws_options={"proxy": f"http://127.0.0.1:{port}"})
        assert await client.invoke("echo", 1) == 1
        client.disconnect()
        await soon(client.wait_closed())


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
async def test_a_proxy_that_refuses(make_client: Any, scheme: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        await writer.drain()

    async with tcp_server(refuse) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        client = make_client(1, auto_connect=False, ws_options={"proxy": url})
        with pytest.raises(BadConnectionError) as raised:
            async with client:
                raise AssertionError
        assert isinstance(raised.value.__cause__, SocketProtocolError)
        assert raised.value.__cause__.code == 1006
