"""What JetStream alone has: its streams, what others do to them, and settings that do not fit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from broker_servers import BackendServers, running_backend
from conformance.test_storing import KEEP_ALL, Made, done, numbered, payloads_of
from socketcluster.brokers import nats_requests, nats_streams
from socketcluster.brokers.nats_names import Names, parse_retention, retention_name
from socketcluster.brokers.nats_parser import write
from socketcluster.brokers.nats_requests import Answer, ApiError, checked, error_of, publish_line
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.errors import BrokerError, InvalidOptionsError
from support import soon, until


@pytest.fixture(scope="module")
def backend() -> Iterator[BackendServers]:
    with running_backend("nats", ["-js"]) as servers:
        yield servers


@pytest.fixture
def prefix() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
async def made(backend: BackendServers, prefix: str) -> AsyncIterator[Made]:
    async with started(f"{backend.url}?prefix={prefix}") as made:
        yield made


@pytest.fixture
async def foreign(backend: BackendServers) -> AsyncIterator[Client]:
    """Another program's client."""
    client = Client()
    await client.connect(backend.url)
    yield client
    await client.close()


@pytest.fixture
def jetstream(foreign: Client) -> JetStreamContext:
    return foreign.jetstream()


@contextlib.asynccontextmanager
async def started(url: str) -> AsyncIterator[Made]:
    made = Made(create_broker(url + "&required=true"))
    await soon(made.broker.start())
    yield made
    await made.broker.close()


def stream_name(prefix: str, retention: Retention = KEEP_ALL) -> str:
    return Names.of(prefix).stream(retention)


async def test_other_programs_publish_to_the_same_subscribers(
    made: Made, foreign: Client, prefix: str
) -> None:
    """With headers or without, and with headers that look like those of JetStream."""
    await made.subscribe("news")
    await made.store("news", b"1")
    forged = {"Nats-Stream": "other", "Nats-Subject": "x", "Nats-Sequence": "7"}
    for headers in (None, {"a": "b"}, forged, {**forged, "Nats-Last-Sequence": "1"}):
        await foreign.publish(f"{prefix}.news", b'"foreign"', headers=headers)
    await made.store("news", b"2")
    await until(lambda: made.delivered("news") == [b"1", b"2"] and len(made.listener.plain) == 4)
    assert set(made.listener.plain) == {("news", b'"foreign"')}


async def test_a_subscriber_that_never_asked_for_the_history(
    backend: BackendServers, prefix: str, made: Made
) -> None:
    """It learns of the stream by the first message."""
    async with started(f"{backend.url}?prefix={prefix}") as other:
        await other.subscribe("a", "b")
        for number in range(20):
            await made.store("ab"[number % 2], b"%d" % number)
        await until(lambda: len(other.delivered("a") + other.delivered("b")) == 20)
        for channel in "ab":
            page = await made.history(channel)
            places = [(page.top.epoch, *message) for message in page.messages]
            assert other.listener.stored[channel] == places


async def test_forged_places(
    made: Made, foreign: Client, jetstream: JetStreamContext, prefix: str
) -> None:
    """They make no stream, and no place that cannot be."""
    await made.subscribe("news")
    await made.store("news", b"1")
    names = [stream_name(prefix, Retention(5, number)) for number in range(1, 4)]
    for stream in (*names, stream_name(prefix)):
        for number in ("9" * 19, "9" * 30, "1", "x", ""):
            headers = {"Nats-Stream": stream, "Nats-Subject": "x", "Nats-Sequence": number}
            for last in (number, "0"):
                headers["Nats-Last-Sequence"] = last
                await foreign.publish(f"{prefix}.news", b'"forged"', headers=headers)
    await foreign.publish(f"{prefix}!renewed.1000-60s.x.y", b"", headers={"a": "b"})
    await foreign.publish(f"{prefix}!renewed.5-1s", b"")
    await foreign.flush()
    await made.store("news", b"2")
    await until(lambda: made.delivered("news")[-1] == b"2")
    found = await jetstream.streams_info()
    assert [s.config.name for s in found if prefix in str(s.config.name)] == [stream_name(prefix)]
    assert payloads_of(await made.history("news")) == [b"1", b"2"]


