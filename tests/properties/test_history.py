"""Followed channels against a list: random losses, repeats, changes of order, and outages."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from history.fakes import Backend, Process, Socket
from socketcluster.brokers.storing import Position
from socketcluster.history.replay import Recovered
from support import until

PROCESSES = 2
INDEXES = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, PROCESSES - 1), st.integers(1, 3)),
    st.tuples(st.just("publish"), st.integers(0, PROCESSES - 1), st.integers(1, 3)),
    st.tuples(st.just("deliver"), st.integers(0, PROCESSES - 1), st.integers(1, 4)),
    st.tuples(st.just("lose"), st.integers(0, PROCESSES - 1), INDEXES),
    st.tuples(st.just("repeat"), st.integers(0, PROCESSES - 1), INDEXES),
    st.tuples(st.just("swap"), st.integers(0, PROCESSES - 1), INDEXES),
    st.tuples(st.just("lose link"), st.integers(0, PROCESSES - 1), st.just(0)),
    st.tuples(st.just("open link"), st.integers(0, PROCESSES - 1), st.just(0)),
    st.tuples(st.just("leave"), st.integers(0, PROCESSES - 1), INDEXES),
    st.tuples(st.just("return"), st.integers(0, PROCESSES - 1), INDEXES),
    st.tuples(st.just("turn"), st.just(0), st.just(0)),
)


class Client(Socket):
    """A client that comes back with the offset that it received last, to any process."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.returning: asyncio.Task[None] | None = None

    @property
    def is_there(self) -> bool:
        return self.returning is None or self.returning.done()

    def leave(self) -> None:
        self.process.exchange.unsubscribe_socket(self, "c")

    def come_back(self, process: Process) -> None:
        self.process = process
        since = Position("e1", self.received[-1][0] or 0 if self.received else 0)
        self.returning = asyncio.ensure_future(
            process.exchange.recover_socket(self, "c", since, self.joined)
        )

    def joined(self, recovered: Recovered) -> None:
        if not recovered.recovered:  # It is told so, and tries again later.
            assert ("history", "away", "c") in self.process.errors
            self.leave()
        self.received += [(each.offset, each.payload) for each in recovered.messages]


@given(st.integers(1, 3), st.lists(STEPS, min_size=20, max_size=50))
def test_everyone_receives_everything_in_order_once(step: int, steps: list[Any]) -> None:
    asyncio.run(_run(step, steps))


async def _run(step: int, steps: list[tuple[str, int, int]]) -> None:
    backend = Backend(step)
    processes = [Process(backend, delays=True) for _ in range(PROCESSES)]
    staying = [await process.subscribed() for process in processes]
    moving = Client(processes[0])
    moving.come_back(processes[0])
    consumers = [process.exchange.subscribe("c").create_consumer() for process in processes]
    gaps = [process.exchange.listener("brokerGap").create_consumer() for process in processes]
    number = 0
    for name, index, count in steps:
        process = processes[index]
        wire = process.broker.wire
        if name == "publish":
            for _ in range(count):
                number += 1
                backend.send("c", backend.store("c", b"%d" % number))
        elif name == "deliver":
            process.broker.deliver(count)
        elif name == "lose link":
            process.broker.lose_link()
        elif name == "open link":
            process.broker.open_link()
        elif name == "turn":
            await asyncio.sleep(0)
        elif name == "leave" and moving.is_there:
            await asyncio.sleep(0)  # A run of this turn is delivered to those who stay.
            moving.leave()
        elif name == "return" and moving.is_there and process.broker.ready:
            moving.leave()
            moving.come_back(process)
        elif wire and count < len(wire):
            _disturb(name, wire, count)
    for process in processes:
        process.broker.lose_link()
        process.broker.open_link()
    assert moving.returning is not None
    await moving.returning
    moving.leave()
    moving.come_back(processes[-1])
    await moving.returning
    expected = [(place * step, b"%d" % place) for place in range(1, number + 1)]
    await until(lambda: all(each.received == expected for each in (*staying, moving)))
    for consumer in consumers:
        assert [(await consumer.next()).value for _ in expected] == list(range(1, number + 1))
        assert consumer.get_backpressure() == 0
    for gap in gaps:
        while gap.get_backpressure():
            event = (await gap.next()).value
            assert event is not None
            assert event.channels == frozenset()
    assert {error for process in processes for error in process.errors} <= {
        ("history", "away", "c")
    }


def _disturb(name: str, wire: Any, index: int) -> None:
    if name == "lose":
        del wire[index]
    elif name == "repeat":
        wire.append(wire[index])
    elif name == "swap":
        wire[0], wire[index] = wire[index], wire[0]
