"""Channels with history are followed: numbered, in order, without a gap, each message once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from history.fakes import Backend, Process, Socket
from socketcluster.brokers.storing import Position
from socketcluster.errors import BrokerError
from socketcluster.history import stored_channel
from socketcluster.history.options import History
from socketcluster.protocol.envelopes import STORED, envelop, envelop_stored
from support import soon, until


async def publish(process: Process, *numbers: int, channel: str = "c") -> None:
    for number in numbers:
        await process.exchange.invoke_publish(channel, number)


def numbered(*numbers: int) -> list[tuple[int, bytes]]:
    return [(number, b"%d" % number) for number in numbers]


async def test_a_stored_publish_is_delivered_with_its_offset() -> None:
    process = Process(Backend())
    await publish(process, 1, 2)
    socket = await process.subscribed()
    assert process.position() == Position("e1", 2)
    consumer = process.exchange.subscribe("c").create_consumer()
    await publish(process, 3, 4)
    await until(lambda: socket.received == numbered(3, 4))
    assert [(await soon(consumer.next())).value for _ in range(2)] == [3, 4]
    assert process.exchange.stored.numbers.count == 2
    assert process.exchange.stored.numbers.published == 4
    assert process.errors == []


async def test_plain_channels_and_foreign_publishes_have_no_offset() -> None:
    backend = Backend()
    process = Process(backend)
    stored, plain = await process.subscribed(), await process.subscribed("plain")
    await process.exchange.invoke_publish("plain", 1)
    backend.send("c", b"2")
    await publish(process, 3)
    backend.send("c", b"4")
    await until(lambda: stored.received == [(None, b"2"), (1, b"3"), (None, b"4")])
    assert plain.received == [(None, b"1")]
    assert list(backend.channels) == ["c"]


@pytest.mark.parametrize("step", [1, 7])
async def test_a_lost_message_is_read_once_and_delivered_in_order(step: int) -> None:
    backend = Backend(step)
    process = Process(backend)
    sockets = [await process.subscribed() for _ in range(3)]
    await publish(process, 1)
    for number in (2, 3):
        backend.store("c", b"%d" % number)
    await publish(process, 4, 5)
    expected = [(number * step, b"%d" % number) for number in range(1, 6)]
    await until(lambda: all(socket.received == expected for socket in sockets))
    assert len([read for read in backend.reads if read[2] != 0]) == 1
    assert process.exchange.stored.numbers.filled == 1
    assert process.errors == []


async def test_repeated_and_swapped_messages_are_delivered_once_in_order() -> None:
    backend = Backend()
    process = Process(backend, delays=True)
    socket = await process.subscribed()
    await publish(process, 1, 2, 3, 4)
    wire = process.broker.wire
    one, two, three, four = wire
    wire.clear()
    wire.extend([two, one, one, four, two, three, four])
    process.broker.deliver()
    await until(lambda: socket.received == numbered(1, 2, 3, 4))
    assert process.errors == []


async def test_messages_of_an_outage_are_read_and_no_gap_is_reported() -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    socket, plain = await process.subscribed(), await process.subscribed("plain")
    gaps = process.exchange.listener("brokerGap").create_consumer()
    await publish(process, 1)
    process.broker.lose_link()
    await publish(other, 2, 3)
    with pytest.raises(BrokerError):
        await publish(process, 9)
    process.broker.open_link()
    await publish(other, 4)
    await until(lambda: socket.received == numbered(1, 2, 3, 4))
    gap = (await soon(gaps.next())).value
    assert gap.channels == {"plain"}
    assert gaps.get_backpressure() == 0
    assert plain.received == []
    assert process.exchange.stored.numbers.unfilled == 0


@pytest.mark.parametrize("turns", range(12))
async def test_an_outage_that_follows_another_at_once_is_filled(turns: int) -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    for number in (1, 2):
        process.broker.lose_link()
        backend.store("c", b"%d" % number)
        process.broker.open_link()
        for _ in range(turns):
            await asyncio.sleep(0)
    await until(lambda: socket.received == numbered(1, 2))


async def test_a_gap_that_is_no_longer_stored_is_reported_and_the_rest_delivered() -> None:
    backend = Backend()
    process, other = Process(backend, History(size=2, ttl=300)), Process(backend)
    socket = await process.subscribed()
    gaps = process.exchange.listener("brokerGap").create_consumer()
    await publish(process, 1)
    process.broker.lose_link()
    for number in (2, 3, 4, 5):
        backend.store("c", b"%d" % number, 2)
    process.broker.open_link()
    await until(lambda: socket.received == numbered(1, 4, 5))
    assert (await soon(gaps.next())).value.channels == frozenset()
    lost = (await soon(gaps.next())).value
    assert lost.channels == {"c"}
    assert "'c'" in str(lost.error)
    assert lost.duration >= 1500
    await publish(other, 6)
    await until(lambda: socket.received == numbered(1, 4, 5, 6))
    assert process.exchange.stored.numbers.unfilled == 1


async def test_sockets_that_ask_are_told_of_a_gap_that_is_not_filled() -> None:
    class Asking:
        def __init__(self) -> None:
            self.told: list[tuple[str, int]] = []

        def send_gap(self, channel: str, duration: int) -> None:
            self.told.append((channel, duration))

    backend = Backend()
    process = Process(backend, History(size=1, ttl=300))
    await process.subscribed()
    asking, other = Asking(), Asking()
    process.exchange.gaps.add("c", asking)
    process.exchange.gaps.add("cc", other)
    process.broker.lose_link()
    for number in (1, 2):
        backend.store("c", b"%d" % number, 1)
    process.broker.open_link()
    await until(lambda: [channel for channel, _ in asking.told] == ["c"])
    assert asking.told[0][1] >= 1500
    assert other.told == []


async def test_a_channel_that_went_back_gets_a_new_epoch_and_everyone_is_told() -> None:
    backend = Backend()
    processes = [Process(backend) for _ in range(2)]
    sockets = [await process.subscribed() for process in processes]
    gaps = [process.exchange.listener("brokerGap").create_consumer() for process in processes]
    await publish(processes[0], 1, 2, 3)
    for process in processes:
        process.broker.lose_link()
    backend.channels["c"].top = 1
    del backend.channels["c"].messages[1:]
    for process in processes:
        process.broker.open_link()
    await until(lambda: all(consumer.get_backpressure() == 2 for consumer in gaps))
    await until(lambda: all(each.position() == Position("e2", 1) for each in processes))
    await publish(processes[1], 4)
    expected = [*numbered(1, 2, 3), (2, b"4")]
    await until(lambda: all(socket.received == expected for socket in sockets))


async def test_an_epoch_that_changes_while_messages_come_is_taken_over() -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    gaps = process.exchange.listener("brokerGap").create_consumer()
    await publish(process, 1, 2)
    del backend.channels["c"]
    await publish(process, 3, 4)
    await until(lambda: socket.received == [*numbered(1, 2), (1, b"3"), (2, b"4")])
    assert (await soon(gaps.next())).value.channels == {"c"}
    assert process.position() == Position("e2", 2)
    # A late message of the former epoch changes nothing.
    process.broker.sent("c", envelop_stored("e1", 3, 2, b"9"))
    await publish(process, 5)
    await until(lambda: socket.received[-1] == (3, b"5"))
    assert b"9" not in socket.data
    assert process.errors == []


@pytest.mark.parametrize(
    "message",
    [
        envelop(STORED, b"", b"1"),
        envelop(STORED, bytes(16), b"1"),
        envelop(STORED, bytes(16) + b"e1", b"1"),
        envelop(STORED, b"\0" * 7 + b"\2" + b"\0" * 8 + "é".encode(), b"1"),
        envelop_stored("e1", 1 << 40, (1 << 40) - 1, b"1"),
        envelop_stored("e1", 2, 1, b"{"),
        b"\xc1",
        b"\xc1\x02\xff",
    ],
)
async def test_a_foreign_message_is_reported_and_nothing_stops(message: bytes) -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    await publish(process, 1)
    if message == envelop_stored("e1", 2, 1, b"{"):
        backend.store("c", b"{")
    backend.send("c", message)
    await until(lambda: [action for action, *_ in process.errors] == ["foreign"])
    assert process.errors[0][2] == "c"
    await publish(process, 3)
    await until(lambda: socket.data == [b"1", b"3"])


async def test_a_subscription_waits_for_the_position() -> None:
    backend = Backend()
    process = Process(backend)
    allowed = asyncio.Event()
    backend.read = allowed.wait
    waiting = asyncio.ensure_future(process.subscribed())
    await until(lambda: bool(backend.reads))
    backend.send("c", backend.store("c", b"1"))
    assert not waiting.done()
    allowed.set()
    socket: Socket = await soon(waiting)
    # It came after the subscription at the broker.
    await until(lambda: socket.received == numbered(1))
    assert process.position() == Position("e1", 1)


async def test_a_refused_history_refuses_the_subscription() -> None:
    backend = Backend()
    process = Process(backend)
    process.broker.refusal = BrokerError("no JetStream")
    with pytest.raises(BrokerError, match="no JetStream"):
        await process.subscribed()
    assert process.broker.channels == set()
    assert process.exchange.channels_count == 0
    with pytest.raises(BrokerError, match="no JetStream"):
        await publish(process, 1)
    process.broker.refusal = None
    await process.subscribed()


async def test_a_subscription_in_an_outage_takes_effect_when_it_ends() -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    process.broker.ready = False
    await publish(other, 1)
    socket = await process.subscribed()
    gaps = process.exchange.listener("brokerGap").create_consumer()
    assert process.position() is None
    process.broker.open_link()
    await until(lambda: process.position() == Position("e1", 1))
    # Nothing is known of the time before.
    assert (await soon(gaps.next())).value.channels == {"c"}
    await publish(other, 2)
    await until(lambda: socket.received == numbered(2))


async def test_a_read_that_fails_is_tried_again() -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    process.broker.refusal = BrokerError("busy")
    backend.store("c", b"1")
    backend.send("c", backend.store("c", b"2"))
    await until(lambda: process.errors == [("history", "busy", "c")])
    assert socket.received == []
    process.broker.refusal = None
    await until(lambda: socket.received == numbered(1, 2))
    assert len(process.errors) == 1


async def test_a_read_with_any_other_error_is_tried_again() -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    refusal: Any = ValueError("a wrong form")
    process.broker.refusal = refusal
    backend.store("c", b"1")
    backend.send("c", backend.store("c", b"2"))
    expected = [("history", "ValueError: a wrong form", "c")]
    await until(lambda: process.errors == expected)
    process.broker.refusal = None
    await until(lambda: socket.received == numbered(1, 2))


async def test_an_outage_during_the_first_read_loses_no_message() -> None:
    backend = Backend()
    process = Process(backend)
    ends: list[asyncio.Event] = []

    async def wait() -> None:
        ends.append(asyncio.Event())
        await ends[-1].wait()

    backend.read = wait
    subscribing = asyncio.ensure_future(process.subscribed())
    await until(lambda: len(ends) == 1)
    process.broker.listener.backend_recovered(1.0, BrokerError("lost"), {"c"}, "there")
    await until(lambda: len(ends) == 2)
    ends[0].set()
    socket = await soon(subscribing)
    # A gap, while the second read is under way.
    backend.store("c", b"1")
    backend.send("c", backend.store("c", b"2"))
    backend.read = None
    ends[1].set()
    await until(lambda: socket.received == numbered(1, 2))
    assert process.errors == []


@pytest.mark.parametrize("lost", [(2,), (3,), (2, 3), (4,)])
async def test_messages_that_are_lost_before_the_first_read(lost: tuple[int, ...]) -> None:
    """The first read does not read them, so there is another one."""
    backend = Backend()
    process = Process(backend)
    allowed = asyncio.Event()

    async def read() -> None:
        if len(backend.reads) == 1:
            await allowed.wait()
            raise BrokerError("busy")

    backend.read = read
    subscribing = asyncio.ensure_future(process.subscribed())
    await until(lambda: len(backend.reads) == 1)
    for number in range(1, 5):
        message = backend.store("c", b"%d" % number)
        if number not in lost:
            backend.send("c", message)
    allowed.set()
    socket = await soon(subscribing)
    await until(lambda: socket.received == numbered(1, 2, 3, 4))
    assert process.position() == Position("e1", 4)
    assert process.errors == []


async def test_messages_that_are_lost_as_the_epoch_changes() -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    await publish(process, 1)
    allowed = asyncio.Event()
    backend.read = allowed.wait
    backend.channels.clear()
    for number in range(1, 5):
        message = backend.store("c", b"%d" % number)
        if number != 3:
            backend.send("c", message)
    allowed.set()
    await until(lambda: socket.received == numbered(1, 1, 2, 3, 4))
    assert process.position() == Position("e2", 4)
    assert process.errors == []


async def test_a_channel_that_is_entered_again_at_once_begins_there() -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    socket = await process.subscribed()
    await publish(other, 1, 2, 3)
    stored = process.exchange.stored_channel("c")
    process.exchange.unsubscribe_socket(socket, "c")
    process.broker.ready = False
    await process.subscribed()
    assert process.exchange.stored_channel("c") is stored
    assert process.position() is None
    process.broker.open_link()
    await until(lambda: process.position() == Position("e1", 3))
    assert stored is not None
    assert stored.log.began == Position("e1", 3)


async def test_more_than_can_wait_is_read_instead() -> None:
    backend = Backend()
    process = Process(backend, History(size=10_000, ttl=300))
    socket = await process.subscribed()
    allowed = asyncio.Event()
    backend.read = allowed.wait
    backend.store("c", b"1")
    for number in range(2, 4500):
        backend.send("c", backend.store("c", b"%d" % number, 10_000))
    await until(lambda: len(backend.reads) == 2)
    allowed.set()
    await until(lambda: socket.received == numbered(*range(1, 4500)))


async def test_a_channel_that_is_left_and_entered_again_begins_anew() -> None:
    backend = Backend()
    process, other = Process(backend), Process(backend)
    socket = await process.subscribed()
    await publish(other, 1)
    process.exchange.unsubscribe_socket(socket, "c")
    await publish(other, 2)
    await until(lambda: process.exchange.channels_count == 0)
    again = await process.subscribed()
    await publish(other, 3)
    await until(lambda: again.received == numbered(3))
    assert socket.received == numbered(1)


async def test_an_id_stores_a_publish_once() -> None:
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    for id in ("a", "a", "b", None, None):
        await process.exchange.invoke_publish("c", 1, id)
    process.exchange.transmit_publish("c", 1, id="b")
    await until(lambda: len(socket.received) == 4)
    assert backend.channels["c"].top == 4


async def test_an_id_may_be_any_text() -> None:
    process = Process(Backend())
    for id in ("\ud800", "x\ud800\n"):
        await process.exchange.invoke_publish("c", 1, id)
    assert process.broker.ids == {"\ufffd", "x\ufffd\n"}, "backends store UTF-8"


async def test_the_position_at_a_number() -> None:
    backend = Backend(step=10)
    process = Process(backend, History(size=100, ttl=300, recover_limit=4))
    await process.subscribed("cc")
    await publish(process, 1, 2, channel="cc")
    await process.subscribed()
    for number in range(10):
        await publish(process, number, channel="c" if number % 2 else "cc")
    stored = process.exchange.stored_channel("c")
    assert stored is not None
    found = [stored.position_at(number) for number in range(13)]
    # It was first followed at 2, and then delivered the numbers 4, 6, 8, 10 and 12.
    assert found == [
        None,
        None,
        *(Position("e2", 10 * (number // 2 - 1)) for number in range(2, 13)),
    ]
    for _ in range(100):
        await publish(process, 1)
    assert stored.position_at(12) is None
    newest = process.exchange.stored.numbers.count
    assert stored.position_at(newest - 4) == Position("e2", 10 * (5 + 96))
    assert stored.position_at(newest) == stored.position_at(newest + 5) == stored.position


async def test_much_is_delivered_in_slices_that_clients_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_channel, "SLICE_BYTES", 25)
    monkeypatch.setattr(stored_channel, "SLICE_SECONDS", 0.001)
    backend = Backend()
    process = Process(backend)
    socket = await process.subscribed()
    await publish(process, 1)
    for number in range(12):
        backend.store("c", b'"missed %02d"' % number)
    counts: list[int] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        if seconds == stored_channel.SLICE_SECONDS:
            counts.append(process.exchange.stored.numbers.count)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", counted)
    await publish(process, 2)
    await until(lambda: len(socket.received) == 14)
    assert [offset for offset, _ in socket.received] == [*range(1, 15)]
    assert counts == [4, 7, 10, 13]
    assert process.errors == []