async def test_headers_of_any_bytes_leave_the_link_alone(
    made: Made, foreign: Client, prefix: str
) -> None:
    await made.subscribe("news")
    await made.store("news", b"1")
    stream = stream_name(prefix).encode()
    place = b"Nats-Stream: %b\r\nNats-Subject: x\r\nNats-Sequence: 1\r\nNats-Last-Sequence: 0"
    start = stream_name(prefix, Retention(1, 1)).removesuffix("1-1s").encode()
    digits = b"9" * 5000
    for headers in (
        place % b"\xff\xfe",
        place % (start + b"1-%bs" % digits[:400]),
        place % (start + b"%b-1s" % digits),
        place % (start + "٣-٣s".encode()),
        place % stream + b"\r\nSc-Mark: " + digits,
        b"\xff: \xff",
    ):
        for subject in (f"{prefix}.news", f"{prefix}!renewed.x", f"{prefix}!reply.x"):
            write(foreign, publish_line(subject, "", headers, b'"foreign"'))
    line = publish_line(f"{prefix}!renewed.", "", b"a: b", b"")
    write(foreign, line.replace(b"renewed.", b"renewed.\xff"))
    await foreign.flush()
    await made.store("news", b"2")
    await until(lambda: made.delivered("news")[-1] == b"2")
    assert payloads_of(await made.history("news")) == [b"1", b"2"]
    assert made.listener.gaps == 0


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"5", b"[]", b'"error"', b"{", b"\xff", b'{"error": 5}', b'{"error": null}'),
        *(b'{"error": {"err_code": "x"}}', b"[" * 100_000),
    ],
)
def test_a_forged_answer_is_an_error(payload: bytes) -> None:
    """Any program can send one to the inbox of a link."""
    assert "JetStream refused" in str(error_of(payload))
    with pytest.raises(ApiError):
        checked(Answer(b"", payload))


async def test_a_renewal_of_another_program(
    made: Made, jetstream: JetStreamContext, prefix: str
) -> None:
    """Its number may be any text."""
    await made.store("news", b"1")
    epochs = set()
    for name in ("x", "9" * 2000, "-1", "٣"):
        top = await made.top("news")
        ahead = Position(top.epoch, top.offset + 100)
        epochs |= {top.epoch, (await made.storing.renew_epoch("news", KEEP_ALL, ahead)).epoch}
        newest = await jetstream.get_last_msg(f"{prefix}_epochs", f"{prefix}!epoch.>")
        assert newest.subject is not None
        await jetstream.publish(f"{newest.subject.rpartition('.')[0]}.{name}", b"")
    assert payloads_of(await made.history("news")) == [b"1"]
    assert len(epochs) == 8


@pytest.mark.parametrize("subject", ["", "history.1000-60s.news"])
async def test_a_purged_stream_or_channel(
    made: Made, jetstream: JetStreamContext, prefix: str, subject: str
) -> None:
    await made.subscribe("news")
    await made.store("other", *numbered(2))
    await made.store("news", *numbered(3))
    full = await made.history("news")
    await jetstream.purge_stream(stream_name(prefix), subject=subject and f"{prefix}!{subject}")
    for message in full.messages[:-1]:
        page = await made.history("news", since=Position(full.top.epoch, message.offset))
        assert (page.messages, page.complete) == ([], False)
        assert page.top.epoch == full.top.epoch
        assert page.top.offset >= full.top.offset
    top = page.top
    await made.store("news", b"new")
    await until(lambda: made.delivered("news")[-1] == b"new")
    *_, (epoch, offset, previous, _) = made.listener.stored["news"]
    assert (epoch, previous) == top
    for since in (top, full.top):
        page = await made.history("news", since=since)
        assert payloads_of(page) == [b"new"]
    assert (await made.history("news", since=top)).complete
    page = await made.history("news", since=Position(epoch, full.messages[0].offset))
    assert not page.complete
    assert page.top.offset == offset


