"""One suite over all brokers that store, against real backends: the contract of `StoringBroker`.

An engine joins with a line in `ENGINES`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, cast

import pytest

from broker_servers import BackendServers, running_backend
from socketcluster.brokers.base import Broker
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.brokers.storing import Page, Position, Retention, StoringBroker
from socketcluster.errors import BrokerError
from socketcluster.protocol.envelopes import STORED, open_envelope, read_stored
from support import soon, until


class Engine(NamedTuple):
    """A kind of broker.

    Attributes:
        backend: the name of `running_backend`; None if there is none, and no outage.
        options: of its servers.
        parameters: of the URL, behind its prefix.
        joins_rules: whether two rules, of two versions of an application, have one history.
    """

    backend: str | None
    options: tuple[str, ...] = ()
    parameters: str = ""
    joins_rules: bool = True


ENGINES = {
    "memory": Engine(None),
    "zeromq": Engine("zeromq"),
    "redis": Engine("redis"),
    "redis-cluster": Engine("redis-cluster"),
    "nats": Engine("nats", ("-js",), joins_rules=False),
    "nats-cluster": Engine("nats-cluster", ("-js",), "&replicas=3", joins_rules=False),
}
NAMES = (
    "a{b}c",
    "{a",
    "a}",
    "{}",
    "}{",
    "{{a}}",
    "a b",
    " ",
    "é",
    "日本 🎈",
    "a.b",
    "*",
    ">",
    "a:b",
    "a/b?c=d",
    "%7B",
    "a\0",
    "\r\n",
    "x" * 1000,
    "é" * 255,
)
KEEP_ALL = Retention(1000, 60)


class Listener:
    """Records what a broker delivers: stored publishes by channel, and plain ones."""

    def __init__(self) -> None:
        self.stored: dict[str, list[tuple[str, int, int, bytes]]] = {}
        self.plain: list[tuple[str, bytes]] = []
        self.gaps = 0

    def message_received(self, channel: str, payload: bytes) -> None:
        opened = open_envelope(payload)
        if opened is None:
            self.plain.append((channel, payload))
            return
        kind, fields, data = opened
        assert kind == STORED
        place = read_stored(fields)
        assert place is not None
        self.stored.setdefault(channel, []).append((*place, data))

    def backend_message_received(self, channel: str, payload: bytes) -> None:
        self.message_received(channel, payload)

    def broker_failed(self, error: BaseException) -> None:
        raise AssertionError from error

    def backend_lost(self, error: BaseException, channels: Any = None, server: Any = None) -> None:
        pass

    def backend_recovered(
        self, duration: float, error: BaseException, channels: Any = None, server: Any = None
    ) -> None:
        self.gaps += 1


class Made:
    """A broker and its listener."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.storing = cast("StoringBroker", broker)
        self.listener = Listener()
        broker.attach(self.listener)

    async def subscribe(self, *channels: str) -> None:
        for channel in channels:
            await done(self.broker.subscribe(channel))

    async def store(
        self,
        channel: str,
        *payloads: bytes,
        retention: Retention = KEEP_ALL,
        id: str | None = None,
    ) -> None:
        """Store payloads in one turn, and wait until the backend has them."""
        stored = [self.storing.publish_stored(channel, p, retention, id) for p in payloads]
        await soon(asyncio.gather(*(done(item) for item in stored)))

    async def history(
        self,
        channel: str,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        retention: Retention = KEEP_ALL,
    ) -> Page:
        page = await soon(self.storing.history(channel, retention, since, limit, reverse))
        assert isinstance(page, Page)
        return page

    async def top(self, channel: str) -> Position:
        return (await self.history(channel, limit=0)).top

    def delivered(self, channel: str) -> list[bytes]:
        return [payload for *_, payload in self.listener.stored.get(channel, [])]


async def done(operation: Awaitable[None] | None) -> None:
    if operation is not None:
        await soon(operation)


