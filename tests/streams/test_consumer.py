"""Guarantees 2 and 3 for one consumer, over all families of streams: while somebody holds it, it
misses nothing, whatever was cancelled or timed out in between; when nobody does, it is gone."""

from __future__ import annotations

import asyncio
import builtins
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from socketcluster import AGServer, AsyncStreamEmitter, StreamDemux, WritableConsumableStream
from socketcluster import testing as memory
from socketcluster.errors import TimeoutError
from socketcluster.middleware import MiddlewareStream
from support import soon, until


@dataclass
class Family:
    """A stream, how a number is sent to it, how many consumers it has, and the number in what it
    yields."""

    stream: Any
    send: Callable[[int], Any]
    count: Callable[[], int]
    number: Callable[[Any], int] = lambda value: int(value)


def _plain(name: str) -> Family:
    if name == "stream":
        stream = WritableConsumableStream[int]()
        return Family(stream, stream.write, stream.get_consumer_count)
    if name == "demux":
        demux = StreamDemux[int]()
        return Family(
            demux.stream("x"), lambda n: demux.write("x", n), demux.get_consumer_count_all
        )
    emitter = AsyncStreamEmitter()
    return Family(
        emitter.listener("x"),
        lambda n: emitter.emit("x", n),
        emitter.get_all_listeners_consumer_count,
    )


def _of_exchange(name: str, exchange: Any) -> Family:
    if "channel listener" not in name:
        return Family(
            exchange.subscribe("c", int if "typed" in name else Any),
            lambda n: exchange.transmit_publish("c", n),
            lambda: len(exchange.channel("c").get_output_consumer_stats_list()),
        )
    channel = exchange.channel("d")
    return Family(
        channel.listener("x"),
        lambda n: exchange._channel_listeners.write("d/x", n),
        lambda: len(channel.get_listener_consumer_stats_list("x")),
    )


def _of_peers(kind: str, to: Any, sender: Any) -> Family:
    """A stream of `to` that is filled by `sender`."""
    if kind == "listener":
        return Family(
            to.listener("x"),
            lambda n: to.emit("x", n),
            lambda: to.get_listener_consumer_count("x"),
        )
    data_type = int if kind.startswith("typed") else Any
    if kind.endswith("receiver"):
        return Family(
            to.receiver("x", data_type),
            lambda n: sender.transmit("x", n),
            lambda: len(to.get_receiver_consumer_stats_list("x")),
        )
    assert kind.endswith("procedure")
    calls: set[asyncio.Task[Any]] = set()

    def answered(request: Any) -> int:
        request.end()
        return int(request.data)

    return Family(
        to.procedure("x", data_type),
        lambda n: calls.add(asyncio.ensure_future(sender.invoke("x", n))),
        lambda: len(to.get_procedure_consumer_stats_list("x")),
        answered,
    )


PLAIN = ["stream", "demux", "emitter"]
OF_EXCHANGE = ["exchange channel", "exchange typed channel", "exchange channel listener"]
KINDS = ["listener", "receiver", "procedure", "typed receiver", "typed procedure"]
OF_SOCKETS = [f"{side} {kind}" for side in ("server", "client") for kind in KINDS]
CLIENT_CHANNELS = ["client channel", "client typed channel"]
FAMILIES = [*PLAIN, *OF_EXCHANGE, *OF_SOCKETS, *CLIENT_CHANNELS]


@asynccontextmanager
async def a_family(name: str) -> AsyncIterator[Family]:
    if name in PLAIN:
        yield _plain(name)
        return
    server = AGServer()
    async with memory.connect(server) as client:
        (socket,) = server.clients.values()
        if name in OF_EXCHANGE:
            yield _of_exchange(name, server.exchange)
        elif name in CLIENT_CHANNELS:
            channel = client.subscribe("c", int if "typed" in name else Any)
            await until(lambda: bool(channel.state == "subscribed"))
            yield Family(
                channel,
                lambda n: server.exchange.transmit_publish("c", n),
                lambda: len(channel.get_output_consumer_stats_list()),
            )
        else:
            side, kind = name.split(maxsplit=1)
            ends = (client, socket) if side == "client" else (socket, client)
            yield _of_peers(kind, *ends)
    await server.close()