async def test_a_stream_that_was_deleted_is_made_anew_with_new_epochs(
    made: Made, backend: BackendServers, jetstream: JetStreamContext, prefix: str
) -> None:
    async with started(f"{backend.url}?prefix={prefix}") as other:
        for item in (made, other):
            await item.subscribe("news")
        await made.store("news", *numbered(3))
        former = await made.top("news")
        await until(lambda: len(other.delivered("news")) == 3)
        await jetstream.delete_stream(stream_name(prefix))
        with pytest.raises(BrokerError, match=r"is missing, or its servers are away$"):
            await made.store("news", b"refused")
        await made.store("news", b"new")
        await made.store("news", b"newer")
        page = await made.history("news", since=former)
        assert payloads_of(page) == [b"new", b"newer"]
        assert not page.complete
        assert page.top.epoch != former.epoch
        for item in (made, other):
            await until(lambda item=item: len(item.delivered("news")) == 5)  # type: ignore[misc]
            places = [(page.top.epoch, *message) for message in page.messages]
            assert item.listener.stored["news"][3:] == places
        assert await other.storing.renew_epoch("news", KEEP_ALL, former) == page.top


async def test_a_server_that_lost_the_newest_publishes(tmp_path: Path) -> None:
    """As after a loss of power. The stream is the same, and goes back."""
    with running_backend("nats", ["-js"]) as servers:
        url = f"{servers.url}?prefix=t&heartbeat_interval=0.1"
        store, copy = servers.folder / "jetstream", tmp_path / "copy"
        async with started(url) as a, started(url) as b:
            for item in (a, b):
                await item.subscribe("a")
            await a.store("a", *numbered(3))
            early = await a.top("a")
            await restart(servers, (a, b), lambda: shutil.copytree(store, copy))
            await a.store("a", *numbered(3, "lost"))
            await until(lambda: len(b.delivered("a")) == 6)
            seen = await a.top("a")

            def restore() -> None:
                shutil.rmtree(store)
                shutil.copytree(copy, store)

            await restart(servers, (a, b), restore)
            assert (await a.history("a", since=seen)) == Page([], early, False)
            asked = (item.storing.renew_epoch("a", KEEP_ALL, seen) for item in (a, b) * 3)
            (renewed,) = set(await soon(asyncio.gather(*asked)))
            assert renewed.epoch != seen.epoch
            assert renewed.offset == early.offset
            await b.store("a", b"new")
            for item in (a, b):
                await until(lambda item=item: item.delivered("a")[-1] == b"new")  # type: ignore[misc]
                epoch, _, previous, _ = item.listener.stored["a"][-1]
                assert (epoch, previous) == renewed
            assert not (await b.history("a", since=seen)).complete
            assert payloads_of(await b.history("a", since=renewed)) == [b"new"]


async def restart(
    servers: BackendServers, brokers: tuple[Made, ...], change: Callable[[], object]
) -> None:
    """Kill the server, change its files, and wait until the brokers are back."""
    gaps = [made.listener.gaps for made in brokers]
    servers.kill()
    change()
    servers.start()
    for made, before in zip(brokers, gaps, strict=True):
        await until(lambda m=made, n=before: m.listener.gaps > n)  # type: ignore[misc]


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> Retention:
    """A retention whose stream forgets publishes after two seconds."""
    monkeypatch.setattr(nats_streams, "EXTRA_SECONDS", 1)
    monkeypatch.setattr(nats_streams, "DUPLICATE_SECONDS", 1)
    return Retention(10, 1)


@pytest.fixture
async def without_marks(backend: BackendServers, prefix: str) -> AsyncIterator[Made]:
    """A broker that marks idle channels too rarely."""
    async with started(f"{backend.url}?prefix={prefix}&heartbeat_interval=60") as made:
        yield made