def payloads_of(page: Page) -> list[bytes]:
    return [message.payload for message in page.messages]


async def expired(made: Made, channel: str, retention: Retention) -> None:
    """Wait until all publishes of a channel have expired."""
    for _ in range(200):
        if not (await made.history(channel, retention=retention)).messages:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("The publishes do not expire")


def numbered(count: int, name: str = "") -> list[bytes]:
    return [f'"{name}{number}"'.encode() for number in range(count)]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture(scope="module")
def backend(engine: Engine) -> Iterator[BackendServers | None]:
    """The engine's running backend; None for the in-process broker."""
    if engine.backend is None:
        yield None
        return
    with running_backend(engine.backend, engine.options) as servers:
        yield servers


@pytest.fixture
def url(engine: Engine, backend: BackendServers | None) -> str:
    """The backend's URL, with a prefix for the test."""
    if backend is None:
        return "simple:"
    return f"{backend.url}?prefix=t{secrets.token_hex(6)}{engine.parameters}"


MakeBroker = Callable[..., Awaitable[Made]]


@pytest.fixture
async def make(url: str) -> AsyncIterator[MakeBroker]:
    """Make a started broker on the backend, of another application with a suffix."""
    started: list[Made] = []

    async def make(suffix: str = "") -> Made:
        base, *rest = url.split("&")
        made = Made(create_broker("&".join((base + suffix, *rest)) if suffix else url))
        started.append(made)
        await soon(made.broker.start())
        await until(lambda: made.broker.ready)
        return made

    yield make
    for item in started:
        await item.broker.close()


Pair = tuple[Made, Made]


@pytest.fixture
async def pair(make: MakeBroker) -> Pair:
    """Two brokers of an application; twice the same one for the in-process broker."""
    first = await make()
    return first, first if isinstance(first.broker, SimpleBroker) else await make()


async def test_every_process_receives_stored_publishes_with_their_places(pair: Pair) -> None:
    """The publisher too, and those that store and those that read agree on the places."""
    a, b = pair
    start = await a.top("news")
    await a.subscribe("news")
    await b.subscribe("news")
    await a.store("news", *numbered(3, "a"))
    await b.store("news", *numbered(3, "b"))
    expected = [*numbered(3, "a"), *numbered(3, "b")]
    for made in pair:
        await until(lambda made=made: len(made.delivered("news")) >= 6)  # type: ignore[misc]
        assert made.delivered("news") == expected
    page = await b.history("news")
    assert payloads_of(page) == expected
    assert page.complete
    chain = start.offset
    for message in page.messages:
        assert message.previous == chain
        assert message.offset > chain
        chain = message.offset
    assert page.top == Position(start.epoch, chain)
    places = [(page.top.epoch, *message) for message in page.messages]
    assert a.listener.stored["news"] == b.listener.stored["news"] == places
    assert await a.history("news") == page


async def test_one_who_is_not_subscribed_receives_nothing(pair: Pair) -> None:
    a, b = pair
    await b.subscribe("b")
    await a.store("a", b"1")
    await a.store("b", b"2")
    await until(lambda: b.delivered("b") == [b"2"])
    assert b.delivered("a") == []
    await done(b.broker.unsubscribe("b"))
    await a.store("b", b"3")
    await a.store("a", b"4")
    await b.subscribe("end")
    await a.store("end", b"5")
    await until(lambda: b.delivered("end") == [b"5"])
    assert b.delivered("b") == [b"2"]
    assert payloads_of(await b.history("b")) == [b"2", b"3"]


