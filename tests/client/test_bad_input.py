"""Servers that are absent, speak another protocol, or attack the client."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from client.fakes import Peer, Stream, fake_server, tcp_server, upgraded
from socketcluster import AGClientSocket
from socketcluster.errors import (
    BadConnectionError,
    InvalidMessageError,
    SocketClusterError,
    SocketProtocolError,
)
from support import names, record, soon, until

AGAIN = {"initial_delay": 1, "randomness": 1, "multiplier": 1}


def unused_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def failing(
    make_client: Any, port: int, attempts: int = 3, **options: Any
) -> tuple[AGClientSocket, list[SocketClusterError]]:
    """A client whose first attempts have failed, and the errors it emitted."""
    client = make_client(port, auto_connect=False, auto_reconnect_options=AGAIN, **options)
    found = record(client)
    client.connect()
    await until(lambda: names(found).count("connectAbort") >= attempts)
    client.disconnect()
    assert client.state == AGClientSocket.CLOSED
    assert not client.pending_reconnect
    assert "connect" not in names(found)
    return client, [event.error for name, event in found if name == "error"]


def check_hung_up(errors: list[SocketClusterError], text: str, cause: type[BaseException]) -> None:
    assert len(errors) >= 3
    for error in errors:
        assert isinstance(error, SocketProtocolError)
        assert error.code == 1006
        assert text in str(error)
        assert isinstance(error.__cause__, cause)


async def test_refused(make_client: Any) -> None:
    _, errors = await failing(make_client, unused_port())
    check_hung_up(errors, "refused", ConnectionRefusedError)


async def test_unknown_host(make_client: Any) -> None:
    _, errors = await failing(make_client, 80, hostname="no-such-host.invalid")
    check_hung_up(errors, "no-such-host.invalid", socket.gaierror)


async def test_a_unix_socket_that_is_not_there(make_client: Any, tmp_path: Any) -> None:
    _, errors = await failing(make_client, 80, socket_path=str(tmp_path / "none"))
    check_hung_up(errors, "No such file", FileNotFoundError)


async def test_a_wrong_path(make_client: Any, make_server: Any) -> None:
    server = await make_server()
    _, errors = await failing(make_client, server.source_port, path="/elsewhere/")
    check_hung_up(errors, "403", Exception)


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def answer_200(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    await writer.drain()


async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")
    await writer.drain()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 4 + b"\r\n\r\n")
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 4096)
        await writer.drain()


async def wrong_key(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: bm9uc2Vuc2U=\r\n\r\n"
    )
    await reader.read()


async def extension(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    class Changed:
        def write(self, data: bytes) -> None:
            writer.write(data[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")

    await upgraded(reader, Changed())  # type: ignore[arg-type]
    await reader.read()


@pytest.mark.parametrize(
    "handle", [refuse, answer_200, redirect, garbage, endless, wrong_key, extension]
)
async def test_something_else(make_client: Any, handle: Stream) -> None:
    async with tcp_server(handle) as port:
        _, errors = await failing(make_client, port)
    assert len(errors) >= 3
    for error in errors:
        assert isinstance(error, SocketProtocolError)
        assert error.code == 1006
        assert str(error).startswith("Socket hung up: ws://127.0.0.1:")


async def test_a_server_that_resets(make_client: Any) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with tcp_server(reset) as port:
        _, errors = await failing(make_client, port)
    assert {error.code for error in errors if isinstance(error, SocketProtocolError)} == {1006}


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_silence_times_out_and_leaves_nothing_open(make_client: Any) -> None:
    begun = ended = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun, ended
        begun += 1
        while await reader.read(1000):
            pass
        ended += 1

    async with tcp_server(counting) as port:
        client, errors = await failing(make_client, port, connect_timeout=30)
        await until(lambda: 0 < begun == ended)
        await soon(client.wait_closed())
    assert len(errors) >= 3
    assert {error.code for error in errors if isinstance(error, SocketProtocolError)} == {4007}


async def test_giving_up_while_the_server_is_silent_closes(make_client: Any) -> None:
    ended = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        client.disconnect()
        await reader.read()
        ended.set()

    async with tcp_server(waiting) as port:
        client = make_client(port)
        await soon(ended.wait())
        await soon(client.wait_closed())


async def test_silence_after_the_upgrade(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.receive()

    async with fake_server(handle) as port:
        _, errors = await failing(make_client, port, connect_timeout=2000, ack_timeout=30)
    kinds = [type(error).__name__ for error in errors]
    assert kinds[:2] == ["TimeoutError", "SocketProtocolError"]
    assert {error.code for error in errors if isinstance(error, SocketProtocolError)} == {4003}


async def test_no_pings_during_the_handshake(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.receive()

    async with fake_server(handle) as port:
        _, errors = await failing(make_client, port, connect_timeout=300, ack_timeout=5000)
    assert {error.code for error in errors if isinstance(error, SocketProtocolError)} == {4000}


async def test_a_refused_handshake_tells_why(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        packet = await peer.receive()
        error = {"name": "OddError", "message": "Not you", "statusCode": 4501}
        await peer.send({"rid": packet["cid"], "error": error})

    async with fake_server(handle) as port:
        client = make_client(port)
        found = record(client)
        event = await client.listener("connectAbort").once(4000)
        assert event.code == 4501
        await until(lambda: names(found).count("error") == 2)
        assert not client.pending_reconnect
        assert found[-2][1].error.name == "OddError"


STATUSES: list[Any] = [
    None,
    [],
    "x",
    {},
    {"id": {"a": 1}, "pingTimeout": "soon", "isAuthenticated": "yes", "authError": 5},
    {"id": None, "pingTimeout": -1, "isAuthenticated": None, "authError": []},
    {"id": 5, "pingTimeout": 1e99, "isAuthenticated": 1, "authError": "text"},
    {"pingTimeout": True, "isAuthenticated": True},
]


@pytest.mark.parametrize("status", STATUSES, ids=repr)
async def test_a_strange_answer_to_the_handshake(make_client: Any, status: Any) -> None:
    async def handle(peer: Peer) -> None:
        packet = await peer.receive()
        await peer.send({"rid": packet["cid"], "data": status})
        packet = await peer.call("ask")
        await peer.send({"rid": packet["cid"], "data": "answered"})

    async with fake_server(handle) as port:
        client = make_client(port, ack_timeout=2000)
        assert await client.invoke("ask") == "answered"
        assert client.id is None or isinstance(client.id, str)
        assert client.ping_timeout == 20000
        client.disconnect()
        await client.wait_closed()


WRONG: list[Any] = [None, True, 0, -1, 1.5, "", "x", [], [1], {}, {"a": 1}, [[]], {"channel": {}}]


def hostile_packets() -> list[Any]:
    """Every event of the protocol with data of every type; and packets with wrong fields."""
    packets: list[Any] = [*WRONG, [], [[]], [None, 5, "x", {}]]
    for value in WRONG:
        for event in ("#publish", "#kickOut", "#setAuthToken", "#removeAuthToken", "#handshake"):
            packets.append({"event": event, "data": value})
            packets.append({"event": event, "data": value, "cid": value})
            packets.append(
                {"event": event, "data": {"channel": "c", "data": value, "token": value}}
            )
        packets += [
            {"rid": value},
            {"rid": value, "error": value},
            {"rid": 99, "error": value, "data": value},
            {"event": value, "data": value, "cid": value},
            {"event": "x", "cid": value},
            {"event": "x", "cid": 1, "rid": value},
        ]
    packets += [{"event": "x" * 100_000, "cid": 7}, {"event": "__init__"}, {"event": "#" * 50}]
    return packets


async def test_hostile_packets(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.call("#subscribe")
        for packet in hostile_packets():
            await peer.send(packet if not isinstance(packet, str) else json.dumps(packet))
        await peer.send(hostile_packets())
        packet = await peer.call("ask")
        await peer.send({"rid": packet["cid"], "data": "answered"})

    async with fake_server(handle) as port:
        client = make_client(port, ack_timeout=4000)
        client.subscribe("c").create_consumer()
        consumers = [client.listener("raw").create_consumer()]
        assert await client.invoke("ask") == "answered"
        assert client.state == AGClientSocket.OPEN
        assert consumers[0].get_backpressure() > 0


MALFORMED: list[Any] = [
    "{",
    '{"event":"#publish","data":{"channel":"c","data":[1,}}',
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"event":"x","data":1e999}',
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: repr(message[:20]))
async def test_malformed_messages(make_client: Any, caplog: Any, message: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send(message)
        packet = await peer.call("ask")
        await peer.send({"rid": packet["cid"], "data": "answered"})

    async with fake_server(handle) as port:
        client = make_client(port, ack_timeout=4000)
        with caplog.at_level(logging.DEBUG, "socketcluster"):
            errors = client.listener("error").create_consumer()
            assert await client.invoke("ask") == "answered"
        error = (await errors.next(4000)).value
        assert error is not None
        assert isinstance(error.error, InvalidMessageError)
        assert "Traceback" not in caplog.text


async def test_an_oversized_message_ends_the_connection(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.send("x" * 5000)

    async with fake_server(handle) as port:
        client = make_client(port, max_payload=4000, auto_reconnect_options=AGAIN)
        found = record(client)
        await until(lambda: names(found).count("disconnect") >= 2)
        disconnects = [event for name, event in found if name == "disconnect"]
        assert {event.code for event in disconnects} == {1009}
        errors = [event.error for name, event in found if name == "error"]
        assert {error.code for error in errors} == {1009}


FRAMES = {
    "reserved bits": (b"\xf1\x00", 1002),
    "an unknown opcode": (b"\x83\x00", 1002),
    "a continuation of nothing": (b"\x80\x00", 1002),
    "invalid UTF-8": (b"\x81\x01\xff", 1007),
    "a masked frame": (b"\x81\x81\x00\x00\x00\x00x", 1002),
    "a long ping": (b"\x89\x7e\x00\x80" + bytes(128), 1002),
    "a huge length": (b"\x81\x7f\x7f" + b"\xff" * 7, 1009),
    "a wrong close code": (b"\x88\x02\x00\x01", 1002),
    "a close frame of one byte": (b"\x88\x01\x00", 1002),
    "no close code": (b"\x88\x00", 1005),
}


@pytest.mark.parametrize("frame", FRAMES)
async def test_frames_that_break_the_protocol(make_client: Any, frame: str) -> None:
    data, code = FRAMES[frame]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgraded(reader, writer)
        writer.write(data)
        await reader.read()

    async with tcp_server(handle) as port:
        client = make_client(port, auto_reconnect=False)
        event = await client.listener("connectAbort").once(4000)
        assert event.code == code
        await soon(client.wait_closed())


async def test_data_and_end_right_after_the_upgrade(make_client: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgraded(reader, writer)
        writer.write(b"\x81\x02{}\x88\x02\x0f\xa0")

    async with tcp_server(handle) as port:
        client = make_client(port, auto_reconnect=False)
        event = await client.listener("connectAbort").once(4000)
        assert event.code == 4000


@pytest.mark.parametrize("data", ["1e999", "1" * 5000, "[" * 200 + "]" * 200])
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("event", ["x", "#setAuthToken", "#removeAuthToken"])
async def test_an_unreadable_call_in_a_batch_is_answered(
    make_client: Any, event: str, size: int, data: str
) -> None:
    """Guarantee 10: a call whose data has no value fails alone, and its caller gets an error."""
    answers: list[Any] = []

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        unreadable = f'{{"event":"{event}","data":[{data},"{"x" * size}"],"cid":8}}'
        call = '{"event":"#removeAuthToken","cid":%d}'
        await peer.send(f"[{call % 7},{unreadable},{call % 9}]")
        answers.extend([await peer.receive() for _ in range(3)])

    async with fake_server(handle) as port:
        make_client(port)
        await until(lambda: len(answers) == 3)
        assert [answer["rid"] for answer in answers] == [7, 8, 9]
        assert [answer["error"]["name"] for answer in answers if "error" in answer] == [
            InvalidMessageError.__name__
        ]


async def test_a_call_whose_answer_the_client_cannot_send(make_client: Any) -> None:
    """A server that keeps calling, and does not read the answers."""
    stopped = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.handshake()
        peer.ws.transport.pause_reading()
        for number in range(2000):
            await peer.send({"event": "x" * 200, "cid": number})
        stopped.set()
        await peer.ws.close()

    async with fake_server(handle) as port:
        client = make_client(port, max_outbound_buffer=2000, auto_reconnect=False)
        found = record(client)
        await soon(client.listener("close").once())
        errors = {type(event.error).__name__ for name, event in found if name == "error"}
        assert errors <= {"ResourceLimitError", "SocketProtocolError"}
        assert "ResourceLimitError" in errors


async def test_a_log_line_is_one_line(make_client: Any, caplog: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        await peer.ws.close(4100, "two\nlines")

    async with fake_server(handle) as port:
        client = make_client(port, auto_reconnect=False)
        await client.listener("close").once(4000)
        await asyncio.sleep(0)
    (entry,) = [entry for entry in caplog.records if entry.name == "socketcluster.client"]
    assert "\n" not in entry.getMessage()


@asynccontextmanager
async def refusing() -> AsyncIterator[int]:
    async with tcp_server(refuse) as port:
        yield port


async def test_entering_a_client_that_cannot_connect(make_client: Any) -> None:
    async with refusing() as port:
        client = make_client(port, auto_connect=False)
        with pytest.raises(BadConnectionError) as raised:
            async with client:
                raise AssertionError
        assert raised.value.code == 1006
        assert isinstance(raised.value.__cause__, SocketProtocolError)
        assert not client.pending_reconnect


async def test_answers_to_calls_not_sent_yet(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        packet = await peer.call("#handshake")
        for rid in range(1, 10):
            if rid != packet["cid"]:
                await peer.send({"rid": rid, "data": "made up"})
        await peer.send({"rid": packet["cid"], "data": {"id": "fake", "pingTimeout": 20000}})
        assert (await peer.receive()) == {"event": "note", "data": 1}
        call = await peer.receive()
        await peer.send({"rid": call["cid"], "data": "true"})

    async with fake_server(handle) as port:
        client = make_client(port)
        found = record(client)
        client.transmit("note", 1)
        assert await soon(client.invoke("ask")) == "true"
        assert names(found) == ["connect"]
