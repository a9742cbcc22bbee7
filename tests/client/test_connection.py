"""Signs of life of a server. Guarantee 9: life is any byte, and a stall of this process is none of
the server's silence."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from client.fakes import Peer, fake_server, tcp_server, upgraded
from socketcluster import AGClientSocket, AGServer, testing
from support import Running, record, soon

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]


def frame(packet: Any) -> bytes:
    payload = json.dumps(packet).encode()
    size = len(payload)
    head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + head + payload


def stand_still(seconds: float) -> None:
    """Block the loop, as a blocking handler or a suspended machine does."""
    time.sleep(seconds)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_silence_is_a_lost_connection_and_any_message_is_life(running: Running) -> None:
    server = AGServer(ping_timeout_disabled=True, ping_timeout=1000)
    async with testing.clock() as clock, testing.connect(server) as client:
        found = record(client)
        (there,) = server.clients.values()
        assert client.ping_timeout == 1000
        for _ in range(5):
            await clock.advance(0.9)
            there.transmit("note")
            await clock.settle()
        await clock.advance(0.9)
        assert client.get_state() == "open"
        await clock.advance(0.4)
        assert client.get_state() == "closed"
        assert dict(found)["disconnect"].code == 4000
        client.disconnect()
    await server.close()


async def test_a_server_that_pings_is_heard(running: Running) -> None:
    server = AGServer(ping_interval=800, ping_timeout=1000)
    async with testing.clock() as clock, testing.connect(server) as client:
        await clock.advance(60)
        assert client.state == "open"
    await server.close()


async def test_a_client_without_a_ping_timeout_waits_for_ever() -> None:
    server = AGServer(ping_timeout_disabled=True, ping_timeout=1000)
    async with (
        testing.clock() as clock,
        testing.connect(server, ping_timeout_disabled=True) as client,
    ):
        await clock.advance(60)
        assert client.state == "open"
    await server.close()


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("sends", [True, False])
def test_a_stall_is_not_silence(new_loop: Any, sends: bool) -> None:
    peers: list[Peer] = []

    async def handle(peer: Peer) -> None:
        peers.append(peer)
        await peer.handshake(pingTimeout=100)

    async def main() -> None:
        async with fake_server(handle) as port:
            client = AGClientSocket(hostname="127.0.0.1", port=port, auto_connect=False)
            async with client:
                found = record(client)
                for _ in range(6 if sends else 2):
                    if sends:  # It is with the kernel when this process stands still.
                        await peers[0].send("")
                    stand_still(0.15)
                    await turns()
                assert client.state == "open"
                assert found == []

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("turns_before", [1, 5, 20])
def test_a_stall_while_it_connects_is_not_silence(new_loop: Any, turns_before: int) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()

    async def main() -> None:
        async with fake_server(handle) as port:
            client = AGClientSocket(hostname="127.0.0.1", port=port, connect_timeout=1000)
            found = record(client)
            await turns(turns_before)
            stand_still(1.2)
            async with client:
                assert client.state == "open"
            assert "connectAbort" not in dict(found)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_an_answer_that_arrived_during_a_stall_counts(new_loop: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake()
        call = await peer.call("ask")
        await peer.send({"rid": call["cid"], "data": "in time"})
        stand_still(0.3)

    async def main() -> None:
        async with fake_server(handle) as port:
            client = AGClientSocket(hostname="127.0.0.1", port=port, auto_connect=False)
            async with client:
                assert await client.invoke("ask", ack_timeout=100) == "in time"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("kind", ["data", "control"])
async def test_bytes_that_keep_coming_are_life(make_client: Any, kind: str) -> None:
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgraded(reader, writer)
        await reader.read(1)  # The handshake of the client is on its way: its cid is 1.
        status = {"id": "slow", "pingTimeout": 200, "isAuthenticated": False}
        writer.write(frame({"rid": 1, "data": status}))
        note = frame({"event": "note", "data": "x" * 100})
        if kind == "data":
            parts = [note[i : i + 1] for i in range(len(note))]
        else:
            parts = [b"\x89\x00"] * 100 + [note]
        for part in parts:  # It takes five times as long as the ping timeout.
            writer.write(part)
            await asyncio.sleep(0.01)
        await done.wait()

    async with tcp_server(handle) as port:
        client = make_client(port, auto_reconnect=False)
        found = record(client)
        notes = client.receiver("note").create_consumer()
        assert (await notes.next(10_000)).value == "x" * 100
        assert client.state == "open"
        assert "disconnect" not in dict(found)
        # When they have stopped, the connection is lost.
        closed = client.listener("disconnect").create_consumer()
        assert (await soon(closed.next())).value.code == 4000
        done.set()