async def test_publishers_at_once(pair: Pair) -> None:
    """One order for all, and each publisher's own order within it."""
    for made in pair:
        await made.subscribe("news")

    async def publisher(made: Made, name: str) -> None:
        for number in range(10):
            await made.store("news", f"{name} {number}".encode())

    await asyncio.gather(*(publisher(pair[n % 2], f"p{n}") for n in range(20)))
    page = await pair[0].history("news")
    payloads = payloads_of(page)
    assert len(payloads) == 200
    for n in range(20):
        own = [payload for payload in payloads if payload.startswith(b"p%d " % n)]
        assert own == [b"p%d %d" % (n, number) for number in range(10)]
    for made in pair:
        await until(lambda made=made: len(made.delivered("news")) >= 200)  # type: ignore[misc]
        assert made.delivered("news") == payloads
        offsets = [offset for _, offset, _, _ in made.listener.stored["news"]]
        assert offsets == [message.offset for message in page.messages]


async def test_a_turn_with_many_channels_keeps_the_order_of_each(pair: Pair) -> None:
    a, b = pair
    channels = [f"c{number}" for number in range(50)]
    await b.subscribe(*channels)
    expected = numbered(20)
    stored = [
        a.storing.publish_stored(channel, payload, KEEP_ALL)
        for payload in expected
        for channel in channels
    ]
    await asyncio.gather(*(done(item) for item in stored))
    for channel in channels:
        await until(lambda channel=channel: len(b.delivered(channel)) >= 20)  # type: ignore[misc]
        assert b.delivered(channel) == expected
        assert payloads_of(await b.history(channel)) == expected


async def test_two_rules_for_a_channel_in_one_turn_keep_its_order(
    engine: Engine, pair: Pair
) -> None:
    """As two versions of an application have them."""
    a, b = pair
    await b.subscribe("a")
    small, large = Retention(10, 60), Retention(20, 50)
    rules = [small, small, large, small, large, large]
    payloads = numbered(len(rules))
    stored = [
        a.storing.publish_stored("a", payload, rule)
        for payload, rule in zip(payloads, rules, strict=True)
    ]
    await asyncio.gather(*(done(item) for item in stored))
    await until(lambda: len(b.delivered("a")) >= len(rules))
    of_rule = {
        rule: [p for p, r in zip(payloads, rules, strict=True) if r == rule]
        for rule in (small, large)
    }
    if engine.joins_rules:
        of_rule = dict.fromkeys(of_rule, payloads)
    for rule, expected in of_rule.items():
        assert [payload for payload in b.delivered("a") if payload in expected] == expected
        assert payloads_of(await b.history("a", retention=rule))[-10:] == expected


async def test_plain_publishes_beside_stored_ones(pair: Pair) -> None:
    """They are delivered as ever, without an envelope, and are not stored."""
    a, b = pair
    await b.subscribe("news")
    await a.store("news", b'"stored"')
    await done(a.broker.publish("news", b'"plain"'))
    await a.store("news", b'"stored too"')
    # Both in one turn.
    both = [
        a.broker.publish("news", b'"plain too"'),
        a.storing.publish_stored("news", b'"last"', KEEP_ALL),
    ]
    await asyncio.gather(*(done(item) for item in both))
    await until(lambda: len(b.delivered("news")) == 3 and len(b.listener.plain) == 2)
    assert b.listener.plain == [("news", b'"plain"'), ("news", b'"plain too"')]
    assert b.delivered("news") == [b'"stored"', b'"stored too"', b'"last"']
    assert payloads_of(await a.history("news")) == b.delivered("news")


async def test_any_bytes_up_to_half_a_megabyte(pair: Pair) -> None:
    a, b = pair
    await b.subscribe("a")
    payloads = [b"", b"\x00\xff\r\n", b"\xc1\x02\x00", bytes(512 * 1024), b"\xe9" * 1000]
    await a.store("a", *payloads)
    await until(lambda: len(b.delivered("a")) == len(payloads))
    assert b.delivered("a") == payloads
    assert payloads_of(await b.history("a")) == payloads


