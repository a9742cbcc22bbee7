"""Streams, consumers, demuxes and emitters."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import timedelta
from typing import Any

import pytest

from socketcluster import AsyncStreamEmitter, StreamDemux, WritableConsumableStream
from socketcluster.errors import TimeoutError
from socketcluster.streams import ConsumerStats, StreamItem
from support import soon


class Value:
    """Something that can be watched for being freed."""


async def test_every_consumer_sees_what_is_written_after_it_was_made() -> None:
    stream = WritableConsumableStream[Any]()
    first = stream.create_consumer()
    assert stream.write(1)
    second = stream.create_consumer()
    stream.write(2)
    assert [await first.__anext__(), await first.__anext__()] == [1, 2]
    assert await second.__anext__() == 2
    assert (first.get_backpressure(), second.get_backpressure()) == (0, 0)


def test_a_write_without_consumers_is_lost_and_says_so() -> None:
    stream = WritableConsumableStream[Any]()
    assert not stream.write(1)
    assert stream.get_backpressure() == 0


def test_streams_work_without_a_loop() -> None:
    demux = StreamDemux[int]()
    consumer = demux.create_consumer("a")
    demux.write("a", 1)

    async def take() -> int:
        return await consumer.__anext__()

    assert asyncio.run(take()) == 1


async def test_backpressure_is_the_count_not_taken() -> None:
    stream = WritableConsumableStream[Any]()
    slow, quick = stream.create_consumer(), stream.create_consumer()
    for n in range(5):
        stream.write(n)
    await quick.next()
    assert stream.get_backpressure() == 5
    assert stream.get_consumer_backpressure(quick.id) == 4
    assert stream.get_consumer_stats(quick.id) == ConsumerStats(quick.id, 4)
    assert [s.backpressure for s in stream.get_consumer_stats_list()] == [5, 4]
    assert stream.get_consumer_count() == 2
    slow.return_()
    assert stream.get_backpressure() == 4
    assert stream.get_consumer_stats(slow.id) is None


async def test_close_drains_and_kill_drops() -> None:
    stream = WritableConsumableStream[Any]()
    consumer = stream.create_consumer()
    stream.write(1)
    stream.close("end")
    assert await consumer.next() == StreamItem(1, False)
    assert await consumer.next() == StreamItem("end", True)
    assert not stream.has_consumer(consumer.id)
    other = stream.create_consumer()
    stream.write(2)
    stream.kill("dead")
    assert stream.get_consumer_count() == 0
    assert await other.next() == StreamItem("dead", True)


async def test_a_killed_consumer_is_gone_before_it_notices() -> None:
    stream = WritableConsumableStream[Any]()
    consumer = stream.create_consumer()
    stream.write(1)
    stream.kill("why")
    assert not consumer.is_alive
    assert consumer.get_backpressure() == consumer.get_stats().backpressure == 0
    assert stream.get_consumer_count() == 0
    item = await soon(consumer.next())
    assert (item.value, item.done) == ("why", True)
    # It goes on with what comes after.
    waiting = asyncio.create_task(consumer.next())
    await asyncio.sleep(0)
    assert consumer.is_alive
    stream.write(2)
    assert (await soon(waiting)).value == 2


async def test_one_consumer_can_be_written_closed_and_killed() -> None:
    stream = WritableConsumableStream[Any]()
    one, two = stream.create_consumer(), stream.create_consumer()
    stream.write_to_consumer(one.id, 1)
    stream.close_consumer(one.id)
    stream.write(2)
    stream.kill_consumer(two.id, "x")
    assert [item async for item in one] == [1]
    assert (await two.next()).value == "x"
    for method in (stream.close_consumer, stream.kill_consumer):
        method(99)
    stream.write_to_consumer(99, 5)
    assert stream.get_consumer_backpressure(99) == 0


async def test_a_waiting_consumer_is_woken() -> None:
    stream = WritableConsumableStream[Any]()
    waiting = asyncio.create_task(stream.once())
    await asyncio.sleep(0)
    stream.write(7)
    assert await soon(waiting) == 7
    assert stream.get_consumer_count() == 0


@pytest.mark.parametrize("timeout", [5, 5.5, timedelta(milliseconds=5)])
async def test_timeouts(timeout: Any) -> None:
    stream = WritableConsumableStream[Any]()
    for wait in (stream.next, stream.once):
        with pytest.raises(TimeoutError):
            await soon(wait(timeout))
    consumer = stream.create_consumer(timeout)
    assert stream.get_consumer_stats_list()[0].timeout in (5, 5.5)
    with pytest.raises(TimeoutError):
        async for _ in consumer:
            pass
    assert consumer.is_alive


async def test_once_on_a_stream_that_ends_waits_for_its_timeout() -> None:
    stream = WritableConsumableStream[Any]()
    with_timeout = asyncio.create_task(stream.once(20))
    without = asyncio.create_task(stream.once())
    await asyncio.sleep(0)
    stream.close()
    with pytest.raises(TimeoutError):
        await soon(with_timeout)
    assert not without.done()
    without.cancel()
    await asyncio.wait({without})
    assert without.cancelled()


async def test_a_consumer_that_is_dropped_leaves_at_once_and_frees_its_values() -> None:
    stream = WritableConsumableStream[Value]()
    held = []
    for _ in range(3):
        consumer = stream.create_consumer()
        value = Value()
        held.append(weakref.ref(value))
        stream.write(value)
        del value
        del consumer
        assert stream.get_consumer_count() == 0
    assert all(ref() is None for ref in held)


async def test_killed_and_finished_consumers_hold_no_values() -> None:
    stream = WritableConsumableStream[Value]()
    killed, finished = stream.create_consumer(), stream.create_consumer()
    value = Value()
    held = weakref.ref(value)
    stream.write(value)
    del value
    stream.kill_consumer(killed.id)
    await finished.next()
    stream.close()
    await finished.next()
    gc.collect()
    assert held() is None


async def test_a_consumer_that_returned_can_come_back() -> None:
    stream = WritableConsumableStream[Any]()
    consumer = stream.create_consumer()
    stream.write(0)
    consumer.return_()
    assert stream.get_consumer_count() == 0
    assert not consumer.is_alive
    again = asyncio.create_task(consumer.next())
    await asyncio.sleep(0)
    stream.write(1)
    assert (await soon(again)).value == 1


async def test_two_tasks_may_not_share_a_wait() -> None:
    consumer = WritableConsumableStream[int]().create_consumer()
    waiting = asyncio.create_task(consumer.next())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Two tasks"):
        await consumer.next()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_tracked_values_are_done_when_all_came_back() -> None:
    stream = WritableConsumableStream[Any]()
    done: list[int] = []
    stream.write_tracked(0, lambda: done.append(0))
    assert done == [0]
    one, two, three = (stream.create_consumer() for _ in range(3))
    stream.write_tracked(1, lambda: done.append(1))
    assert await one.__anext__() == 1
    assert await two.__anext__() == 1
    asking = asyncio.create_task(one.next())
    await asyncio.sleep(0)
    two.return_()
    assert done == [0]
    stream.kill_consumer(three.id)
    assert done == [0, 1]
    asking.cancel()
    await asyncio.wait({asking})


async def test_demux_keeps_streams_apart() -> None:
    demux = StreamDemux[int]()
    a, b = demux.create_consumer("a"), demux.stream("b").create_consumer()
    assert demux.write("a", 1)
    assert not demux.write("c", 1)
    demux.write("b", 2)
    demux.write("b", 3)
    assert a.id != b.id
    assert (demux.get_backpressure("a"), demux.get_backpressure("b")) == (1, 2)
    assert demux.get_backpressure_all() == 2
    assert demux.get_consumer_stats(b.id) == ConsumerStats(b.id, 2, "b")
    assert len(demux.get_consumer_stats_list_all()) == demux.get_consumer_count_all() == 2
    assert demux.get_consumer_stats_list("c") == []
    assert demux.has_consumer("a", a.id)
    assert not demux.has_consumer("b", a.id)
    assert demux.has_consumer_all(a.id)
    demux.write_to_consumer(a.id, 4)
    assert demux.get_consumer_backpressure(a.id) == 2
    demux.close_consumer(a.id)
    assert [n async for n in a] == [1, 4]
    demux.kill_consumer(b.id)
    assert (await b.next()).done
    assert demux.get_consumer_count_all() == 0


async def test_demux_close_all_and_kill_all() -> None:
    demux = StreamDemux[int]()
    a, b = demux.create_consumer("a"), demux.create_consumer("b")
    demux.write("a", 1)
    demux.close_all()
    assert [n async for n in a] == [1]
    demux.kill_all()
    assert (await b.next()).done


def test_names_take_memory_only_while_they_are_consumed() -> None:
    demux = StreamDemux[int]()
    for name in ("__proto__", "constructor", "x" * 10_000):
        demux.write(name, 1)
        demux.stream(name)
        consumer = demux.create_consumer(name)
        assert name in demux._streams
        consumer.return_()
    assert demux._streams == {}


async def test_emitter() -> None:
    emitter = AsyncStreamEmitter()
    emitter.emit("a", 0)
    stream = emitter.listener("a")
    consumer = stream.create_consumer()
    emitter.emit("a", 1)
    emitter.emit("b", 1)
    assert emitter.get_listener_backpressure("a") == emitter.get_all_listeners_backpressure() == 1
    assert emitter.get_listener_consumer_count("a") == 1
    assert emitter.get_all_listeners_consumer_count() == 1
    assert emitter.has_listener_consumer("a", consumer.id)
    assert emitter.has_any_listener_consumer(consumer.id)
    stats = ConsumerStats(consumer.id, 1, "a")
    assert emitter.get_listener_consumer_stats(consumer.id) == stats
    assert emitter.get_listener_consumer_stats_list("a") == [stats]
    assert emitter.get_all_listeners_consumer_stats_list() == [stats]
    assert emitter.get_listener_consumer_backpressure(consumer.id) == 1
    emitter.close_listener("a")
    assert [n async for n in consumer] == [1]
    killed = stream.create_consumer()
    emitter.emit("a", 2)
    emitter.kill_listener_consumer(killed.id)
    assert (await killed.next()).done
    other = stream.create_consumer()
    emitter.close_all_listeners()
    assert (await other.next()).done
    last = stream.create_consumer()
    emitter.kill_all_listeners()
    assert (await last.next()).done
    gone = stream.create_consumer()
    emitter.remove_listener("a")
    emitter.emit("a", 3)
    assert gone.get_backpressure() == 0


def test_streams_show_what_they_are() -> None:
    stream = WritableConsumableStream[int]("numbers")
    consumer = stream.create_consumer()
    stream.write(1)
    stream.write(2)
    assert repr(stream) == "<WritableConsumableStream 'numbers' consumers=1 backpressure=2>"
    assert repr(WritableConsumableStream()) == (
        "<WritableConsumableStream consumers=0 backpressure=0>"
    )
    assert repr(consumer) == f"<Consumer {consumer.id} backpressure=2>"
    consumer.return_()
    assert repr(consumer) == f"<Consumer {consumer.id} removed backpressure=0>"
    demux = StreamDemux[int]()
    one, other = demux.stream("a").create_consumer(), demux.stream("b").create_consumer()
    assert repr(demux) == "<StreamDemux streams=2 consumers=2>"
    assert repr(demux.stream("a")) == "<DemuxedConsumableStream 'a' consumers=1>"
    other.return_()
    one.return_()
    emitter = AsyncStreamEmitter()
    assert repr(emitter) == "<AsyncStreamEmitter listeners=0>"
    listening = emitter.listener("event").create_consumer()
    assert repr(emitter) == "<AsyncStreamEmitter listeners=1>"
    assert repr(emitter.listener("event")) == "<listener of 'event' consumers=1>"
    listening.return_()