@pytest.fixture(params=FAMILIES)
async def family(request: Any) -> AsyncIterator[Family]:
    async with memory.clock(auto=True), a_family(request.param) as found:
        yield found


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What goes, goes because nobody holds it."""
    gc.disable()
    yield
    gc.enable()


async def _cancelled(waiting: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def _times_out(consumer: Any) -> None:
    with pytest.raises(TimeoutError):
        await consumer.next(5)


async def _wait_for_next(consumer: Any) -> None:
    with pytest.raises(builtins.TimeoutError):
        await asyncio.wait_for(consumer.next(), 0.005)


async def _wait_for_anext(consumer: Any) -> None:
    with pytest.raises(builtins.TimeoutError):
        await asyncio.wait_for(anext(consumer), 0.005)


async def _cancels_next(consumer: Any) -> None:
    await _cancelled(consumer.next())


async def _cancels_anext(consumer: Any) -> None:
    await _cancelled(consumer.__anext__())


async def _cancels_a_loop(consumer: Any) -> None:
    async def loop() -> None:
        async for _ in consumer:
            raise AssertionError("There is nothing to take")

    await _cancelled(loop())


GIVE_UP = [
    _times_out, _wait_for_next, _wait_for_anext, _cancels_next, _cancels_anext, _cancels_a_loop
]  # fmt: skip


@pytest.mark.parametrize("give_up", GIVE_UP)
async def test_a_held_consumer_misses_nothing_after_it_gave_up(
    family: Family, give_up: Callable[[Any], Awaitable[None]]
) -> None:
    """Guarantee 2."""
    consumer = family.stream.create_consumer()
    for n in range(1, 4):
        await give_up(consumer)
        assert consumer.is_alive
        assert family.count() == 1
        family.send(n)
        await until(lambda: bool(consumer.get_backpressure() == 1))
        assert family.number((await soon(consumer.next())).value) == n
    await give_up(consumer)
    for n in range(10, 13):
        family.send(n)
    await until(lambda: bool(consumer.get_backpressure() == 3))
    taken = [await soon(anext(consumer)) for _ in range(3)]
    assert [family.number(value) for value in taken] == [10, 11, 12]
    consumer.return_()
    assert family.count() == 0


@pytest.mark.parametrize("within", ["next", "wait_for", "own"])
async def test_a_tight_loop_of_waits_sees_all(family: Family, within: str) -> None:
    """Guarantee 2."""
    consumer = family.stream.create_consumer(3 if within == "own" else None)
    taken: list[int] = []

    async def send() -> None:
        for n in range(100):
            await asyncio.sleep(0.005)
            family.send(n)

    sending = asyncio.create_task(send())
    while len(taken) < 100:
        try:
            if within == "wait_for":
                item = await asyncio.wait_for(consumer.next(), 0.004)
            else:
                item = await consumer.next(4 if within == "next" else None)
        except (TimeoutError, builtins.TimeoutError):
            continue
        taken.append(family.number(item.value))
    await sending
    assert taken == list(range(100))


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("timeout", [None, 5])
async def test_a_loop_that_is_cancelled_or_times_out_leaves_at_once(
    family: Family, timeout: float | None
) -> None:
    """Guarantee 3."""
    inside: list[int] = []

    async def loop() -> None:
        try:
            if timeout is None:
                async for _ in family.stream:
                    pass
            else:
                async for _ in family.stream.create_consumer(timeout):
                    pass
        except BaseException:
            inside.append(family.count())
            raise

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    assert family.count() == 1
    if timeout is None:
        task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() == (timeout is None)  # And its traceback is still held.
    assert (inside, family.count()) == ([0], 0)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("give_up", GIVE_UP)
async def test_a_consumer_that_gave_up_goes_with_its_last_holder(
    family: Family, give_up: Callable[[Any], Awaitable[None]]
) -> None:
    """Guarantee 3."""
    consumer = family.stream.create_consumer()
    await give_up(consumer)
    assert family.count() == 1
    del consumer
    await asyncio.sleep(0)  # Since Python 3.12 a task holds an exception until its next step.
    assert family.count() == 0


@pytest.mark.usefixtures("no_collector")
async def test_next_and_once_of_a_stream_are_for_one_value(family: Family) -> None:
    for wait in (family.stream.next, family.stream.once):
        with pytest.raises(TimeoutError):
            await wait(5)
        assert family.count() == 0
        await _cancelled(wait())
        assert family.count() == 0


async def test_once_of_middleware_loses_no_action() -> None:
    """Guarantee 2."""
    stream = MiddlewareStream("inbound")
    actions: list[Any] = [object() for _ in range(3)]
    for action in actions:
        await _cancelled(stream.once())
        stream.write(action)
        assert await stream.once() is action
        await _cancelled(stream.__anext__())