async def test_a_channel_that_is_forgotten(
    without_marks: Made, jetstream: JetStreamContext, prefix: str, short_lived: Retention
) -> None:
    """A reader who has everything misses nothing, and neither does a subscriber."""
    made = without_marks
    await made.subscribe("a", "b")
    await made.store("a", *numbered(3), retention=short_lived)
    full = await made.history("a", retention=short_lived)
    name = stream_name(prefix, short_lived)
    async with asyncio.timeout(20):
        while (await jetstream.stream_info(name)).state.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    page = await made.history("a", since=full.top, retention=short_lived)
    assert (page.messages, page.complete) == ([], True)
    assert page.top.offset >= full.top.offset
    early = Position(full.top.epoch, full.messages[0].offset)
    page = await made.history("a", since=early, retention=short_lived)
    assert (page.messages, page.complete) == ([], False)
    await made.store("b", b"1", retention=short_lived)
    await made.store("a", b"new", retention=short_lived)
    await until(lambda: made.delivered("a")[-1] == b"new")
    *_, (epoch, _, previous, _) = made.listener.stored["a"]
    assert epoch == page.top.epoch
    assert previous == page.top.offset
    later = await made.history("a", since=page.top, retention=short_lived)
    assert payloads_of(later) == [b"new"]
    assert later.complete