async def test_a_page_of_several_megabytes(pair: Pair) -> None:
    a, b = pair
    payloads = [bytes([number]) * 200_000 for number in range(20)]
    for payload in payloads:
        await a.store("a", payload)
    for reverse in (False, True):
        page = await b.history("a", reverse=reverse)
        assert payloads_of(page) == (payloads[::-1] if reverse else payloads)
    pages = await asyncio.gather(*(b.history("a", limit=8) for _ in range(5)))
    assert all(payloads_of(page) == payloads[:8] for page in pages)


async def test_a_thousand_messages(pair: Pair) -> None:
    a, b = pair
    payloads = numbered(1000)
    await a.store("a", *payloads)
    page = await b.history("a")
    assert payloads_of(page) == payloads
    assert page.top.offset == page.messages[-1].offset


async def test_names_are_exact(pair: Pair) -> None:
    a, b = pair
    await b.subscribe(*NAMES)
    for name in NAMES:
        await a.store(name, name.encode(), id="one")
    for name in NAMES:
        await until(lambda name=name: name in b.listener.stored)  # type: ignore[misc]
        page = await b.history(name)
        assert payloads_of(page) == b.delivered(name) == [name.encode()]
        assert b.listener.stored[name][0][:2] == page.top


async def test_an_application_has_its_own_histories_and_values(make: MakeBroker) -> None:
    a, other = await make(), await make("x")
    await a.subscribe("a")
    await other.subscribe("a")
    await a.store("a", b"1", id="one")
    await other.store("a", b"2", id="one")
    await a.storing.keep({"k": b"1"}, 60)
    await other.storing.keep({"k": b"2"}, 60)
    for made, payload in ((a, b"1"), (other, b"2")):
        await until(lambda made=made: bool(made.delivered("a")))  # type: ignore[misc]
        assert payloads_of(await made.history("a")) == made.delivered("a") == [payload]
        assert await made.storing.take("k") == payload


async def test_a_channel_without_a_history_gets_an_epoch(pair: Pair) -> None:
    """It keeps it, so that what is published later is behind that position."""
    a, b = pair
    page = await a.history("empty")
    assert page.messages == []
    assert page.complete
    assert page.top.epoch
    assert len(page.top.epoch) <= 200
    assert page.top.epoch.isascii()
    assert await b.history("empty") == page
    assert (await b.history("other")).top.epoch != page.top.epoch
    await b.store("empty", b"1")
    later = await a.history("empty", since=page.top)
    assert payloads_of(later) == [b"1"]
    assert later.messages[0].previous == page.top.offset
    assert later.complete
    assert later.top.epoch == page.top.epoch


async def test_reading_since_a_position(pair: Pair) -> None:
    a, b = pair
    payloads = numbered(5)
    await a.store("a", *payloads)
    full = await b.history("a")
    epoch = full.top.epoch
    for number, message in enumerate(full.messages):
        page = await b.history("a", since=Position(epoch, message.offset))
        assert payloads_of(page) == payloads[number + 1 :]
        assert page.complete
        assert page.top == full.top
        page = await b.history("a", since=Position(epoch, message.previous))
        assert page.messages == full.messages[number:]
        assert page.complete


async def test_limits(pair: Pair) -> None:
    a, b = pair
    payloads = numbered(5)
    await a.store("a", *payloads)
    full = await b.history("a")
    assert await b.history("a", limit=5) == await b.history("a", limit=10**9) == full
    position: Position | None = None
    read: list[bytes] = []
    for length in (2, 2, 1, 0):
        page = await b.history("a", since=position, limit=2)
        assert len(page.messages) == length
        assert page.complete
        assert page.top == full.top
        read += payloads_of(page)
        if page.messages:
            position = Position(page.top.epoch, page.messages[-1].offset)
    assert read == payloads
    nothing = await b.history("a", limit=0)
    assert (nothing.messages, nothing.top) == ([], full.top)
    nothing = await b.history("a", limit=0, since=Position(full.top.epoch, 0), reverse=True)
    assert (nothing.messages, nothing.top) == ([], full.top)


