"""Guarantee 4: what all clients together make the server hold is bounded."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from socketcluster import AGServerSocket
from socketcluster.brokers.simple import SimpleBroker
from support import Running, connected, soon, until

EVERYWHERE = pytest.mark.parametrize("make_server", ["picows", "asgi", "memory"], indirect=True)
LIMIT = 1_000_000
TICKS = {"ping_interval": 80}
"""A tick every 10 ms."""


async def fill(server: Any, client: Any, socket: AGServerSocket, size: int) -> Any:
    """A loop over the socket's 'n' that leaves so many bytes."""
    consumer = socket.receiver("n").create_consumer()
    for _ in range(size // 10_000):
        await client.transmit("n", "x" * 10_000)
    await until(lambda: consumer.get_backpressure() == size // 10_000)
    assert size < socket.get_inbound_buffer_size() < size * 1.01
    return consumer


@EVERYWHERE
async def test_the_largest_inbound_backlogs_are_not_read_on(
    make_server: Any, running: Running, caplog: Any
) -> None:
    """Guarantee 4: past `max_buffered` the largest backlogs are paused, until they drain."""
    server = await make_server(max_buffered=LIMIT, **TICKS)
    async with connected(server) as large, connected(server) as small:
        first, second = server.clients.values()
        slow = await fill(server, large, first, 900_000)
        other = await fill(server, small, second, 90_000)
        assert not first.inbound.flow_control.paused
        await large.transmit("n", "x" * 90_000)
        await until(lambda: first.inbound.flow_control.paused)
        assert not second.inbound.flow_control.paused
        assert any(
            "max_buffered" in record.message and record.levelno == logging.WARNING
            for record in caplog.records
        )
        for _ in range(30):
            await soon(slow.next())
        for _ in range(300):
            await asyncio.sleep(0)
        assert first.inbound.flow_control.paused
        while slow.get_backpressure():
            await soon(slow.next())
        await until(lambda: not first.inbound.flow_control.paused)
        await large.transmit("n", "more")
        assert (await soon(slow.next())).value == "more"
        assert first.state == second.state == "open"
        other.return_()
        assert second.get_inbound_buffer_size() == 0


async def test_the_largest_outbound_buffers_are_closed(make_server: Any, running: Running) -> None:
    """Guarantee 4: then the clients that read least are closed, and the others go on."""
    server = await make_server(max_buffered=LIMIT, max_outbound_buffer=100 * LIMIT, **TICKS)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as slowest, connected(server) as slow, connected(server) as quick:
        first, second, third = server.clients.values()
        for client in (slowest, slow):
            client.ws.transport.pause_reading()
        while second.get_outbound_buffer_size() < 300_000:
            second.transmit("n", "x" * 50_000)
            await asyncio.sleep(0)
        while first.get_outbound_buffer_size() < LIMIT:
            first.transmit("n", "x" * 50_000)
            await asyncio.sleep(0)
        third.transmit("n", "hello")
        await until(lambda: first.state == "closed")
        await until(lambda: len(closures) == 1)
        assert closures[0].socket is first
        assert closures[0].code == 1008
        assert "max_buffered" in closures[0].reason
        assert (await quick.event())["data"] == "hello"
        assert second.state == third.state == "open"
        for client in (slowest, slow):
            client.ws.transport.resume_reading()


async def test_inbound_goes_first_and_small_outbound_buffers_are_left_alone(
    make_server: Any, running: Running
) -> None:
    server = await make_server(max_buffered=100_000, **TICKS)
    async with connected(server) as sender, connected(server) as reader:
        first, second = server.clients.values()
        second.start_batch()
        second.transmit("n", "x" * 30_000)
        slow = await fill(server, sender, first, 50_000)
        await sender.transmit("n", "x" * 50_000)
        await until(lambda: first.inbound.flow_control.paused)
        for _ in range(5):
            now = server.ticker.time
            await until(lambda now=now: server.ticker.time > now)  # type: ignore[misc]
        assert first.state == second.state == "open"
        slow.return_()
        await until(lambda: not first.inbound.flow_control.paused)
        second.flush_batch()
        assert (await reader.event())["data"] == "x" * 30_000


@EVERYWHERE
async def test_publishes_that_the_broker_has_not_answered_count(make_server: Any) -> None:
    """Guarantee 4: what waits for the broker is held as well."""
    answered = asyncio.Event()

    class SlowBroker(SimpleBroker):
        async def publish(self, channel: str, payload: bytes) -> None:  # type: ignore[override]
            await answered.wait()

    server = await make_server(broker_engine=SlowBroker(), max_buffered=LIMIT, **TICKS)
    async with connected(server) as large, connected(server) as small:
        first, second = server.clients.values()
        for client, count in ((large, 10), (small, 1)):
            for _ in range(count):
                await client.transmit("#publish", {"channel": "a", "data": "x" * 100_000})
        await until(lambda: first.inbound.flow_control.paused)
        assert not second.inbound.flow_control.paused
        assert first.get_inbound_buffer_size() == 0
        answered.set()
        await until(lambda: not first.inbound.flow_control.paused)
        assert first.state == second.state == "open"


@pytest.mark.parametrize("make_server", ["picows"], indirect=True)
@pytest.mark.parametrize("fragmented", [False, True])
async def test_the_largest_unfinished_messages_are_closed(
    make_server: Any, running: Running, fragmented: bool
) -> None:
    """Guarantee 4: messages whose end never comes are held as well."""
    server = await make_server(max_buffered=LIMIT, max_payload=2 * LIMIT, **TICKS)
    closures = running.collect(server.listener("closure"))
    async with connected(server) as large, connected(server) as small, connected(server) as other:
        first, second, third = server.clients.values()
        for count, size in enumerate([500_000, 60_000, 60_000, 100, 100_000, 100], 2):
            await other.transmit("n", "x" * size)
            await until(lambda count=count: third.inbound.received == count)  # type: ignore[misc]
            await soon(await other.ws.ping())
            assert third.connection.get_incomplete_size() == 0
        for client, size in ((small, 300_000), (large, LIMIT - 100_000)):
            client.answers_pings = False  # It would be in the middle of the message.
            data = b"x" * size
            if fragmented:
                head = b"\x01\xff" + size.to_bytes(8, "big")
            else:
                head = b"\x81\xff" + (size + 1).to_bytes(8, "big")
            transport: Any = client.ws.transport
            transport.write(head + bytes(4) + data)
        await until(lambda: len(closures) == 1)
        assert closures[0].socket is first
        assert closures[0].code == 1008
        assert 250_000 < second.connection.get_incomplete_size() < 350_000
        if not fragmented:
            transport = small.ws.transport
            transport.write(b"x")
            await until(lambda: second.connection.get_incomplete_size() == 0)
        assert second.state == third.state == "open"
