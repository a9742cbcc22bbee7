"""The store in memory: its bound, and times by a given clock."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from socketcluster import AGServer
from socketcluster.brokers.memory_store import ID_SECONDS, MemoryStore
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.testing import clock

KEEP = Retention(1000, 60)
MEMORY = 64 * 1024


class Times:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def store(times: Times) -> MemoryStore[str]:
    return MemoryStore(MEMORY, times)


def payloads(page: Page) -> list[bytes]:
    return [message.payload for message in page.messages]


@pytest.mark.parametrize("kind", ["histories", "ids", "kept values", "all", "long names"])
def test_the_memory_is_bounded(kind: str, times: Times) -> None:
    """A tenth of 100,000 channels in a tenth of the default, counted by the allocator."""
    memory = 64 * 1024 * 1024 // 10
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        store = MemoryStore[str](memory, times)
        for number in range(10_000):
            name = f"channel {number}" * (50 if kind == "long names" else 1)
            with_id = kind in ("ids", "all")
            for part in range(3):
                id = f"id {number} {part}" if with_id else None
                store.publish(name, b"x" * random.randrange(500), KEEP, id)
            if kind in ("kept values", "all"):
                store.keep({f"key {number}": bytes(1000)}, 60)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert memory * 0.6 < peak <= memory
    assert memory * 0.95 < store.size <= memory


def test_the_least_recently_used_channel_goes_first(store: MemoryStore[str]) -> None:
    """It gets another epoch. Publishing and reading are uses."""
    for name in ("published", "read", "renewed", "unused"):
        store.publish(name, bytes(10), KEEP)
    epochs = {name: store.history(name, KEEP).top.epoch for name in ("read", "unused")}
    pages = {name: store.history(name, KEEP) for name in ("published", "renewed")}
    unused = store.history("unused", KEEP)
    store.publish("published", bytes(10), KEEP)
    store.history("read", KEEP)
    store.renew_epoch("renewed", pages["renewed"].top)
    number = 0
    while "unused" in store._channels:
        number += 1
        store.publish(f"more {number}", bytes(1000), KEEP)
    assert store.history("read", KEEP).top == Position(epochs["read"], 1)
    assert store.history("published", KEEP).top == Position(pages["published"].top.epoch, 2)
    assert store.history("renewed", KEEP) == pages["renewed"]
    again = store.history("unused", KEEP, since=unused.top)
    assert again.messages == []
    assert again.top.offset == 0
    assert again.top.epoch != epochs["unused"]
    assert not again.complete


def test_a_channel_larger_than_the_memory_loses_its_oldest(store: MemoryStore[str]) -> None:
    store.publish("other", b"1", KEEP)
    start = store.history("a", KEEP).top
    for number in range(100):
        assert store.publish("a", b"%d" % number * 1000, KEEP) == (start.epoch, number + 1, number)
        assert store.size <= MEMORY
    page = store.history("a", KEEP, since=start)
    assert not page.complete
    assert page.top == Position(start.epoch, 100)
    count = len(page.messages)
    assert payloads(page) == [b"%d" % number * 1000 for number in range(100 - count, 100)]
    assert sum(map(len, payloads(page))) > MEMORY * 0.8
    store.publish("a", bytes(2 * MEMORY), KEEP)
    assert store.history("a", KEEP) == Page([], Position(start.epoch, 101), True)
    store.publish("a", b"last", KEEP)
    assert payloads(store.history("a", KEEP, since=Position(start.epoch, 101))) == [b"last"]


def test_reading_makes_no_more_channels_than_there_is_room_for(store: MemoryStore[str]) -> None:
    for number in range(10_000):
        store.history(f"a {number}", KEEP, limit=0)
        store.renew_epoch(f"b {number}", Position("e", 1))
        assert store.size <= MEMORY


def test_publishes_expire(store: MemoryStore[str], times: Times) -> None:
    start = store.history("a", KEEP).top
    empty = store.size
    for number in range(3):
        store.publish("a", b"%d" % number, KEEP)
        times.now += 10
    times.now += 29.9
    assert payloads(store.history("a", KEEP, since=start)) == [b"0", b"1", b"2"]
    times.now += 0.1
    page = store.history("a", KEEP, since=start)
    assert payloads(page) == [b"1", b"2"]
    assert not page.complete
    assert store.history("a", KEEP, since=Position(start.epoch, 1)).complete
    times.now += 100
    store.publish("a", b"3", KEEP)
    assert payloads(store.history("a", KEEP)) == [b"3"]
    times.now += 100
    assert store.history("a", KEEP) == Page([], Position(start.epoch, 4), True)
    assert store.size == empty


def test_a_smaller_rule_reads_less_and_drops_nothing(store: MemoryStore[str]) -> None:
    for number in range(5):
        store.publish("a", b"%d" % number, KEEP)
    epoch = store.history("a", KEEP).top.epoch
    page = store.history("a", Retention(2, 60), since=Position(epoch, 2))
    assert payloads(page) == [b"3", b"4"]
    assert not page.complete
    assert len(store.history("a", KEEP).messages) == 5


def test_an_id_counts_for_five_minutes(store: MemoryStore[str], times: Times) -> None:
    assert ID_SECONDS == 300
    assert store.publish("a", b"1", KEEP, "one") is not None
    times.now += ID_SECONDS - 0.1
    assert store.publish("a", b"2", KEEP, "one") is None
    times.now += 0.1
    placed = store.publish("a", b"3", KEEP, "one")
    assert placed is not None
    assert placed[1:] == (2, 1)


def test_the_oldest_ids_and_kept_values_go_first(store: MemoryStore[str]) -> None:
    """They do not take the place of histories: each has a quarter of the memory."""
    first = store.publish("a", b"1", KEEP, "0")
    assert first is not None
    for number in range(1, 1000):
        store.publish("a", b"", Retention(1, 60), f"{number}")
    for number in range(1000):
        store.keep({f"{number}": b"value"}, 60)
    assert store.size < MEMORY * 0.6
    assert store.publish("a", b"again", KEEP, "999") is None
    assert store.publish("a", b"again", KEEP, "0") == (first[0], 1001, 1000)
    assert store.take("0") is None
    assert store.take("999") == b"value"
    store.keep({"large": bytes(MEMORY), "small": b"1"}, 60)
    assert store.take("large") is None
    assert store.take("small") == b"1"


def test_kept_values_expire(store: MemoryStore[str], times: Times) -> None:
    empty = store.size
    store.keep({"a": b"1", "b": b"2"}, 10)
    store.keep({"b": b"3"}, 20)
    times.now += 10
    assert store.take("a") is None
    assert store.take("b") == b"3"
    store.keep({"a": b"1"}, 10)
    times.now += 10
    store.keep({"b": b"2"}, 10)
    assert store.take("b") == b"2"
    assert store.size == empty


async def test_the_clock_of_a_test_moves_the_store_of_the_in_process_broker() -> None:
    async with clock() as time:
        broker = SimpleBroker()
        broker.publish_stored("a", b"1", KEEP, "one")
        await broker.keep({"k": b"1"}, 10)
        assert len((await broker.history("a", KEEP)).messages) == 1
        await time.advance(61)
        assert (await broker.history("a", KEEP)).messages == []
        assert await broker.take("k") is None
        await time.advance(300)
        broker.publish_stored("a", b"2", KEEP, "one")
        assert payloads(await broker.history("a", KEEP)) == [b"2"]


@pytest.mark.parametrize("url", [None, "simple:", "variable"])
async def test_the_option_bounds_the_in_process_broker(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url == "variable":
        monkeypatch.setenv("SOCKETCLUSTER_BROKER", "simple:")
        url = None
    broker = AGServer(history_memory=50_000, broker_engine=url).exchange.broker
    assert isinstance(broker, SimpleBroker)
    for _ in range(100):
        broker.publish_stored("a", bytes(1000), KEEP)
    assert 40 < len((await broker.history("a", KEEP)).messages) < 50
