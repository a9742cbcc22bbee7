"""Stored publishes in real Redis servers, and what other programs can do to them there."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from broker_servers import BackendServers, redis_cli, running_backend
from brokers.fakes import Reports
from socketcluster.brokers import redis_store, remote
from socketcluster.brokers.adapter import StoredPublish
from socketcluster.brokers.redis_keys import StoreKeys
from socketcluster.brokers.redis_scripts import PUBLISH
from socketcluster.brokers.redis_store import RedisStore
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.storing import Position, Retention
from socketcluster.errors import BrokerError
from socketcluster.protocol.envelopes import envelop_stored, open_envelope, read_stored
from support import soon, until

HUNDRED = Retention(100, 300.0)
DAY = 86_400_000


class Made:
    """A started broker, and what it reports."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.reports = Reports()
        broker.attach(self.reports)

    async def store(self, channel: str, *payloads: bytes, **options: Any) -> None:
        """Publish in one turn, and wait."""
        retention = options.pop("retention", HUNDRED)
        stored = [self.broker.publish_stored(channel, p, retention, **options) for p in payloads]
        await soon(asyncio.gather(*stored))

    async def read(self, channel: str, retention: Retention = HUNDRED, **options: Any) -> Any:
        return await soon(self.broker.history(channel, retention, **options))

    async def payloads(self, channel: str, **options: Any) -> list[bytes]:
        page = await self.read(channel, **options)
        return [message.payload for message in page.messages]

    def envelopes(self) -> list[tuple[int, int, bytes]]:
        """(Offset, previous, payload) of all stored publishes that were delivered."""
        return [self._open(message) for _, message in self.reports.received]

    def _open(self, message: bytes) -> tuple[int, int, bytes]:
        opened = open_envelope(message)
        assert opened is not None
        place = read_stored(opened[1])
        assert place is not None
        return place[1], place[2], opened[2]


@pytest.fixture(scope="module")
def backend() -> Iterator[BackendServers]:
    with running_backend("redis") as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[BackendServers]:
    with running_backend("redis-cluster") as servers:
        yield servers


Make = Callable[..., Awaitable[Made]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Made] = []

    async def start(servers: BackendServers, parameters: str = "") -> Made:
        made.append(Made(create_broker(f"{servers.url}?required=true{parameters}")))
        await soon(made[-1].broker.start())
        return made[-1]

    yield start
    for item in made:
        await soon(item.broker.close())
        assert item.reports.failures == []


@pytest.fixture
async def one(make: Make, backend: BackendServers) -> Made:
    return await make(backend)


@pytest.fixture
def channel() -> str:
    return f"chat/{secrets.token_hex(6)}"


@pytest.fixture
def cli(backend: BackendServers) -> Callable[..., str]:
    """Run a command in the server; error replies are its output."""
    return lambda *command: redis_cli(backend.nodes[0].port, *map(str, command)).strip()


Cli = Callable[..., str]


def stream_of(channel: str) -> str:
    return StoreKeys("sc:").of_channel(channel)[0]


def position_of(channel: str) -> str:
    return StoreKeys("sc:").of_channel(channel)[1]


# Publishing


async def test_publishes_are_numbered_stored_and_delivered_in_envelopes(
    one: Made, channel: str
) -> None:
    await soon(one.broker.subscribe(channel))
    await one.store(channel, b"a", b"b")
    await soon(one.broker.publish(channel, b"plain"))
    await until(lambda: len(one.reports.received) == 3)
    assert one.reports.received.pop() == (channel, b"plain")
    assert one.envelopes() == [(1, 0, b"a"), (2, 1, b"b")]
    page = await one.read(channel)
    assert page.messages == [(1, 0, b"a"), (2, 1, b"b")]
    assert page.top.offset == 2
    assert page.complete


async def test_a_channel_has_one_script_a_turn(one: Made, channel: str, cli: Cli) -> None:
    await one.store(channel, b"first")
    before = calls(cli, "evalsha")
    await one.store(channel, *[b"%d" % n for n in range(10)])
    assert calls(cli, "evalsha") == before + 1


def calls(cli: Cli, command: str) -> int:
    for line in cli("INFO", "commandstats").splitlines():
        if line.startswith(f"cmdstat_{command}:calls="):
            return int(line.split("=")[1].split(",")[0])
    return 0