async def test_an_idle_channel_is_not_forgotten(
    backend: BackendServers,
    jetstream: JetStreamContext,
    prefix: str,
    short_lived: Retention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a process is subscribed to it: that one marks the channel again and again."""
    monkeypatch.setattr(nats_streams, "EXTRA_SECONDS", 3)
    url = f"{backend.url}?prefix={prefix}"
    name = stream_name(prefix, short_lived)
    async with started(url) as b, started(url + "&heartbeat_interval=0.05") as a:
        positions: dict[str, Position] = {}
        for item in (a, b):
            await item.subscribe("a", "new")
        await a.store("a", b"1", retention=short_lived)
        for channel in ("a", "new"):
            positions[channel] = (await a.history(channel, retention=short_lived)).top
        newest = max(position.offset for position in positions.values())
        for _ in range(2):
            async with asyncio.timeout(20):
                while (await jetstream.stream_info(name)).state.first_seq <= newest:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            newest = (await jetstream.stream_info(name)).state.last_seq
        for item in (a, b):
            for channel, position in positions.items():
                page = await item.history(channel, since=position, retention=short_lived)
                assert (page.messages, page.top, page.complete) == ([], position, True)
        for channel, position in positions.items():
            await b.store(channel, b"last", retention=short_lived)
            for item in (a, b):
                await until(lambda i=item, c=channel: i.delivered(c)[-1:] == [b"last"])  # type: ignore[misc]
                *_, (epoch, _, previous, _) = item.listener.stored[channel]
                assert (epoch, previous) == position
            page = await b.history(channel, since=position, retention=short_lived)
            assert payloads_of(page) == [b"last"]
            assert page.complete


async def test_a_new_channel_beside_busy_ones(made: Made) -> None:
    """Its position is known before its first publish, whatever others do to the stream."""
    three = Retention(3, 60)
    await made.subscribe("new")
    await made.store("busy", *numbered(10), retention=three)
    start = (await made.history("new", retention=three)).top
    await made.store("busy", *numbered(10), retention=three)
    assert (await made.history("new", since=start, retention=three)).complete
    await made.store("new", *numbered(3), retention=three)
    page = await made.history("new", since=start, retention=three)
    assert payloads_of(page) == numbered(3)
    assert page.complete
    await until(lambda: len(made.delivered("new")) == 3)
    assert made.listener.stored["new"][0][2] == start.offset
    await made.store("new", b"4", retention=three)
    assert not (await made.history("new", since=start, retention=three)).complete


@pytest.mark.parametrize("seed", range(5))
async def test_reads_among_other_channels(made: Made, seed: int) -> None:
    """Any start, limit and direction, compared with a model."""
    chance = random.Random(seed)
    size = chance.choice([5, 40, 300])
    retention = Retention(size, 60)
    names = ["a", *(f"c{n}" for n in range(chance.choice([0, 3, 30])))]
    weights = [chance.choice([1, 5, 50]), *[1] * (len(names) - 1)]
    for batch in range(5):
        channels = chance.choices(names, weights, k=100)
        stored = [
            made.storing.publish_stored(name, b"%d %d" % (batch, number), retention)
            for number, name in enumerate(channels)
        ]
        await soon(asyncio.gather(*(done(item) for item in stored)))
    full = (await made.history("a", retention=retention)).messages
    assert len(full) <= size
    top = (await made.history("a", limit=0, retention=retention)).top
    before = full[0].previous

    async def check() -> None:
        index = chance.randrange(-1, len(full))
        limit = chance.choice([None, 1, 2, 7, 50, 1000])
        since = Position(top.epoch, before if index < 0 else full[index].offset)
        page = await made.history("a", since=since, limit=limit, retention=retention)
        assert page.messages == full[index + 1 :][:limit]
        assert page.complete
        page = await made.history("a", since, limit, reverse=True, retention=retention)
        expected = full[: index + 1][::-1]
        more = page.messages[len(expected) :]  # The stream may have a few more than readers see.
        assert page.messages[: len(expected)] == expected[:limit]
        assert limit is not None or not more
        assert page.complete == (index >= 0 or before == 0 or bool(more))
        page = await made.history("a", None, limit, reverse=True, retention=retention)
        assert page.messages == full[::-1][:limit]
        page = await made.history("a", None, limit, retention=retention)
        assert page.messages == full[:limit]

    await soon(asyncio.gather(*(check() for _ in range(25))))


async def test_two_rules_for_a_channel(made: Made) -> None:
    """What the other version of an application stores is delivered, without a place."""
    mine, others = Retention(10, 60), Retention(20, 60)
    await made.subscribe("a")
    top = (await made.history("a", retention=mine)).top
    await made.store("a", b"1", retention=mine)
    await made.store("a", b"2", retention=others)
    await made.store("a", b"3", retention=mine)
    await until(lambda: made.delivered("a") == [b"1", b"3"])
    await until(lambda: made.listener.plain == [("a", b"2")])
    assert {epoch for epoch, *_ in made.listener.stored["a"]} == {top.epoch}
    await done(made.broker.unsubscribe("a"))
    await made.subscribe("a")
    await made.history("a", retention=others)
    await made.store("a", b"4", retention=others)
    await until(lambda: made.delivered("a") == [b"1", b"3", b"4"])


@pytest.mark.parametrize("count", [0, 1])
async def test_a_payload_that_is_too_long_is_refused_alone(made: Made, count: int) -> None:
    longest = 1024 * 1024
    await made.store("a", b"x" * longest)
    publishes = [
        made.storing.publish_stored("a", b"x" * size, KEEP_ALL, "id" * count or None)
        for size in (longest + 1, 10)
    ]
    results = await soon(asyncio.gather(*publishes, return_exceptions=True))  # type: ignore[arg-type]
    assert "maximum payload exceeded" in str(results[0])
    assert results[1] is None


async def test_a_stream_that_confirms_nothing(
    backend: BackendServers,
    jetstream: JetStreamContext,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nats_requests, "ANSWER_SECONDS", 0.5)
    async with started(f"{backend.url}?prefix={prefix}&heartbeat_interval=0.1") as made:
        await made.store("a", b"1")
        settings = (await jetstream.stream_info(stream_name(prefix))).config
        settings.no_ack = True
        await jetstream.update_stream(settings)
        with pytest.raises(BrokerError, match=r"did not confirm the publish within 0\.5 s"):
            await made.store("a", b"2")
        assert made.listener.gaps == 0
        settings.no_ack = False
        await jetstream.update_stream(settings)
        await made.store("a", b"3")
    async with started(f"{backend.url}?prefix={prefix}") as made:
        settings.no_ack = True
        await jetstream.update_stream(settings)
        with pytest.raises(BrokerError, match=r"did not answer within 0\.5 s"):
            await made.store("a", b"4")


async def test_a_stream_with_another_configuration(
    made: Made, jetstream: JetStreamContext, prefix: str
) -> None:
    name = stream_name(prefix)
    await jetstream.add_stream(name=name, subjects=[f"{prefix}!history.1000-60s.>"])
    expected = (
        rf"The stream '{name}' of JetStream exists with another configuration: max_age is 0 and "
        r"must be 660000000000; max_msgs_per_subject is -1 and must be 1004; .* Delete it, or "
    )
    with pytest.raises(BrokerError, match=expected):
        await made.history("a")
    with pytest.raises(BrokerError, match=expected):
        await made.store("a", b"1")


async def test_subjects_of_another_stream(
    made: Made, jetstream: JetStreamContext, prefix: str
) -> None:
    await jetstream.add_stream(name=f"other-{prefix}", subjects=[f"{prefix}!history.>"])
    with pytest.raises(BrokerError, match=r"another stream has these subjects: delete that one"):
        await made.history("a")


async def test_kept_values_whose_stream_was_deleted(
    made: Made, jetstream: JetStreamContext, prefix: str
) -> None:
    await soon(made.storing.keep({"k": b"1"}, 60))
    await jetstream.delete_stream(f"{prefix}_kept")
    assert await soon(made.storing.take("k")) is None
    with pytest.raises(BrokerError, match="no stream has the subject"):
        await soon(made.storing.keep({"k": b"2"}, 60))
    await soon(made.storing.keep({"k": b"3"}, 60))
    assert await soon(made.storing.take("k")) == b"3"


async def test_a_stream_that_has_no_room(
    made: Made, jetstream: JetStreamContext, prefix: str
) -> None:
    """Whatever is wrong with a publish, its sender learns the reason."""
    await made.store("a", b"1")
    settings = (await jetstream.stream_info(stream_name(prefix))).config
    settings.max_msg_size = 10
    await jetstream.update_stream(settings)
    with pytest.raises(BrokerError, match="JetStream refused: message size exceeds maximum"):
        await made.store("a", b"x" * 11)
    await made.store("a", b"2")


async def test_replicas_need_a_cluster(backend: BackendServers, prefix: str) -> None:
    async with started(f"{backend.url}?prefix={prefix}&replicas=3") as made:
        with pytest.raises(BrokerError, match=r"the parameter replicas .* needs a NATS cluster"):
            await made.history("a")
    with pytest.raises(InvalidOptionsError, match="the parameter replicas must be 1, 3 or 5"):
        create_broker(f"{backend.url}?replicas=2")


async def test_without_a_prefix_nothing_is_stored(backend: BackendServers) -> None:
    async with started(f"{backend.url}?prefix=") as made:
        requests: list[Any] = [
            made.history("a"),
            made.store("a", b"1"),
            made.storing.keep({"k": b"1"}, 1),
            made.storing.take("k"),
        ]
        for request in requests:
            with pytest.raises(BrokerError, match="Set the parameter prefix of the broker's URL"):
                await request


async def test_without_jetstream_the_error_says_how_to_have_it() -> None:
    with running_backend("nats") as servers:
        async with started(f"{servers.url}?prefix=t") as made:
            requests: list[Any] = [
                made.history("a"),
                made.store("a", b"1"),
                made.storing.renew_epoch("a", KEEP_ALL, Position("e", 1)),
                made.storing.keep({"k": b"1"}, 1),
                made.storing.take("k"),
            ]
            for request in requests:
                with pytest.raises(BrokerError, match=r"JetStream.* is off: .*`nats-server -js`"):
                    await request
            await made.subscribe("a")
            await done(made.broker.publish("a", b"plain"))
            await until(lambda: made.listener.plain == [("a", b"plain")])


async def test_a_hundred_reads_at_once(made: Made) -> None:
    await made.store("a", *numbered(50))
    pages = await soon(asyncio.gather(*(made.history("a") for _ in range(100))))
    assert {tuple(payloads_of(page)) for page in pages} == {tuple(numbered(50))}


@pytest.mark.parametrize("ttl", [0.1, 1, 1.5, 300, 2_592_000.0])
def test_names_of_retentions(ttl: float) -> None:
    retention = Retention(100, ttl)
    name = retention_name(retention)
    assert name.replace("-", "").isalnum()
    assert parse_retention(name) == retention


def test_names_of_prefixes_are_names_of_streams() -> None:
    streams = {Names.of(prefix).streams for prefix in ("a", "a.b", "a_b", "a=2Eb", "é", "a-b")}
    assert len(streams) == 6
    assert not set("".join(streams)) & set(". *>/\\")


@pytest.mark.parametrize("name", ["", "100", "100-300", "100-300m", "x-1s", "1-1s.a"])
def test_other_names_are_no_retentions(name: str) -> None:
    assert parse_retention(name) is None