async def test_reading_backwards(pair: Pair) -> None:
    """From the newest publish before a position on; `previous` of the last one goes on."""
    a, b = pair
    payloads = numbered(5)
    await a.store("a", *payloads)
    full = await b.history("a")
    page = await b.history("a", reverse=True)
    assert page.messages == full.messages[::-1]
    assert page.top == full.top
    assert page.complete
    assert payloads_of(await b.history("a", limit=2, reverse=True)) == payloads[:-3:-1]
    position: Position | None = None
    read: list[bytes] = []
    for length in (2, 2, 1, 0):
        page = await b.history("a", since=position, limit=2, reverse=True)
        assert len(page.messages) == length
        assert page.complete
        read += payloads_of(page)
        if page.messages:
            position = Position(page.top.epoch, page.messages[-1].previous)
    assert read == payloads[::-1]


async def test_only_the_newest_are_kept(pair: Pair) -> None:
    """A page from before the oldest is not complete; one from its very place is."""
    a, b = pair
    three = Retention(3, 60)
    await a.store("a", *numbered(3), retention=three)
    first = await b.history("a", retention=three)
    for payload in numbered(3, "x"):
        await a.store("a", payload, retention=three)
    second = await b.history("a", retention=three)
    assert payloads_of(second) == numbered(3, "x")
    assert second.complete
    assert second.top.epoch == first.top.epoch
    assert second.messages[0].previous == first.top.offset
    exact = await b.history("a", since=first.top, retention=three)
    assert exact == second
    for message in first.messages:
        page = await b.history(
            "a", since=Position(first.top.epoch, message.previous), retention=three
        )
        assert page.messages == second.messages
        assert page.top == second.top
        assert not page.complete
    backwards = await b.history("a", since=first.top, retention=three, reverse=True)
    assert backwards.messages == []
    assert not backwards.complete


async def test_one_is_kept(pair: Pair) -> None:
    a, b = pair
    one = Retention(1, 60)
    await a.store("a", *numbered(10), retention=one)
    page = await b.history("a", retention=one)
    assert payloads_of(page) == numbered(10)[-1:]
    assert page.messages[0].offset == page.top.offset > page.messages[0].previous > 0


async def test_publishes_expire(pair: Pair) -> None:
    """Positions stay: a reader who has everything misses nothing."""
    a, b = pair
    short = Retention(100, 1)
    start = await a.history("a", retention=short)
    await a.store("a", *numbered(3), retention=short)
    full = await b.history("a", since=start.top, retention=short)
    assert payloads_of(full) == numbered(3)
    assert full.complete
    await expired(b, "a", short)
    page = await b.history("a", since=start.top, retention=short)
    assert page.messages == []
    assert page.top == full.top
    assert not page.complete
    page = await b.history("a", since=full.top, retention=short)
    assert page == Page([], full.top, True)
    await a.store("a", b"new", retention=short)
    page = await b.history("a", since=full.top, retention=short)
    assert payloads_of(page) == [b"new"]
    assert page.messages[0].previous == full.top.offset
    assert page.complete


async def test_a_position_of_another_epoch(pair: Pair) -> None:
    """The page is read as without one, and is not complete."""
    a, b = pair
    await a.store("a", *numbered(3))
    full = await b.history("a")
    for offset in (0, full.messages[1].offset, full.top.offset, 10**9):
        for epoch in ("another", "", "é" * 50, full.top.epoch + "0"):
            page = await b.history("a", since=Position(epoch, offset))
            assert page == full._replace(complete=False)
    page = await b.history("a", since=Position("another", 1), limit=2, reverse=True)
    assert page.messages == full.messages[:0:-1]
    assert not page.complete