async def test_very_many_publishes_are_stored_in_several_scripts_in_order(
    one: Made, channel: str, cli: Cli
) -> None:
    await one.store(channel, b"0")
    before = calls(cli, "evalsha")
    payloads = [b"%d" % n for n in range(1700)]
    await one.store(channel, *payloads, retention=Retention(10_000, 300.0))
    assert calls(cli, "evalsha") == before + 4
    assert await one.payloads(channel) == [b"0", *payloads]


async def test_large_publishes_are_stored_in_several_scripts(
    one: Made, channel: str, cli: Cli
) -> None:
    await one.store(channel, b"0")
    before = calls(cli, "evalsha")
    large = [bytes([n]) * (redis_store.MAX_BYTES * 3 // 5) for n in range(3)]
    await one.store(channel, *large, bytes(redis_store.MAX_BYTES + 1))
    assert calls(cli, "evalsha") == before + 4
    assert (await one.payloads(channel))[1:4] == large


async def test_the_size_is_exact_also_after_a_repeated_id(one: Made, channel: str) -> None:
    three = Retention(3, 300.0)
    await one.store(channel, b"a", retention=three, id="a")
    await one.store(channel, *b"bcdef".split(b"|"), retention=three)
    stored = [
        one.broker.publish_stored(channel, payload, three, id)
        for payload, id in ((b"g", None), (b"h", None), (b"i", None), (b"j", None), (b"A", "a"))
    ]
    await soon(asyncio.gather(*stored))
    assert await one.payloads(channel) == [b"h", b"i", b"j"]


async def test_other_retentions_of_a_turn_keep_the_order(one: Made, channel: str) -> None:
    retentions = (HUNDRED, Retention(50, 300.0), HUNDRED, Retention(100, 300.0), HUNDRED)
    stored = [
        one.broker.publish_stored(channel, b"%d" % number, retention)
        for number, retention in enumerate(retentions)
    ]
    await soon(asyncio.gather(*stored))
    assert await one.payloads(channel) == [b"0", b"1", b"2", b"3", b"4"]


async def test_an_id_is_stored_once(make: Make, backend: BackendServers, channel: str) -> None:
    one, other = await make(backend), await make(backend)
    await soon(other.broker.subscribe(channel))
    await one.store(channel, b"a", b"again", id="1")
    await one.store(channel, b"again", id="1")
    await other.store(channel, b"again", id="1")
    await one.store(channel, b"b", id="2")
    await one.store(f"{channel}/other", b"a", id="1")
    await until(lambda: len(other.reports.received) == 2)
    assert other.envelopes() == [(1, 0, b"a"), (2, 1, b"b")]
    assert await one.payloads(channel) == [b"a", b"b"]
    assert await one.payloads(f"{channel}/other") == [b"a"]


async def test_an_id_is_known_for_five_minutes(one: Made, channel: str, cli: Cli) -> None:
    await one.store(channel, b"a", id="1")
    assert 200_000 < int(cli("PTTL", StoreKeys("sc:").of_id(channel, "1"))) <= 300_000


async def test_a_history_expires_and_its_position_a_day_later(
    one: Made, channel: str, cli: Cli
) -> None:
    await one.store(channel, b"a")
    assert int(cli("PTTL", stream_of(channel))) > 300_000
    assert int(cli("PTTL", position_of(channel))) > 300_000 + DAY
    # The expiry is renewed once an eighth of the time has passed.
    cli("PEXPIRE", stream_of(channel), 250_000)
    await one.store(channel, b"b")
    assert int(cli("PTTL", stream_of(channel))) <= 250_000
    cli("HSET", position_of(channel), "due", 1)
    await one.store(channel, b"c")
    assert int(cli("PTTL", stream_of(channel))) > 300_000


async def test_a_read_renews_the_expiry(one: Made, channel: str, cli: Cli) -> None:
    await one.store(channel, b"a")
    cli("HSET", position_of(channel), "due", 1)
    cli("PEXPIRE", position_of(channel), 10_000)
    await one.read(channel)
    assert int(cli("PTTL", position_of(channel))) > 300_000 + DAY


# The scripts in the server


async def test_a_script_that_the_server_forgot_is_sent_again(
    one: Made, channel: str, cli: Cli
) -> None:
    await soon(one.broker.subscribe(channel))
    sent: list[bytes] = []
    for turn in range(30):
        if turn % 3 == 0:
            cli("SCRIPT", "FLUSH")
        stored = []
        for _ in range(3):
            sent.append(b"%d" % len(sent))
            stored.append(one.broker.publish_stored(channel, sent[-1], HUNDRED))
        if turn % 5:
            await asyncio.sleep(0)  # The next turn's follow before the answer.
        else:
            await soon(asyncio.gather(*stored))
    await until(lambda: len(one.reports.received) == len(sent))
    assert [payload for _, _, payload in one.envelopes()] == sent
    cli("SCRIPT", "FLUSH")
    assert await one.payloads(channel) == sent
    cli("SCRIPT", "FLUSH")
    position = (await one.read(channel, limit=0)).top
    cli("SCRIPT", "FLUSH")
    assert await soon(one.broker.renew_epoch(channel, HUNDRED, position)) == position
    await soon(one.broker.keep({channel: b"1"}, 500))
    cli("SCRIPT", "FLUSH")
    assert await soon(one.broker.take(channel)) == b"1"


class Wire:
    """A connection that records commands, and a listener that records what became of publishes."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.handlers: list[Callable[[Any], None]] = []
        self.done: list[bytes] = []
        self.refused: list[tuple[bytes, str]] = []
        self.lost: list[str] = []
        self.store = RedisStore(self, self, "sc:", "PUBLISH")  # type: ignore[arg-type]

    def send(self, commands: Any, awaited: Any) -> None:
        self.sent += commands
        self.handlers += [handler for _, handler in awaited]

    def publishes_confirmed(self, publishes: Any) -> None:
        self.done += [publish.payload for publish in publishes]

    def publish_refused(self, publish: Any, error: BrokerError) -> None:
        self.refused.append((publish.payload, str(error)))

    def link_lost(self, error: BrokerError) -> None:
        self.lost.append(str(error))

    def publish(self, channel: str, *payloads: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.store.publish(
            [StoredPublish(channel, p, loop.create_future(), HUNDRED, None) for p in payloads]
        )

    def answer(self, reply: Any) -> None:
        self.handlers.pop(0)(reply)

    def payloads(self) -> list[tuple[str, str, tuple[bytes, ...]]]:
        """(Command, channel, payloads) of each command."""
        return [(command[0], command[9], command[10:]) for command in self.sent]


async def test_later_publishes_of_a_channel_wait_for_an_answer_and_go_together() -> None:
    wire = Wire()
    wire.publish("a", b"1", b"2")
    wire.publish("a", b"3")
    wire.publish("b", b"4")
    wire.publish("a", b"5")
    assert wire.payloads() == [("EVALSHA", "sc:a", (b"1", b"2")), ("EVALSHA", "sc:b", (b"4",))]
    wire.answer(Exception("NOSCRIPT No matching script"))
    assert wire.payloads()[2:] == [("EVAL", "sc:a", (b"1", b"2"))]
    assert wire.sent[2][1] == PUBLISH.text
    wire.answer([1, None])
    wire.answer([2, None])
    assert wire.payloads()[3:] == [("EVALSHA", "sc:a", (b"3", b"5"))]
    wire.answer([2, None])
    assert wire.done == [b"4", b"1", b"2", b"3", b"5"]
    wire.publish("a", b"6")
    assert wire.payloads()[4:] == [("EVALSHA", "sc:a", (b"6",))]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("MOVED 1 127.0.0.1:7000", ["The server handed channels over to another"]),
        ("OOM command not allowed", []),
    ],
)
async def test_a_refusal_is_of_the_publishes_of_one_script(text: str, lost: list[str]) -> None:
    wire = Wire()
    wire.publish("a", b"1", b"2")
    wire.publish("b", b"3")
    wire.answer(Exception(text))
    wire.answer([1, None])
    assert wire.refused == [(b"1", text), (b"2", text)]
    assert wire.done == [b"3"]
    assert wire.lost == lost


async def test_a_script_that_fails_halfway_confirms_those_before() -> None:
    wire = Wire()
    wire.publish("a", b"1", b"2", b"3")
    wire.answer([2, b"ERR too large"])
    assert wire.done == [b"1", b"2"]
    assert wire.refused == [(b"3", "ERR too large")]


async def test_nothing_is_sent_after_the_link_is_lost() -> None:
    """The session has failed all publishes by then."""
    wire = Wire()
    wire.publish("a", b"1")
    wire.publish("a", b"2")
    wire.answer(BrokerError("closed"))
    assert len(wire.sent) == 1
    assert not wire.refused
    assert not wire.done


async def test_a_server_that_restarts_begins_a_new_history(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MIN_BACK_OFF_SECONDS", 0.01)
    with running_backend("redis") as servers:
        one = await make(servers)
        await one.store("a", b"1", b"2")
        former = (await one.read("a")).top
        servers.kill()
        await until(lambda: not one.broker.ready)
        with pytest.raises(BrokerError, match="is away"):
            await one.store("a", b"lost")
        with pytest.raises(BrokerError, match="is away"):
            await one.read("a")
        servers.start()
        await soon(one.reports.recovered.wait())
        await one.store("a", b"3")
        page = await one.read("a", since=former)
        assert page.messages == [(1, 0, b"3")]
        assert not page.complete
        assert page.top.epoch != former.epoch


# Reading


async def test_pages_in_both_directions(one: Made, channel: str) -> None:
    await one.store(channel, *[b"%d" % n for n in range(1, 11)], retention=Retention(5, 300.0))
    epoch = (await one.read(channel)).top.epoch
    cases: list[tuple[int | None, int | None, bool, range, bool]] = [
        (None, None, False, range(6, 11), True),
        (None, 2, False, range(6, 8), True),
        (None, 2, True, range(10, 8, -1), True),
        (7, None, False, range(8, 11), True),
        (7, 1, False, range(8, 9), True),
        (5, None, False, range(6, 11), True),
        (4, None, False, range(6, 11), False),
        (4, 0, False, range(0), False),
        (5, 0, False, range(0), True),
        (10, None, False, range(0), True),
        (11, None, False, range(0), False),
        (10**30, None, False, range(0), False),
        (-(10**30), 1, False, range(6, 7), False),
        (8, None, True, range(8, 5, -1), True),
        (8, 2, True, range(8, 6, -1), True),
        (5, None, True, range(0), False),
        (0, None, True, range(0), True),
    ]
    for offset, limit, reverse, expected, complete in cases:
        since = None if offset is None else Position(epoch, offset)
        page = await one.read(channel, since=since, limit=limit, reverse=reverse)
        assert page.top == (epoch, 10)
        assert page.messages == [(n, n - 1, b"%d" % n) for n in expected], (offset, limit, reverse)
        assert page.complete == complete, (offset, limit, reverse)
    for other in ("other", "", "é\ud800", "x" * 10_000):
        page = await one.read(channel, since=Position(other, 7), limit=2)
        assert ([m.offset for m in page.messages], page.complete) == ([6, 7], False)
        page = await one.read(channel, since=Position(other, 7), limit=2, reverse=True)
        assert ([m.offset for m in page.messages], page.complete) == ([10, 9], False)


async def test_more_is_read_than_redis_keeps_for_a_subscriber(make: Make) -> None:
    """It cuts off one that has so much to read, and histories come over the same connection."""
    options = ["--client-output-buffer-limit", "pubsub", "4mb", "4mb", "60"]
    with running_backend("redis", options) as servers:
        one = await make(servers)
        await soon(one.broker.subscribe("other"))
        payloads = [b"%03d" % number + bytes(50_000) for number in range(300)]
        retention = Retention(1000, 300.0)
        for start in range(0, 300, 30):
            await one.store("a", *payloads[start : start + 30], retention=retention)
        whole = await one.read("a", retention)
        assert [message.payload for message in whole.messages] == payloads
        assert whole.complete
        since = Position(whole.top.epoch, 50)
        pages = [one.read("a", retention, since=since, limit=50) for _ in range(20)]
        for page in await asyncio.gather(*pages):
            assert [message.offset for message in page.messages] == [*range(51, 101)]
            assert page.complete
        back = await one.read("a", retention, reverse=True, limit=290)
        assert [message.offset for message in back.messages] == [*range(300, 10, -1)]
        assert one.reports.lost == []


async def test_an_epoch_that_changes_between_the_parts_of_a_page(
    one: Made, channel: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "PART_BYTES", 2)
    await one.store(channel, *[b"%d" % number for number in range(6)])
    store = one.broker._session.link._store
    run, parts = store._run, []

    async def losing(*arguments: Any) -> Any:
        parts.append(await run(*arguments))
        if len(parts) == 2:
            cli("DEL", position_of(channel), stream_of(channel))
            await one.store(channel, b"new")
        return parts[-1]

    monkeypatch.setattr(type(store), "_run", lambda self, *arguments: losing(*arguments))
    page = await one.read(channel)
    assert [message.payload for message in page.messages] == [b"new"]
    assert page.top.epoch == parts[-1][0].decode() != parts[0][0].decode()


async def test_a_channel_without_a_history_gets_a_position(one: Made, channel: str) -> None:
    page = await one.read(channel, limit=0)
    assert (page.messages, page.top.offset, page.complete) == ([], 0, True)
    assert (await one.read(channel)).top == page.top
    await one.store(channel, b"a")
    page = await one.read(channel, since=page.top)
    assert page.messages == [(1, 0, b"a")]
    assert page.complete


def store_by_hand(
    cli: Cli, channel: str, epoch: str, ages: list[int], skipped: tuple[int, ...] = ()
) -> None:
    """Make a history of 1, 2, … with the ages in seconds, without the offsets that are skipped."""
    now = int(cli("TIME").split()[0])
    cli("DEL", stream_of(channel))
    offsets = [n for n in range(1, len(ages) + len(skipped) + 1) if n not in skipped]
    for offset, previous, age in zip(offsets, [0, *offsets], ages, strict=False):
        # The command line takes no zero bytes: an offset has them.
        text = "".join(
            f"\\x{byte:02x}" for byte in envelop_stored(epoch, offset, previous, b"%d" % offset)
        )
        script = f"return redis.call('XADD', KEYS[1], ARGV[1], 't', ARGV[2], 'm', \"{text}\")"
        cli("EVAL", _lua(script), 1, stream_of(channel), f"{offset}-0", (now - age) * 1000)
    cli("HSET", position_of(channel), "epoch", epoch, "offset", offsets[-1])


def _lua(script: str) -> str:
    """Lua 5.1 knows decimal escapes only."""
    head, *parts = script.split("\\x")
    return head + "".join(f"\\{int(part[:2], 16):03d}{part[2:]}" for part in parts)


@pytest.mark.parametrize("expired", [0, 1, 2, 15, 29, 30])
async def test_expired_publishes_are_not_read(
    one: Made, channel: str, cli: Cli, expired: int
) -> None:
    await one.store(channel, b"first")
    epoch = (await one.read(channel, limit=0)).top.epoch
    ages = [1000 * (30 - n) for n in range(30)]
    store_by_hand(cli, channel, epoch, ages, skipped=(4, 5, 6, 12))
    offsets = [n for n in range(1, 35) if n not in (4, 5, 6, 12)]
    retention = Retention(100, 1000.0 * (30 - expired) + 500)
    live = offsets[expired:]
    page = await one.read(channel, retention)
    assert [m.offset for m in page.messages] == live
    page = await one.read(channel, retention, limit=1)
    assert [m.offset for m in page.messages] == live[:1]
    page = await one.read(channel, retention, limit=100, reverse=True)
    assert [m.offset for m in page.messages] == live[::-1]
    start = offsets[expired - 1] if expired else 0
    page = await one.read(channel, retention, since=Position(epoch, start))
    assert ([m.offset for m in page.messages], page.complete) == (live, True)
    if expired:
        before = offsets[expired - 2] if expired > 1 else 0
        page = await one.read(channel, retention, since=Position(epoch, before))
        assert ([m.offset for m in page.messages], page.complete) == (live, False)


# What others do to the keys


async def test_a_deleted_stream_is_told_and_offsets_go_on(
    one: Made, channel: str, cli: Cli
) -> None:
    await one.store(channel, b"a", b"b", b"c")
    epoch = (await one.read(channel)).top.epoch
    cli("DEL", stream_of(channel))
    page = await one.read(channel, since=Position(epoch, 1))
    assert (page.messages, page.top, page.complete) == ([], (epoch, 3), False)
    await one.store(channel, b"d")
    page = await one.read(channel, since=Position(epoch, 3))
    assert (page.messages, page.complete) == ([(4, 3, b"d")], True)
    assert not (await one.read(channel, since=Position(epoch, 1))).complete


@pytest.mark.parametrize(
    ("command", "since", "left", "complete"),
    [
        (("XTRIM", "MAXLEN", "2"), 2, [3, 4], True),
        (("XTRIM", "MAXLEN", "2"), 1, [3, 4], False),
        (("XTRIM", "MAXLEN", "0"), 3, [], False),
        (("XTRIM", "MAXLEN", "0"), 4, [], True),
        (("XDEL", "3-0"), 1, [2, 4], False),
        (("XDEL", "3-0"), 3, [4], True),
        (("XDEL", "4-0"), 1, [2, 3], False),
        (("XDEL", "4-0"), 3, [], False),
    ],
)
async def test_missing_entries_are_told(
    one: Made,
    channel: str,
    cli: Cli,
    command: tuple[str, ...],
    since: int,
    left: list[int],
    complete: bool,
) -> None:
    await one.store(channel, b"a", b"b", b"c", b"d")
    epoch = (await one.read(channel)).top.epoch
    cli(command[0], stream_of(channel), *command[1:])
    page = await one.read(channel, since=Position(epoch, since))
    assert ([m.offset for m in page.messages], page.complete) == (left, complete)
    await one.store(channel, b"e")
    page = await one.read(channel, since=Position(epoch, 4))
    assert (page.messages, page.complete) == ([(5, 4, b"e")], True)


async def test_a_deleted_position_begins_a_new_epoch(one: Made, channel: str, cli: Cli) -> None:
    await one.store(channel, b"a", b"b")
    former = (await one.read(channel)).top
    cli("DEL", position_of(channel))
    await one.store(channel, b"c")
    page = await one.read(channel, since=former)
    assert page.top.epoch != former.epoch
    assert page.messages == [(1, 0, b"c")]
    assert not page.complete
    cli("DEL", position_of(channel))
    assert (await one.read(channel)).top.epoch not in (former.epoch, page.top.epoch)


@pytest.mark.parametrize(
    "fields",
    [
        ("offset", "many"),
        ("offset", "-1"),
        ("offset", "1.5"),
        ("offset", "inf"),
        ("offset", "nan"),
        ("offset", "1e300"),
        ("offset", ""),
        ("epoch", ""),
        ("epoch", "é"),
        ("epoch", "a\nb"),
        ("epoch", "x" * 300),
    ],
)
async def test_a_position_that_another_program_changed_begins_a_new_epoch(
    one: Made, channel: str, cli: Cli, fields: tuple[str, str]
) -> None:
    await one.store(channel, b"a")
    former = (await one.read(channel)).top
    cli("HSET", position_of(channel), *fields)
    page = await one.read(channel)
    assert page.top.epoch not in (former.epoch, fields[1])
    await one.store(channel, b"b")
    assert (await one.read(channel)).messages == [(1, 0, b"b")]


async def test_entries_of_other_programs_are_skipped(one: Made, channel: str, cli: Cli) -> None:
    await soon(one.broker.subscribe(channel))
    await one.store(channel, b"a")
    epoch = (await one.read(channel)).top.epoch
    stream = stream_of(channel)
    cli("XADD", stream, "1-1", "other", "1")
    cli("XADD", stream, "1-2", "t", "now", "m", "1")
    cli("XADD", stream, "1-3", "t", "9999999999999", "m", "no envelope")
    cli("XADD", stream, "1-4", "t", "9999999999999", "m", "1", "n", "1")
    cli("XADD", stream, "*", "t", "1", "m", "1", "n", "1")
    await one.store(channel, b"b", b"c")
    page = await one.read(channel, since=Position(epoch, 0))
    assert [(m.previous, m.payload) for m in page.messages][0:2] == [(0, b"a"), (1, b"b")]
    assert [m.payload for m in page.messages] == [b"a", b"b", b"c"]
    assert page.complete
    assert page.top.offset == page.messages[-1].offset
    assert [p for _, _, p in one.envelopes()] == [b"a", b"b", b"c"]
    page = await one.read(channel, since=Position(epoch, 1), limit=1)
    assert ([m.payload for m in page.messages], page.complete) == ([b"b"], True)
    assert await one.payloads(channel, reverse=True, limit=2) == [b"c", b"b"]


@pytest.mark.parametrize("id", [f"{2**64 - 1}-1", f"{2**64 - 1}-{2**64 - 1}", f"{10**14}-0"])
async def test_an_id_of_another_program_beyond_all_offsets_is_told(
    one: Made, channel: str, cli: Cli, id: str
) -> None:
    await one.store(channel, b"a")
    cli("XADD", stream_of(channel), id, "other", "1")
    with pytest.raises(BrokerError, match=r"another program uses the key 'sc:history:"):
        await one.store(channel, b"b", id="1")
    assert await one.payloads(channel) == [b"a"]
    cli("DEL", stream_of(channel))
    await one.store(channel, b"b", id="1")  # Its id was not used up.
    assert await one.payloads(channel) == [b"b"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("key_of", [stream_of, position_of])
async def test_a_key_of_another_program_is_told_and_left_alone(
    one: Made, channel: str, cli: Cli, key_of: Callable[[str], str], fresh: bool
) -> None:
    if not fresh:
        await one.store(channel, b"a")
    key = key_of(channel)
    cli("DEL", key)
    cli("SET", key, "mine")
    await soon(one.broker.subscribe(channel))
    results = await soon(
        asyncio.gather(
            *(one.broker.publish_stored(channel, b"%d" % n, HUNDRED, f"{n}") for n in range(2)),
            one.broker.publish_stored(f"{channel}/other", b"1", HUNDRED),
            return_exceptions=True,
        )
    )
    for error in results[:2]:
        assert isinstance(error, BrokerError)
        assert "another program uses the key" in str(error)
        assert key in str(error)
    assert results[2] is None
    if fresh or key_of is position_of:
        with pytest.raises(BrokerError, match="another program uses the key"):
            await one.read(channel)
    with pytest.raises(BrokerError, match="another program uses the key"):
        await one.read(channel, since=Position("x", 1))
    if key_of is position_of:
        with pytest.raises(BrokerError, match="another program uses the key"):
            await soon(one.broker.renew_epoch(channel, HUNDRED, Position("x", 1)))
    assert cli("GET", key) == "mine"
    assert one.reports.received == []
    assert one.broker.ready
    cli("DEL", key)
    await one.store(channel, b"0", id="0")
    assert [p for _, _, p in one.envelopes()] == [b"0"]


async def test_a_full_server_refuses_and_stores_again_later(make: Make, channel: str) -> None:
    with running_backend("redis") as servers:
        one = await make(servers)
        port = servers.nodes[0].port
        await soon(one.broker.subscribe(channel))
        await one.store(channel, b"a")
        redis_cli(port, "CONFIG", "SET", "maxmemory", "1")
        for id in (None, "1"):
            with pytest.raises(BrokerError, match="OOM"):
                await one.store(channel, b"b", id=id)
        with pytest.raises(BrokerError, match="OOM"):
            await one.store("fresh", b"b")
        with pytest.raises(BrokerError, match="OOM"):
            await soon(one.broker.keep({"a": b"1"}, 1))
        await soon(one.broker.publish(channel, b"plain"))
        redis_cli(port, "CONFIG", "SET", "maxmemory", "0")
        await one.store(channel, b"c", id="1")
        await until(lambda: len(one.reports.received) == 3)
        assert await one.payloads(channel) == [b"a", b"c"]


# Epochs and failover


async def test_of_several_that_renew_one_makes_the_epoch(
    make: Make, backend: BackendServers, channel: str
) -> None:
    one, other = await make(backend), await make(backend)
    await one.store(channel, b"a", b"b")
    top = (await one.read(channel)).top
    for seen in (top, top._replace(offset=1), Position("other", 9)):
        assert await soon(one.broker.renew_epoch(channel, HUNDRED, seen)) == top
    ahead = top._replace(offset=5)
    made = await soon(
        asyncio.gather(
            *(item.broker.renew_epoch(channel, HUNDRED, ahead) for item in (one, other) * 3)
        )
    )
    assert len({*made}) == 1
    assert made[0].epoch != top.epoch
    assert made[0].offset == 2
    page = await one.read(channel, since=top)
    assert ([m.payload for m in page.messages], page.complete) == ([b"a", b"b"], False)
    await one.store(channel, b"c")
    assert (await one.read(channel)).top == (made[0].epoch, 3)


async def test_a_replica_that_lost_its_tail_is_found_by_renewing(make: Make, channel: str) -> None:
    with running_backend("redis") as first, running_backend("redis") as second:
        replica = second.nodes[0].port
        redis_cli(replica, "REPLICAOF", "127.0.0.1", str(first.nodes[0].port))
        one = await make(first)
        await one.store(channel, b"a", b"b")
        assert await asyncio.to_thread(replicated, first.nodes[0].port)
        redis_cli(replica, "REPLICAOF", "NO", "ONE")
        await one.store(channel, b"tail")
        seen = (await one.read(channel)).top
        assert seen.offset == 3
        two = await make(second)
        page = await two.read(channel, since=seen)
        assert (page.messages, page.top, page.complete) == ([], (seen.epoch, 2), False)
        renewed = await soon(two.broker.renew_epoch(channel, HUNDRED, seen))
        assert renewed.epoch != seen.epoch
        await two.store(channel, b"c")
        assert await two.payloads(channel) == [b"a", b"b", b"c"]
        assert (await two.read(channel)).top == (renewed.epoch, 3)


def replicated(port: int) -> bool:
    """Wait until the replica has everything."""
    deadline = time.monotonic() + 20
    while redis_cli(port, "WAIT", "1", "1000").strip() != "1":
        if time.monotonic() > deadline:
            return False
    return True


# Kept values


async def test_kept_values_are_taken_once(
    make: Make, backend: BackendServers, channel: str, cli: Cli
) -> None:
    one, other = await make(backend), await make(backend)
    await soon(one.broker.keep({}, 10))
    await soon(one.broker.keep({channel: b"old", f"{channel}{{x}}": b"\0\xff"}, 1000))
    await soon(one.broker.keep({channel: b"new"}, 500))
    assert 0 < int(cli("PTTL", f"sc:kept:{channel}")) <= 500_000
    taken = await soon(asyncio.gather(*(m.broker.take(channel) for m in (one, other) * 3)))
    assert (taken.count(b"new"), taken.count(None)) == (1, 5)
    assert await soon(other.broker.take(f"{channel}{{x}}")) == b"\0\xff"
    assert await soon(other.broker.take(channel)) is None


async def test_a_kept_value_over_a_key_of_another_type(one: Made, channel: str, cli: Cli) -> None:
    cli("HSET", f"sc:kept:{channel}", "a", "1")
    with pytest.raises(BrokerError, match="WRONGTYPE"):
        await soon(one.broker.take(channel))
    assert one.broker.ready


# A cluster


async def test_a_cluster_stores_each_channel_where_its_slot_is(
    make: Make, cluster: BackendServers
) -> None:
    one, other = await make(cluster), await make(cluster)
    tag = secrets.token_hex(4)
    channels = [f"{tag}/{n}" for n in range(20)]
    channels += [f"{tag}{name}" for name in ("{", "}", "{}", "{a}", "a}b", "a}{b}c", "{{a}}")]
    for name in channels:
        await soon(other.broker.subscribe(name))
    stored = [
        one.broker.publish_stored(name, f"{n} {name}".encode(), HUNDRED, id)
        for n, id in itertools.product(range(3), ("1", None))
        for name in channels
    ]
    await soon(asyncio.gather(*stored))
    await until(lambda: len(other.reports.received) == 4 * len(channels))
    for name in channels:
        page = await other.read(name)
        texts = [f"{n} {name}".encode() for n in (0, 0, 1, 2)]
        assert [m.payload for m in page.messages] == texts
        assert page.complete
        assert await soon(one.broker.renew_epoch(name, HUNDRED, page.top)) == page.top
    await soon(one.broker.keep({name: name.encode() for name in channels}, 100))
    assert [await soon(other.broker.take(name)) for name in channels] == [
        name.encode() for name in channels
    ]
    assert await soon(one.broker.take(channels[0])) is None


async def test_a_server_of_a_cluster_that_is_away_refuses_its_slots_only(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_backend("redis-cluster") as servers:
        one = await make(servers, "&heartbeat_interval=0.1&heartbeat_timeout=0.5")
        channels = [f"c{n}" for n in range(20)]
        for name in channels:
            await one.store(name, b"1")
        servers.nodes[0].kill()
        await until(lambda: not one.broker.ready)
        results = await soon(
            asyncio.gather(*(one.read(name) for name in channels), return_exceptions=True)
        )
        failed = [isinstance(result, BrokerError) for result in results]
        assert any(failed)
        assert not all(failed)
        with pytest.raises(BrokerError):
            await soon(one.broker.keep({name: b"1" for name in channels}, 10))
        kept = await soon(
            asyncio.gather(*(one.broker.take(name) for name in channels), return_exceptions=True)
        )
        assert b"1" in kept
