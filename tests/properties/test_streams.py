"""Streams against lists: random programs of writes, reads, time-outs, cancellations, closes and
kills, on a clock. After every step each consumer has what a list would have, and no more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketcluster import StreamDemux, WritableConsumableStream, testing
from socketcluster.errors import TimeoutError
from socketcluster.streams import NO_VALUE, Gauge

LIMIT = 4
SIZE_LIMIT = 400
"""Of the gauge: values of one consumer, and bytes of all."""


def on_a_clock(program: Callable[[testing.Clock], Coroutine[Any, Any, None]]) -> None:
    """Run a program in a loop whose time moves only when the program says so."""

    async def run() -> None:
        async with testing.clock() as clock:
            await program(clock)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(run())


# The model

OF_CONSUMER = ("next", "loop")
"""Waits of a consumer that outlives them."""


@dataclass(eq=False)
class Item:
    """What was written. `holders` are those of a tracked value that have not dealt with it."""

    kind: str
    value: Any = None
    size: int = 0
    holders: set[Any] = field(default_factory=set)
    made: bool = False

    @property
    def weight(self) -> int:
        return self.size if self.kind == "deferred" else 0


@dataclass(eq=False)
class Wait:
    """One that waits: `next()` of a consumer, or of the stream."""

    timeout: int | None
    kind: str = "next"
    deadline: int | None = None
    started: bool = False
    outcome: Any = None


@dataclass(eq=False)
class Reader:
    """A consumer as a list."""

    number: int
    timeout: int | None
    queue: deque[Item] = field(default_factory=deque)
    attached: bool = True
    removed: bool = False
    end: Item | None = None
    held: Item | None = None
    full: bool = False
    wait: Wait | None = None

    def put(self, item: Item) -> None:
        if item.kind == "tracked":
            item.holders.add(self)
        self.queue.append(item)
        self.full = self.full or len(self.queue) > LIMIT

    def deal(self) -> None:
        if self.held is not None:
            self.held.holders.discard(self)
            self.held = None

    def clear(self) -> None:
        for item in self.queue:
            item.holders.discard(self)
        self.queue.clear()
        self.full = False

    def leave(self) -> None:
        self.deal()
        self.attached = False
        self.removed = True
        self.clear()

    def kill(self, value: Any) -> None:
        self.deal()
        self.clear()
        self.end = Item("end", value)
        self.attached = False

    def begin(self) -> None:
        if self.removed:
            self.removed, self.attached = False, True
        self.deal()

    def take(self) -> tuple[str, Any] | None:
        """The next value or the end, if there is one."""
        while self.end is not None or self.queue:
            if self.end is not None:
                item, self.end = self.end, None
            else:
                item = self.queue.popleft()
                self.full = self.full and len(self.queue) > LIMIT // 2
            if item.kind == "end":
                self.leave()
                return "end", item.value
            if item.kind == "tracked":
                self.held = item
            item.made = True
            if item.value is not NO_VALUE:
                return "value", item.value
            if self.wait is not None:
                self.wait.deadline = None  # It waits anew.
        return None

    def turn(self, now: int) -> None:
        """Let the one that waits go on as far as it can."""
        wait = self.wait
        if wait is None or wait.outcome is not None:
            return
        if not wait.started:
            wait.started = True
            if wait.kind in OF_CONSUMER:
                self.begin()
            else:  # A consumer of its own begins with it.
                self.attached = True
        if wait.kind == "ended":
            self._give_up(wait, now)
            return
        took = self.take()
        if took is None:
            self._give_up(wait, now)
            if wait.outcome and wait.kind not in OF_CONSUMER:
                self.leave()
        elif took[0] == "end" and wait.kind == "once":
            wait.kind, wait.deadline = "ended", None
            self._give_up(wait, now)
        else:
            wait.outcome = ("end", None) if wait.kind == "loop" and took[0] == "end" else took
            if wait.kind not in OF_CONSUMER:
                self.leave()

    def _give_up(self, wait: Wait, now: int) -> None:
        if wait.deadline is None and wait.timeout is not None:
            wait.deadline = now + wait.timeout
        if wait.deadline is not None and wait.deadline <= now:
            wait.outcome = ("timeout", None)


# The real ones


class Plain:
    """A stream of its own."""

    gauge: Gauge | None = None

    def __init__(self, full: Callable[[bool], None]) -> None:
        stream = WritableConsumableStream[Any]()
        self.stream = self.view = stream
        self.write = stream.write
        self.write_deferred = stream.write_deferred
        self.write_tracked = stream.write_tracked
        self.close, self.kill = stream.close, stream.kill
        self.write_to_consumer = stream.write_to_consumer
        self.close_consumer, self.kill_consumer = stream.close_consumer, stream.kill_consumer

    def write_elsewhere(self) -> None:
        """Nowhere else."""

    def count(self) -> int:
        return self.stream.get_consumer_count()

    def backpressure(self) -> int:
        return self.stream.get_backpressure()


class Demuxed:
    """One stream of a demux, beside another."""

    def __init__(self, full: Callable[[bool], None]) -> None:
        self.gauge = Gauge(LIMIT, full, SIZE_LIMIT)
        self.demux = demux = StreamDemux[Any](self.gauge)
        self.view: Any = demux.stream("x")
        self.write_to_consumer = demux.write_to_consumer
        self.close_consumer, self.kill_consumer = demux.close_consumer, demux.kill_consumer

    def write(self, value: Any) -> bool:
        return self.demux.write("x", value)

    def write_deferred(self, size: int, make: Callable[[], Any], weight: int) -> bool:
        return self.demux.write_deferred("x", size, make, weight)

    def write_tracked(self, value: Any, done: Callable[[], None]) -> bool:
        return self.demux.write_tracked("x", value, done)

    def close(self, value: Any) -> None:
        self.demux.close("x", value)

    def kill(self, value: Any) -> None:
        self.demux.kill("x", value)

    def write_elsewhere(self) -> None:
        demux = self.demux
        assert not demux.write("y", "lost")
        assert not demux.write_deferred("y", 1, lambda: "lost")
        demux.write_payload("y", b"lost", lambda data: data)
        demux.close("y", "lost")
        demux.kill("y", "lost")
        demux.write_to_consumer(10_000, "lost")
        demux.close_consumer(10_000)
        demux.kill_consumer(10_000)
        assert demux.get_consumer_stats(10_000) is None
        assert demux.get_consumer_backpressure(10_000) == 0
        assert not demux.has_consumer_all(10_000)

    def count(self) -> int:
        assert self.demux.get_consumer_count_all() == self.demux.get_consumer_count("x")
        return self.demux.get_consumer_count("x")

    def backpressure(self) -> int:
        return self.demux.get_backpressure("x")


# Programs

NUMBER = st.integers(0, 3)
"""A consumer: this one, modulo how many there are."""
TIMEOUT = st.sampled_from([None, None, 0, 10, 25, 60])
STEPS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("consumer"), TIMEOUT),
    st.tuples(st.just("write"), st.integers(1, LIMIT + 2)),
    st.tuples(st.just("write"), st.integers(1, LIMIT + 2)),
    st.tuples(st.just("write tracked")),
    st.tuples(st.just("write deferred"), st.sampled_from([1, 90, 300]), st.booleans()),
    st.tuples(st.just("write to"), NUMBER),
    st.tuples(st.just("write elsewhere")),
    st.tuples(st.just("next"), NUMBER, TIMEOUT, st.booleans()),
    st.tuples(st.just("next"), NUMBER, TIMEOUT, st.booleans()),
    st.tuples(st.just("next"), NUMBER, TIMEOUT, st.booleans()),
    st.tuples(st.just("of stream"), st.sampled_from(["next of stream", "once"]), TIMEOUT),
    st.tuples(st.just("cancel"), NUMBER),
    st.tuples(st.just("return"), NUMBER),
    st.tuples(st.just("drop"), NUMBER),
    st.tuples(st.just("close"), st.none() | NUMBER),
    st.tuples(st.just("kill"), st.none() | NUMBER),
    st.tuples(st.just("advance"), st.sampled_from([5, 10, 50])),
)
PROGRAMS = st.lists(
    st.tuples(STEPS, st.sampled_from([True, True, False])), min_size=15, max_size=60
)
"""Steps, and whether all that can happen happens before the next."""


class Program:
    """Runs steps on a real stream and on lists, and compares."""

    def __init__(self, make: Callable[[Callable[[bool], None]], Any], clock: testing.Clock) -> None:
        self.clock = clock
        self.changes: list[bool] = []
        self.real = make(self.changes.append)
        self.now = 0
        self.written = 0
        self.readers: list[Reader] = []
        self.consumers: dict[Reader, Any] = {}
        self.tasks: dict[Reader, asyncio.Task[Any]] = {}
        self.tracked: list[tuple[Item, list[int]]] = []
        self.deferred: list[tuple[Item, list[int]]] = []
        self.large = False
        self.expected_changes: list[bool] = []

    async def run(self, steps: list[tuple[tuple[Any, ...], bool]]) -> None:
        begun = [(("consumer", None), True), (("consumer", 25), True)]
        for (name, *arguments), settle in [*begun, *steps, (("advance", 1000), True)]:
            step = getattr(self, name.replace(" ", "_") + "_")
            done = step(*arguments)
            if done is not None:
                await done
            self.note_fullness()
            if settle:
                await self.settle()
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.consumers.clear()
        self.tasks.clear()
        assert self.real.count() == 0, "those that nobody holds are gone"

    # What everything is compared with

    @property
    def attached(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.attached]

    def reader(self, number: int) -> Reader | None:
        alive = [*self.consumers]
        return alive[number % len(alive)] if alive else None

    def put(self, item: Item) -> None:
        for reader in self.attached:
            reader.put(item)
            self.note_fullness()

    def note_fullness(self) -> None:
        """Follow what a gauge says: it is full with one full consumer, or with too many bytes."""
        size = sum(item.weight for reader in self.readers for item in reader.queue)
        self.large = size > SIZE_LIMIT or (self.large and size > SIZE_LIMIT // 2)

    @property
    def full(self) -> bool:
        return self.large or any(reader.full for reader in self.readers)

    async def settle(self) -> None:
        for reader in self.readers:
            reader.turn(self.now)
        await self.clock.settle()
        self.compare()

    def compare(self) -> None:
        for reader in self.readers:
            self.compare_task(reader)
        for reader, consumer in self.consumers.items():
            assert consumer.get_backpressure() == len(reader.queue)
            assert consumer.is_alive == (not reader.removed and reader.end is None)
        attached = self.attached
        assert self.real.count() == len(attached)
        assert self.real.backpressure() == max((len(r.queue) for r in attached), default=0)
        for item, done in self.tracked:
            assert len(done) == (not item.holders)
        for item, made in self.deferred:
            assert len(made) == item.made, "a value is made once, when it is first taken"
        if self.real.gauge is not None:
            self.note_fullness()
            sizes = [item.weight for reader in self.readers for item in reader.queue]
            assert self.real.gauge.size == sum(sizes)
            assert (self.changes[-1:] == [True]) == self.full
            assert self.changes == [i % 2 == 0 for i in range(len(self.changes))]

    def compare_task(self, reader: Reader) -> None:
        wait, task = reader.wait, self.tasks.get(reader)
        if wait is None or task is None:
            assert wait is None
            assert task is None
            return
        assert task.done() == (wait.outcome is not None), (wait, task)
        if task.done():
            assert outcome(task) == wait.outcome
            reader.wait = None
            del self.tasks[reader]
            if reader not in self.consumers:
                reader.leave()
                self.readers.remove(reader)

    # Steps

    def consumer_(self, timeout: int | None) -> None:
        if len(self.consumers) == 4:
            return
        reader = Reader(len(self.readers), timeout)
        self.consumers[reader] = self.real.view.create_consumer(timeout)
        self.readers.append(reader)

    def value(self) -> int:
        self.written += 1
        return self.written

    def write_(self, count: int) -> None:
        for _ in range(count):
            value = self.value()
            assert self.real.write(value) == bool(self.attached)
            self.put(Item("value", value))

    def write_tracked_(self) -> None:
        done: list[int] = []
        item = Item("tracked", self.value())
        assert self.real.write_tracked(item.value, lambda: done.append(1)) == bool(self.attached)
        self.put(item)
        self.tracked.append((item, done))

    def write_deferred_(self, size: int, nothing: bool) -> None:
        made: list[int] = []
        value = NO_VALUE if nothing else self.value()

        def make() -> Any:
            made.append(1)
            return value

        weight = 1 if len(self.attached) == 1 else 3
        item = Item("deferred", value, size * weight)
        assert self.real.write_deferred(size, make, 3) == bool(self.attached)
        self.put(item)
        self.deferred.append((item, made))

    def write_to_(self, number: int) -> None:
        reader = self.reader(number)
        if reader is not None:
            value = self.value()
            self.real.write_to_consumer(self.consumers[reader].id, value)
            if reader.attached:
                reader.put(Item("value", value))

    def write_elsewhere_(self) -> None:
        self.real.write_elsewhere()

    def next_(self, number: int, timeout: int | None, by_loop: bool) -> None:
        reader = self.reader(number)
        if reader is None or reader.wait is not None:
            return
        consumer = self.consumers[reader]
        if by_loop:
            reader.wait = Wait(reader.timeout, "loop")
            self.tasks[reader] = asyncio.create_task(consumer.__anext__())
        else:
            reader.wait = Wait(reader.timeout if timeout is None else timeout)
            self.tasks[reader] = asyncio.create_task(consumer.next(timeout))

    def of_stream_(self, kind: str, timeout: int | None) -> None:
        reader = Reader(len(self.readers), timeout, attached=False, wait=Wait(timeout, kind))
        view = self.real.view
        made = view.once(timeout) if kind == "once" else view.next(timeout)
        self.readers.append(reader)
        self.tasks[reader] = asyncio.create_task(made)

    async def cancel_(self, number: int) -> None:
        waiting = [reader for reader in self.readers if reader.wait is not None]
        if not waiting:
            return
        reader = waiting[number % len(waiting)]
        task = self.tasks.pop(reader)
        if reader.wait is None or reader.wait.outcome is not None:
            self.tasks[reader] = task
            return
        reader.wait = None
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del task  # It holds the consumer if it had not begun.
        for other in self.readers:  # The loop has turned.
            other.turn(self.now)
        if reader not in self.consumers:
            reader.leave()
            self.readers.remove(reader)
        await self.settle()

    def return_(self, number: int) -> None:
        reader = self.reader(number)
        if reader is not None and reader.wait is None:
            self.consumers[reader].return_()
            if not reader.removed:
                reader.leave()

    def drop_(self, number: int) -> None:
        reader = self.reader(number)
        if reader is not None:
            del self.consumers[reader]
            if reader.wait is None:
                reader.leave()
                self.readers.remove(reader)

    def close_(self, number: int | None) -> None:
        reader = None if number is None else self.reader(number)
        if reader is not None:
            self.real.close_consumer(self.consumers[reader].id, "closed")
        else:
            self.real.close("closed")
        for each in self.attached if reader is None else [reader]:
            if each.attached:
                each.put(Item("end", "closed"))

    def kill_(self, number: int | None) -> None:
        reader = None if number is None else self.reader(number)
        if reader is not None:
            self.real.kill_consumer(self.consumers[reader].id, "killed")
        else:
            self.real.kill("killed")
        for each in self.attached if reader is None else [reader]:
            if each.attached:
                each.kill("killed")

    async def advance_(self, milliseconds: int) -> None:
        await self.settle()
        while (
            next_due := self.next_deadline()
        ) is not None and next_due <= self.now + milliseconds:
            milliseconds -= next_due - self.now
            await self.move(next_due - self.now)
        await self.move(milliseconds)

    def next_deadline(self) -> int | None:
        waits = [reader.wait for reader in self.readers if reader.wait is not None]
        due = [wait.deadline for wait in waits if wait.deadline is not None]
        return min((each for each in due if each > self.now), default=None)

    async def move(self, milliseconds: int) -> None:
        await self.clock.advance(milliseconds / 1000)
        self.now += milliseconds
        await self.settle()


def outcome(task: asyncio.Task[Any]) -> tuple[str, Any]:
    """What a wait came to."""
    error = task.exception()
    if isinstance(error, TimeoutError):
        return "timeout", None
    if isinstance(error, StopAsyncIteration):
        return "end", None
    if error is not None:
        raise error
    result = task.result()
    if hasattr(result, "done"):
        return ("end" if result.done else "value"), result.value
    return "value", result


@pytest.mark.parametrize("make", [Plain, Demuxed])
@given(steps=PROGRAMS)
def test_every_consumer_is_a_list(make: Any, steps: list[Any]) -> None:
    on_a_clock(lambda clock: Program(make, clock).run(steps))