async def test_a_position_from_the_future(pair: Pair) -> None:
    a, b = pair
    await a.store("a", *numbered(3))
    top = await b.top("a")
    for ahead in (1, 1000, 2**60):
        page = await b.history("a", since=Position(top.epoch, top.offset + ahead))
        assert page == Page([], top, False)


async def test_an_id_is_stored_and_sent_once(pair: Pair) -> None:
    """By whichever process, in one turn or later. Other channels have ids of their own."""
    a, b = pair
    await b.subscribe("a", "other")
    await a.store("a", b"1", b"1 again", id="one")
    await a.store("a", b"1 later", id="one")
    await b.store("a", b"1 of another", id="one")
    await asyncio.gather(*(made.store("a", b"2", id="two") for made in pair * 5))
    await a.store("other", b"3", id="one")
    await a.store("a", b"4", id="é{ }\n" * 12)
    await a.store("a", b"5")
    await a.store("a", b"5")
    await until(lambda: len(b.delivered("a")) >= 5 and bool(b.delivered("other")))
    expected = [b"1", b"2", b"4", b"5", b"5"]
    assert payloads_of(await a.history("a")) == b.delivered("a") == expected
    assert b.delivered("other") == [b"3"]
    stored = await a.history("a")
    assert [message.previous for message in stored.messages[1:]] == [
        message.offset for message in stored.messages[:-1]
    ]


async def test_an_epoch_is_renewed_once(pair: Pair) -> None:
    """If the channel went back behind what was seen, and then by one process."""
    a, b = pair
    await a.store("a", *numbered(3))
    top = await a.top("a")
    ahead = Position(top.epoch, top.offset + 100)
    asked = (made.storing.renew_epoch("a", KEEP_ALL, ahead) for made in pair * 5)
    renewed = set(await soon(asyncio.gather(*asked)))
    assert len(renewed) == 1
    (position,) = renewed
    assert position.epoch != top.epoch
    assert await b.top("a") == await a.top("a") == position
    assert await a.storing.renew_epoch("a", KEEP_ALL, ahead) == position
    assert not (await b.history("a", since=ahead)).complete
    await b.subscribe("a")
    await a.store("a", b"new")
    await until(lambda: b.delivered("a") == [b"new"])
    epoch, offset, previous, _ = b.listener.stored["a"][0]
    assert (epoch, previous) == position
    page = await b.history("a", since=position)
    assert payloads_of(page) == [b"new"]
    assert page.complete
    assert page.top == Position(epoch, offset)


async def test_an_epoch_stays_if_nothing_is_lost(pair: Pair) -> None:
    a, b = pair
    await a.store("a", *numbered(3))
    top = await a.top("a")
    for epoch, offset in (top, (top.epoch, top.offset - 1), (top.epoch, 0), ("another", 10**9)):
        seen = Position(epoch, offset)
        assert await b.storing.renew_epoch("a", KEEP_ALL, seen) == top
    assert payloads_of(await b.history("a", since=Position(top.epoch, 0))) == numbered(3)
    new = await b.storing.renew_epoch("new", KEEP_ALL, Position("another", 5))
    assert await a.top("new") == new


async def test_a_kept_value_is_taken_once(pair: Pair) -> None:
    a, b = pair
    values = {f"{name}{number}": b"\x00\xff" * number for number, name in enumerate(NAMES)}
    await soon(a.storing.keep(values, 60))
    for key, value in values.items():
        taken = await soon(asyncio.gather(*(made.storing.take(key) for made in pair * 3)))
        assert sorted(taken, key=lambda item: item is None) == [value, None, None, None, None, None]
    assert await b.storing.take("a") is None
    await a.storing.keep({}, 60)


async def test_a_kept_value_is_replaced(pair: Pair) -> None:
    a, b = pair
    await a.storing.keep({"k": b"1", "other": b"2"}, 60)
    await b.storing.keep({"k": b"3"}, 60)
    assert await a.storing.take("k") == b"3"
    assert await a.storing.take("k") is None
    assert await b.storing.take("other") == b"2"
    await a.storing.keep({"k": b"4"}, 60)
    assert await b.storing.take("k") == b"4"


