"""A socket joins a channel with what it missed: whole or nothing, read once for all."""

from __future__ import annotations

import asyncio

import pytest

from history.fakes import Backend, Process, Socket
from socketcluster.brokers.storing import Position
from socketcluster.errors import BrokerError
from socketcluster.history import reading
from socketcluster.history.options import History
from socketcluster.history.replay import Recovered
from socketcluster.pubsub import recovery
from support import soon, until


class Joining(Socket):
    """A socket that keeps what it was given as it joined, before what is delivered later."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Recovered] = []

    def joined(self, recovered: Recovered) -> None:
        self.received += [(each.offset, each.payload) for each in recovered.messages]
        self.answers.append(recovered)

    @property
    def answer(self) -> Recovered:
        (answer,) = self.answers
        return answer


async def publish(process: Process, *numbers: int, channel: str = "c") -> None:
    for number in numbers:
        await process.exchange.invoke_publish(channel, number)


async def joined(process: Process, since: Position | None, channel: str = "c") -> Joining:
    socket = Joining()
    await soon(process.exchange.recover_socket(socket, channel, since, socket.joined))
    return socket


def messages_read(backend: Backend) -> int:
    return sum(limit != 0 for _, _, limit, _ in backend.reads)


async def test_what_was_missed_comes_first_then_what_is_live() -> None:
    backend = Backend()
    process = Process(backend)
    await publish(process, 1, 2, 3)
    socket = await joined(process, Position("e1", 1))
    assert socket.answer.recovered
    assert socket.answer.position == Position("e1", 3)
    await publish(process, 4)
    await until(lambda: socket.offsets == [2, 3, 4])
    assert socket.data == [b"2", b"3", b"4"]


async def test_a_socket_that_missed_nothing_reads_nothing() -> None:
    backend = Backend()
    process = Process(backend)
    await process.subscribed()
    await publish(process, 1)
    assert (await joined(process, Position("e1", 1))).answer == Recovered(
        [], Position("e1", 1), True
    )
    assert (await joined(process, None)).answer == Recovered([], Position("e1", 1), False)
    assert messages_read(backend) == 0


async def test_what_is_published_during_the_read_is_delivered_once() -> None:
    backend = Backend()
    process = Process(backend)
    old = await process.subscribed()
    await publish(process, 1, 2)
    allowed, asked = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        asked.set()
        await allowed.wait()

    backend.read = read
    socket = Joining()
    waiting = asyncio.ensure_future(
        process.exchange.recover_socket(socket, "c", Position("e1", 0), socket.joined)
    )
    await soon(asked.wait())
    await publish(process, 3, 4)
    allowed.set()
    await soon(waiting)
    await publish(process, 5)
    await until(lambda: socket.offsets == old.offsets == [1, 2, 3, 4, 5])
    assert socket.answer.recovered


async def test_what_is_on_its_way_to_the_process_is_delivered_once() -> None:
    backend = Backend()
    process = Process(backend, delays=True)
    old = await process.subscribed()
    await publish(process, 1, 2)
    process.broker.deliver(1)
    socket = await joined(process, Position("e1", 0))
    assert socket.answer.position == Position("e1", 1)
    process.broker.deliver()
    await until(lambda: socket.offsets == old.offsets == [1, 2])


async def test_a_client_that_is_ahead_of_the_process_receives_nothing_twice() -> None:
    backend = Backend()
    process = Process(backend, delays=True)
    old = await process.subscribed()
    await publish(process, 1, 2, 3)
    socket = await joined(process, Position("e1", 2))
    assert socket.answer.recovered
    process.broker.deliver()
    await publish(process, 4)
    process.broker.deliver()
    await until(lambda: old.offsets == [1, 2, 3, 4])
    assert socket.offsets == [3, 4]


@pytest.mark.parametrize(
    "since",
    [
        Position("e1", 1),  # trimmed
        Position("e1", 9),  # in the future
        Position("e1", 1 << 62),
        Position("other", 3),
        Position("", 0),
    ],
)
async def test_nothing_is_replayed_if_not_all_is_there(since: Position) -> None:
    backend = Backend()
    process = Process(backend, History(size=3, ttl=300))
    await publish(process, 1, 2, 3, 4, 5)
    socket = await joined(process, since)
    assert socket.answer == Recovered([], Position("e1", 5), False)
    await publish(process, 6)
    await until(lambda: socket.offsets == [6])
    # What is stored is whole.
    assert (await joined(process, Position("e1", 3))).offsets == [4, 5, 6]


@pytest.mark.parametrize("size", [20, 1000])
async def test_nothing_is_replayed_above_a_limit(size: int) -> None:
    backend = Backend()
    process = Process(backend, History(size=size, ttl=300, recover_limit=5))
    await publish(process, *range(10))
    assert not (await joined(process, Position("e1", 4))).answer.recovered
    assert (await joined(process, Position("e1", 5))).offsets == [6, 7, 8, 9, 10]


async def test_nothing_is_replayed_above_half_of_the_buffer() -> None:
    backend = Backend()
    process = Process(backend, max_frame=10_000)
    await process.exchange.invoke_publish("c", "x" * 2500)
    await process.exchange.invoke_publish("c", "x" * 2500)
    assert not (await joined(process, Position("e1", 0))).answer.recovered
    assert (await joined(process, Position("e1", 1))).answer.recovered


async def test_a_storm_reads_once() -> None:
    backend = Backend()
    process = Process(backend)
    await process.subscribed()
    await publish(process, *range(20))
    joining = [
        joined(process, Position("e1", 5 + number % 3 if number else 5)) for number in range(500)
    ]
    first = await soon(asyncio.gather(*joining))
    await publish(process, 20)
    later = await soon(asyncio.gather(*(joined(process, Position("e1", 10)) for _ in range(500))))
    assert all(socket.answer.recovered for socket in (*first, *later))
    assert first[0].offsets == list(range(6, 22))
    assert later[0].offsets == list(range(11, 22))
    assert messages_read(backend) == 1
    assert process.exchange.stored.numbers.reads == 2  # With that of the position.


async def test_a_storm_of_clients_that_missed_different_amounts_reads_twice() -> None:
    backend = Backend()
    process = Process(backend, History(size=1000, ttl=300, recover_limit=50))
    await process.subscribed()
    await publish(process, *range(100))
    for since in (95, 90, 60, 50, 49, 10, 0):
        socket = await joined(process, Position("e1", since))
        assert socket.answer.recovered == (since >= 50)
        assert len(socket.received) == (100 - since if since >= 50 else 0)
    assert messages_read(backend) == 2


async def test_reads_of_many_channels_wait_for_each_other() -> None:
    backend = Backend()
    process = Process(backend)
    under_way = most = 0

    async def read() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    backend.read = read
    reads = process.exchange.stored.reads
    retention = History(size=10, ttl=10).retention
    await soon(
        asyncio.gather(*(reads.read(f"c{number}", retention, None, 1) for number in range(500)))
    )
    assert most == reading.READS_AT_ONCE


async def test_tails_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TAILS_BYTES", 60)
    backend = Backend()
    process = Process(backend, History(size=500, ttl=300, recover_limit=10))
    reads = process.exchange.stored.reads
    for channel in ("c", "cc"):
        await process.subscribed(channel)
        await publish(process, *range(1_000_000, 1_000_005), channel=channel)
    assert len((await joined(process, Position("e1", 0), "c")).received) == 5
    first = reads.tail("c")
    assert first is not None
    assert first.size == 35
    assert len((await joined(process, Position("e2", 0), "cc")).received) == 5
    assert reads.tail("c") is None
    await publish(process, *range(1_000_000, 1_000_100), channel="cc")
    tail = reads.tail("cc")
    assert tail is not None
    assert tail.size <= 20 * 7
    monkeypatch.setattr(reading, "TAIL_SECONDS", 0.01)
    assert reads.tail("cc") is tail
    await until(lambda: len(reads._tails) == 0)


async def test_a_tail_does_not_outlive_its_publishes_for_clients_that_ask_on() -> None:
    backend = Backend()
    process = Process(backend, History(size=500, ttl=0.05, recover_limit=10))
    await process.subscribed()
    await publish(process, 1)
    await joined(process, Position("e1", 0))
    reads = process.exchange.stored.reads
    await until(lambda: reads.tail("c") is None)


async def test_the_newest_publish_comes_with_each_subscription() -> None:
    backend = Backend()
    process = Process(backend, History(size=1, ttl=300, recover="latest"))
    empty = await joined(process, None)
    assert empty.answer == Recovered([], Position("e1", 0), False)
    await publish(process, 1, 2)
    for _ in range(3):
        assert (await joined(process, None)).received == [(2, b"2")]
    assert messages_read(backend) == 1  # That of the position.
    assert (await joined(process, Position("e1", 2))).answer == Recovered(
        [], Position("e1", 2), True
    )
    assert (await joined(process, Position("e1", 1))).offsets == [2]
    assert (await joined(process, Position("other", 2))).offsets == [2]
    other = Process(backend, History(size=1, ttl=300, recover="latest"))
    assert (await joined(other, None)).received == [(2, b"2")]


async def test_the_newest_publish_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    process = Process(backend, History(size=1, ttl=0.01, recover="latest"))
    await publish(process, 1)
    assert (await joined(process, None)).offsets == [1]
    backend.channels["c"].messages.clear()
    await asyncio.sleep(0.02)
    assert (await joined(process, None)).offsets == []


async def test_a_channel_that_recovers_nothing() -> None:
    process = Process(Backend(), History(size=10, ttl=300, recover=False))
    await publish(process, 1)
    assert (await joined(process, Position("e1", 0))).answer == Recovered(
        [], Position("e1", 1), False
    )


async def test_a_plain_channel() -> None:
    process = Process(Backend())
    socket = await joined(process, Position("e1", 0), "plain")
    assert socket.answer == Recovered([], None, False)
    await process.exchange.invoke_publish("plain", 1)
    await until(lambda: socket.received == [(None, b"1")])


@pytest.mark.parametrize("followed", [False, True])
async def test_a_socket_waits_for_a_backend_that_comes_back(followed: bool) -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    if followed:
        await process.subscribed()
    await publish(other, 1, 2)
    process.broker.lose_link()
    socket = Joining()
    joining = asyncio.ensure_future(
        process.exchange.recover_socket(socket, "c", Position("e1", 1), socket.joined)
    )
    await until(lambda: process.exchange._recoveries._waiting_ends is not None)
    await publish(other, 3)
    process.broker.open_link()
    await soon(joining)
    assert socket.answer.recovered
    await publish(other, 4)
    await until(lambda: socket.offsets == [2, 3, 4])
    assert process.errors == []


async def test_all_sockets_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    await publish(other, 1, 2)
    process.broker.lose_link()
    monkeypatch.setattr(recovery, "AWAY_SECONDS", 0.0)
    assert not (await joined(process, Position("e1", 1), "a")).answer.recovered
    monkeypatch.setattr(recovery, "AWAY_SECONDS", 3600.0)
    assert not (await joined(process, Position("e1", 1), "b")).answer.recovered
    process.broker.open_link()
    assert (await joined(process, Position("e1", 1))).answer.recovered


async def test_a_socket_does_not_wait_for_a_history_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "AWAY_SECONDS", 3600.0)
    process = Process(Backend())
    await process.subscribed()
    await publish(process, 1, 2)
    process.broker.refusal = BrokerError("no")
    assert not (await joined(process, Position("e1", 1))).answer.recovered
    assert process.errors == [("history", "no", "c")]


async def test_a_socket_joins_without_history_in_a_long_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "AWAY_SECONDS", 0.0)
    backend = Backend()
    process, other = Process(backend), Process(backend)
    await process.subscribed()
    await publish(other, 1, 2)
    process.broker.lose_link()
    socket = await joined(process, Position("e1", 1))
    assert not socket.answer.recovered
    assert process.errors == [("history", "away", "c")]
    process.broker.open_link()
    await publish(other, 3)
    await until(lambda: socket.offsets == [3])


async def test_a_refused_channel_leaves_nothing() -> None:
    process = Process(Backend())
    process.broker.refusal = BrokerError("no")
    with pytest.raises(BrokerError, match="no"):
        await joined(process, Position("e1", 1))
    assert process.exchange.channels_count == 0


async def test_cancelling_leaves_nothing() -> None:
    backend = Backend()
    process = Process(backend)
    never = asyncio.Event()
    for read in range(2):
        if read:  # Of the messages, not of the position.
            staying = await process.subscribed()
            await publish(process, 1)
        backend.read = never.wait
        socket = Joining()
        waiting = asyncio.ensure_future(
            process.exchange.recover_socket(socket, "c", Position("e1", 0), socket.joined)
        )
        await until(lambda: len(backend.reads) > 0)
        backend.reads.clear()
        waiting.cancel()
        await soon(asyncio.wait([waiting]))
        assert socket.answers == []
        never.set()
        if read:
            process.exchange.unsubscribe_socket(staying, "c")
        await until(lambda: process.exchange.channels_count == 0)
        never.clear()
        backend.read = None


async def test_a_page_since_a_position_is_shared() -> None:
    backend = Backend()
    process = Process(backend)
    await process.subscribed()
    await publish(process, 1, 2, 3)
    stored = process.exchange.stored_channel("c")
    assert stored is not None
    pages = await soon(
        asyncio.gather(*(stored.page_since(Position("e1", 1), 1) for _ in range(20)))
    )
    assert all([each.offset for each in page.messages] == [2] for page in pages)
    assert all(page.complete and page.top == Position("e1", 3) for page in pages)
    assert not (await soon(stored.page_since(Position("e0", 1), 1))).complete
    assert messages_read(backend) == 1
