"""Guarantee 4: a loop over a channel of the exchange that is too far behind is ended, and alone."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from socketcluster import AGServer, errors, testing
from socketcluster.errors import BackpressureError
from socketcluster.streams import SMALL
from support import soon

Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    servers: list[AGServer] = []

    async def make(**options: Any) -> AGServer:
        servers.append(AGServer(**options))
        await servers[0].start()
        return servers[0]

    yield make
    for server in servers:
        await server.close()


def made_by_subscribe(server: AGServer) -> Any:
    return server.exchange.subscribe("c").create_consumer()


def made_of_a_view(server: AGServer) -> Any:
    consumer = server.exchange.channel("c").create_consumer()
    server.exchange.subscribe("c")
    return consumer


@pytest.mark.parametrize("consume", [made_by_subscribe, made_of_a_view])
@pytest.mark.parametrize(
    ("options", "data", "name", "limit"),
    [
        ({"max_channel_backlog": 5}, 1, "max_channel_backlog", 5),
        ({"max_channel_backlog_bytes": 6000}, "x" * 998, "max_channel_backlog_bytes", 6000),
    ],
)
async def test_it_is_ended_and_the_others_go_on(
    make: Make, caplog: Any, consume: Any, options: Any, data: Any, name: str, limit: int
) -> None:
    server = await make(**options)
    slow, quick = consume(server), consume(server)
    heard = server.listener("error").create_consumer()
    for number in range(20):
        server.exchange.transmit_publish("c", data)
        assert (await soon(quick.next())).value == data
        assert slow.get_backpressure() == (number + 1 if slow.is_alive else 0)
    assert not slow.is_alive
    assert len(server.exchange.channel("c").get_output_consumer_stats_list()) == 1
    with pytest.raises(BackpressureError, match=f"{name} is {limit}") as raised:
        await soon(anext(slow))
    error = raised.value
    size = len(server.wire.payloads.encode(data))
    many = 6 if name == "max_channel_backlog" else limit // size + 1
    assert (error.channel, error.limit) == ("c", limit)
    assert error.values == many
    assert error.bytes == (many * size if size > SMALL else size)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "'c'" in caplog.text
    assert name in caplog.text
    assert (await soon(heard.next())).value.error is error
    # Who comes back sees what is published from then on.
    again = asyncio.ensure_future(slow.next())
    await asyncio.sleep(0)
    server.exchange.transmit_publish("c", 7)
    assert (await soon(again)).value == 7


async def test_a_loop_that_is_at_work_raises_when_it_comes_back(make: Make) -> None:
    server = await make(max_channel_backlog=5)
    gate = asyncio.Event()
    channel = server.exchange.subscribe("c")

    async def loop() -> None:
        async for _ in channel:
            await gate.wait()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    for number in range(10):
        server.exchange.transmit_publish("c", number)
        await asyncio.sleep(0)
    assert channel.get_output_consumer_stats_list() == []
    gate.set()
    with pytest.raises(BackpressureError):
        await soon(task)


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"max_channel_backlog": 5}, 5), ({"max_channel_backlog_bytes": 30}, 10)],
)
async def test_on_a_droppable_channel_the_oldest_are_dropped(
    make: Make, options: Any, kept: int, caplog: Any
) -> None:
    server = await make(droppable_channels=["c"], **options)
    slow = made_by_subscribe(server)
    for number in range(100, 130):
        server.exchange.transmit_publish("c", number)
    assert slow.get_backpressure() == kept
    assert [(await soon(slow.next())).value for _ in range(kept)] == list(range(130 - kept, 130))
    server.exchange.transmit_publish("c", 7)
    assert (await soon(slow.next())).value == 7
    server.exchange.transmit_publish("c", "larger than the limit" * 10)
    assert slow.get_backpressure() == 1
    server.exchange.channel("c").close_output()
    for number in range(100, 130):
        server.exchange.transmit_publish("c", number)
    assert slow.get_backpressure() <= kept + 1
    assert (await soon(slow.next())).done
    assert caplog.records == []


async def test_a_loop_that_keeps_up_is_never_ended(make: Make) -> None:
    server = await make(max_channel_backlog=5, max_channel_backlog_bytes=1000)
    consumer = made_by_subscribe(server)
    for round in range(50):
        for number in range(5):
            server.exchange.transmit_publish("c", [round, number])
        for number in range(5):
            assert (await soon(consumer.next())).value == [round, number]


async def test_a_loop_that_keeps_up_receives_a_value_above_the_limit(make: Make) -> None:
    server = await make(max_channel_backlog_bytes=1000)
    consumer = made_by_subscribe(server)
    waiting = asyncio.ensure_future(consumer.next())
    await asyncio.sleep(0)
    for _ in range(3):
        server.exchange.transmit_publish("c", "x" * 2000)
        assert (await soon(waiting)).value == "x" * 2000
        waiting = asyncio.ensure_future(consumer.next())
    waiting.cancel()
    for _ in range(2):
        assert consumer.is_alive
        server.exchange.transmit_publish("c", "x" * 2000)
    assert not consumer.is_alive
    with pytest.raises(BackpressureError, match="was 2 values"):
        await soon(anext(consumer))


async def test_what_waits_takes_what_was_published_and_no_more(make: Make) -> None:
    server = await make()
    consumers = [made_by_subscribe(server) for _ in range(3)]
    data: list[Any] = [[] for _ in range(50_000)]
    payload = server.wire.payloads.encode(data)
    tracemalloc.start()
    try:
        for _ in range(20):
            server.exchange.broker.publish("c", bytes(bytearray(payload)))
        (await soon(consumers[0].next())).value.clear()
        assert tracemalloc.get_traced_memory()[0] < 21 * len(payload)
    finally:
        tracemalloc.stop()
    assert (await soon(consumers[1].next())).value == data


async def test_small_values_are_decoded_once_for_a_loop_that_keeps_up(
    make: Make, monkeypatch: Any
) -> None:
    server = await make()
    decoded: list[bytes] = []
    decode = server.wire.payloads.decode

    def decode_payload(payload: bytes) -> Any:
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr(type(server.wire.payloads), "decode", lambda _, p: decode_payload(p))
    consumer = made_by_subscribe(server)
    for data in (1, "x" * 1000):
        server.exchange.transmit_publish("c", data)
        assert (await soon(consumer.next())).value == data
    assert len(decoded) == 2
    for number in range(100):
        server.exchange.transmit_publish("c", number)
    assert [(await soon(consumer.next())).value for _ in range(100)] == list(range(100))


async def test_a_loop_of_the_client_is_not_ended(make: Make) -> None:
    """It stops reading instead."""
    server = await make(max_channel_backlog=5)
    async with testing.connect(server, max_inbound_backlog=5) as client:
        slow = client.subscribe("c").create_consumer()
        await soon(client.channel("c").listener("subscribe").once())
        for number in range(100):
            server.exchange.transmit_publish("c", number)
        assert [(await soon(slow.next())).value for _ in range(100)] == list(range(100))


def test_the_error_has_its_fields() -> None:
    assert issubclass(BackpressureError, errors.UsageError)
    error = BackpressureError("m", "c", 3, 4, 2)
    assert (error.channel, error.values, error.bytes, error.limit) == ("c", 3, 4, 2)