async def test_a_kept_value_expires(pair: Pair) -> None:
    """A later `keep` prolongs it."""
    a, b = pair
    await a.storing.keep({"probe": b"1", "prolonged": b"1"}, 1)
    await a.storing.keep({"prolonged": b"2"}, 60)
    async with asyncio.timeout(20):
        while (value := await b.storing.take("probe")) is not None:
            # Taking removes it: this one expires a second after the last look.
            await a.storing.keep({"probe": value}, 0.2)
            await asyncio.sleep(0.3)
    assert await b.storing.take("prolonged") == b"2"


async def test_a_large_batch_of_kept_values(pair: Pair) -> None:
    a, b = pair
    values = {f"session {number}": b"%d" % number * 200 for number in range(3000)}
    await soon(a.storing.keep(values, 60))
    for number in (0, 1499, 2999):
        key = f"session {number}"
        assert await b.storing.take(key) == values[key]


async def test_channels_and_kept_values_share_no_names(pair: Pair) -> None:
    a, b = pair
    await a.store("name", b"1", id="name")
    await a.storing.keep({"name": b"2"}, 60)
    assert payloads_of(await b.history("name")) == [b"1"]
    assert await b.storing.take("name") == b"2"
    assert payloads_of(await b.history("name")) == [b"1"]


@pytest.fixture(params=[name for name, engine in ENGINES.items() if engine.backend is not None])
def away(request: pytest.FixtureRequest) -> Iterator[tuple[BackendServers, str]]:
    """A backend of the test's own that can store, to be killed, and its URL."""
    engine = ENGINES[request.param]
    assert engine.backend is not None
    with running_backend(engine.backend, engine.options) as servers:
        fast = "&heartbeat_interval=0.1&heartbeat_timeout=1"
        yield servers, f"{servers.url}?prefix=t{fast}{engine.parameters}"


@pytest.mark.parametrize("policy", ["local", "fail"])
async def test_during_an_outage_nothing_is_stored_nor_delivered(
    away: tuple[BackendServers, str], policy: str
) -> None:
    servers, url = away
    made = [Made(create_broker(f"{url}&away={policy}")) for _ in range(2)]
    for item in made:
        await soon(item.broker.start())
        await until(lambda item=item: item.broker.ready)  # type: ignore[misc]
        await item.subscribe("a")
    a, b = made
    await a.store("a", b"before")
    await until(lambda: b.delivered("a") == [b"before"])
    servers.kill()
    # The first publish may be on its way when the link is lost.
    refused: list[bytes] = []
    while a.broker.ready or len(refused) < 3:
        refused.append(b"refused %d" % len(refused))
        with pytest.raises(BrokerError):
            await a.store("a", refused[-1])
    for request in (
        a.history("a"),
        a.storing.renew_epoch("a", KEEP_ALL, Position("e", 1)),
        a.storing.keep({"k": b"1"}, 60),
        a.storing.take("k"),
    ):
        with pytest.raises(BrokerError):
            await soon(request)
    servers.start()
    for item in made:
        await until(lambda item=item: item.broker.ready)  # type: ignore[misc]
        await until(lambda item=item: item.listener.gaps >= 1)  # type: ignore[misc]
    async with asyncio.timeout(60):  # The servers of a cluster elect leaders.
        while True:
            with suppress(BrokerError, TimeoutError):
                await a.top("a")
                break
    await a.store("a", b"after")
    for item in made:
        await until(lambda item=item: item.delivered("a")[-1] == b"after")  # type: ignore[misc]
        assert item.delivered("a") == [b"before", b"after"]
        assert payloads_of(await item.history("a"))[-1] == b"after"
        assert not set(refused) & set(payloads_of(await item.history("a")))
        await item.broker.close()
