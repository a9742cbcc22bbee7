"""Storing over ZeroMQ: what the proxy keeps, its bounds, and messages of a wrong form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from brokers.test_zeromq import LinkReports, Reports
from socketcluster.brokers.adapter import StoredPublish
from socketcluster.brokers.address import parse_address
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.remote import RemoteBroker
from socketcluster.brokers.storing import Page, Position, Retention
from socketcluster.brokers.zeromq import ZeroMQConnector, ZeroMQLink, proxy_of
from socketcluster.brokers.zeromq_proxy import Proxy
from socketcluster.brokers.zeromq_store import MAX_REQUEST_BYTES
from socketcluster.brokers.zeromq_wire import (
    ANSWER,
    BATCH_BYTES,
    MAX_TOPIC_BYTES,
    PUBLISH,
    REQUEST,
    STORE,
    LinkError,
    body_of,
    record_of,
)
from socketcluster.errors import BrokerError, InvalidOptionsError
from socketcluster.protocol.envelopes import open_envelope, read_stored
from support import soon, until

KEEP = Retention(1000, 60)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy that stores 4 MiB, and keeps 1 MiB for a process."""
    url = f"ipc://{tmp_path / 'b'}?max_buffered=1MiB&history_memory=4MiB"
    made = proxy_of(parse_address(url))
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def connect(
    proxy: Proxy, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[tuple[ZeroMQLink, LinkReports]]]]:
    """Open links to the proxy."""
    opened: list[ZeroMQLink] = []

    async def connect() -> tuple[ZeroMQLink, LinkReports]:
        reports = LinkReports()
        link = await ZeroMQConnector(str(tmp_path / "b"), "p:").connect(reports)
        assert isinstance(link, ZeroMQLink)
        opened.append(link)
        return link, reports

    yield connect
    for link in opened:
        await link.close()


Connect = Callable[[], Awaitable[tuple[ZeroMQLink, LinkReports]]]


def stored(*items: tuple[str, bytes]) -> list[StoredPublish]:
    loop = asyncio.get_running_loop()
    return [
        StoredPublish(channel, payload, loop.create_future(), KEEP, None)
        for channel, payload in items
    ]


async def store(link: ZeroMQLink, reports: LinkReports, *items: tuple[str, bytes]) -> None:
    """Store publishes one by one, so that none waits behind another."""
    for item in items:
        (publish,) = stored(item)
        link.publish_stored([publish])
        await until(lambda: publish in reports.confirmed)  # noqa: B023


async def history(link: ZeroMQLink, since: Position | None = None) -> Page:
    page = await soon(link.history("a", KEEP, since, None, False))
    assert isinstance(page, Page)
    return page


async def test_a_process_that_is_cut_off_can_read_what_it_missed(connect: Connect) -> None:
    """The proxy stores what it cannot deliver."""
    reading, slow = await connect()
    sending, fast = await connect()
    await soon(reading.subscribe(["a"]))
    start = (await history(reading)).top
    asyncio.get_running_loop().remove_reader(reading._fds[0])
    payloads = [b"%04d" % number + bytes(50_000) for number in range(70)]
    await store(sending, fast, *(("a", payload) for payload in payloads))
    asyncio.get_running_loop().add_reader(reading._fds[0], reading._receive)
    reading._receive()
    await until(lambda: bool(slow.lost))
    assert "read too slowly" in slow.lost[0]
    received = [open_envelope(message) for _, message in slow.received]
    count = len(received)
    assert 10 < count < 60
    assert [item[2] for item in received if item is not None] == payloads[:count]
    assert received[-1] is not None
    place = read_stored(received[-1][1])
    assert place is not None
    again, _ = await connect()
    page = await history(again, Position(place[0], place[1]))
    assert page.complete
    assert [message.payload for message in page.messages] == payloads[count:]
    assert (await history(again, start)).messages[count:] == page.messages
    assert fast.lost == []


async def test_the_memory_of_the_proxy_is_bounded(proxy: Proxy, connect: Connect) -> None:
    link, reports = await connect()
    for number in range(200):
        payloads = [(f"c{number} {n}", bytes(1000)) for n in range(100)]
        link.publish_stored(stored(*payloads))
        await until(lambda: len(reports.confirmed) == 100 * (number + 1))  # noqa: B023
        assert proxy._switch._store._store.size <= 4 * 1024 * 1024
    old = await soon(link.history("c0 0", KEEP, None, None, False))
    assert (old.messages, old.top.offset) == ([], 0)
    new = await soon(link.history("c199 99", KEEP, None, None, False))
    assert len(new.messages) == 1


async def test_a_proxy_that_is_started_anew_has_other_epochs(tmp_path: Path) -> None:
    """Another that waited takes over with an empty store."""
    url = f"ipc://{tmp_path / 'b'}"
    proxies = [proxy_of(parse_address(url)) for _ in range(2)]
    for proxy in proxies:
        proxy.start()
    broker, reports = create_broker(f"{url}?heartbeat_interval=0.1"), Reports()
    assert isinstance(broker, RemoteBroker)
    broker.attach(reports)
    await soon(broker.start())
    await soon(broker.publish_stored("a", b"1", KEEP, "one"))
    before = await soon(broker.history("a", KEEP))
    proxies[0].stop()
    await until(lambda: bool(reports.gaps))
    after = await soon(broker.history("a", KEEP, before.top))
    assert (after.messages, after.complete) == ([], False)
    assert after.top.epoch != before.top.epoch
    assert await soon(broker.renew_epoch("a", KEEP, before.top)) == after.top
    await soon(broker.publish_stored("a", b"2", KEEP, "one"))
    page = await soon(broker.history("a", KEEP, after.top))
    assert [message.payload for message in page.messages] == [b"2"]
    assert page.complete
    await broker.close()
    proxies[1].stop()


async def test_a_long_page_comes_in_batches(proxy: Proxy, connect: Connect) -> None:
    """All of it is of one moment, even if it is trimmed meanwhile. Publishes pass between."""
    link, reports = await connect()
    payloads = [b"%02d" % number + bytes(40_000) for number in range(25)]
    await store(link, reports, *(("a", payload) for payload in payloads))
    answers: list[int] = []
    answered = link._requests.answered

    def counted(message: bytes, start: int, end: int) -> None:
        answers.append(end - start)
        if len(answers) == 2:
            five = Retention(5, 60)
            publish = StoredPublish("a", b"x", asyncio.Future(), five, None)
            link.publish_stored([publish])
        answered(message, start, end)

    link._requests.answered = counted  # type: ignore[method-assign]
    page = await history(link)
    assert [message.payload for message in page.messages] == payloads
    assert page.top.offset == 25
    assert len(answers) == 6
    assert max(answers) <= BATCH_BYTES
    after = await history(link)
    assert [message.payload for message in after.messages] == [*payloads[-4:], b"x"]
    (known,) = proxy._switch.links.values()
    assert not known.page_rest


async def test_one_long_page_is_open_at_a_time(proxy: Proxy, connect: Connect) -> None:
    """So that the proxy keeps the rest of one page for each process. Short pages do not wait."""
    link, reports = await connect()
    payloads = [b"%d" % number + bytes(100_000) for number in range(20)]
    await store(link, reports, *(("a", payload) for payload in payloads), ("b", b"short"))
    (known,) = proxy._switch.links.values()
    done: list[str] = []

    async def read(channel: str) -> Page:
        page: Page = await soon(link.history(channel, KEEP, None, None, False))
        done.append(channel)
        return page

    *long, short = await asyncio.gather(*map(read, "aaaab"))
    assert done == ["b", "a", "a", "a", "a"]
    assert [message.payload for message in short.messages] == [b"short"]
    for page in long:
        assert [message.payload for message in page.messages] == payloads
    assert not known.page_rest
    assert reports.lost == []


async def test_a_read_that_is_cancelled_leaves_nothing(proxy: Proxy, connect: Connect) -> None:
    link, reports = await connect()
    await store(link, reports, *(("a", bytes(100_000)) for _ in range(8)))
    task = asyncio.ensure_future(link.history("a", KEEP, None, None, False))
    answered = link._requests.answered
    numbers: list[int] = []

    def cancelling(message: bytes, start: int, end: int) -> None:
        answered(message, start, end)
        numbers.append(1)
        if len(numbers) == 3:  # In the middle of the page.
            task.cancel()

    link._requests.answered = cancelling  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert link._requests._answers == {}
    assert len((await history(link)).messages) == 8
    (known,) = proxy._switch.links.values()
    assert not known.page_rest
    assert reports.lost == []


async def test_requests_that_are_too_large_are_refused_and_the_link_stays(connect: Connect) -> None:
    link, reports = await connect()
    with pytest.raises(BrokerError, match=f"above the limit of {MAX_REQUEST_BYTES}"):
        await soon(link.keep({"k": bytes(MAX_REQUEST_BYTES)}, 60))
    with pytest.raises(BrokerError, match="above the limit"):
        await soon(link.take("k" * MAX_REQUEST_BYTES))
    with pytest.raises(BrokerError, match="above the limit"):
        await history(link, Position("e" * MAX_REQUEST_BYTES, 1))
    await soon(link.keep({"k": bytes(MAX_REQUEST_BYTES - 1000)}, 60))
    assert await soon(link.take("k")) == bytes(MAX_REQUEST_BYTES - 1000)
    long = "x" * MAX_TOPIC_BYTES
    for request in (
        link.history(long, KEEP, None, None, False),
        link.renew_epoch(long, KEEP, Position("e", 1)),
    ):
        with pytest.raises(BrokerError, match="65537 bytes with the prefix"):
            await soon(request)
    link.publish_stored(stored((long, b"1"), ("a", b"2")))
    await until(lambda: len(reports.confirmed) == 2)
    assert [publish.channel for publish in reports.refused] == [long]
    assert [message.payload for message in (await history(link)).messages] == [b"2"]
    assert reports.lost == []


async def test_a_stored_publish_above_the_proxys_limit_is_cut_off(connect: Connect) -> None:
    link, reports = await connect()
    link.publish_stored(stored(("a", bytes(1024 * 1024 + 1))))
    await until(lambda: bool(reports.lost))
    assert "has 1048577 bytes, above max_buffered" in reports.lost[0]
    other, _ = await connect()
    assert (await history(other)).messages == []


RULE = bytes(16)


@pytest.mark.parametrize(
    "record",
    [
        record_of(STORE, b"a", b"short"),
        record_of(STORE, b"a", RULE + b"\0\0\0\x09short"),
        record_of(STORE, b"a", RULE + body_of([b"id without a payload"])),
        record_of(REQUEST, b"a", b"x"),
        record_of(REQUEST, b"a", body_of([])),
        *(
            record_of(REQUEST, b"a", body_of([text, *values]))
            for text, *values in (
                (b"no JSON",),
                (b"[" * 100_000,),
                (b"\xff",),
                (b"[1]",),
                (b'{"number": "1", "do": "take"}', b"k"),
                (b"{}",),
                (b'{"do": "take"}', b"k"),
                (b'{"number": 1, "do": "dance"}',),
                (b'{"number": 1, "do": ["take"]}',),
                (b'{"number": 1, "do": "take"}',),
                (b'{"number": 1, "do": "keep", "seconds": 1}', b"key without a value"),
                (b'{"number": 1, "do": "keep", "seconds": "x"}',),
                (b'{"number": 1, "do": "keep", "seconds": 1%b}' % (b"0" * 400),),
                (b'{"number": 1, "do": "go on"}',),
                (b'{"number": 1, "do": "renew", "seen": [1, 2]}',),
                (b'{"number": 1, "do": "renew", "seen": ["e", 1.5]}',),
                (b'{"number": 1, "do": "renew", "seen": "e"}',),
                (b'{"number": 1, "do": "history"}',),
                (
                    b'{"number": 1, "do": "history", "rule": [1, 1], "since": null, "long": true,'
                    b' "limit": "x", "reverse": false}',
                ),
                (
                    b'{"number": 1, "do": "history", "rule": ["x", 1], "since": null, "long": true,'
                    b' "limit": 1, "reverse": false}',
                ),
            )
        ),
    ],
)
async def test_a_sender_of_another_form_is_cut_off_and_others_are_not(
    connect: Connect, record: bytes
) -> None:
    link, reports = await connect()
    other, others = await connect()
    other._send([record], lambda: None)
    await until(lambda: bool(others.lost))
    assert others.lost[0].startswith("The proxy cut the link off: A message has a wrong form")
    assert (await history(link)).messages == []
    assert reports.lost == []


@pytest.mark.parametrize(
    "body",
    [b"x", body_of([]), body_of([b"no JSON"]), body_of([b"[]"]), body_of([b'{"number":{}}'])],
)
async def test_an_answer_of_another_form_ends_the_link(connect: Connect, body: bytes) -> None:
    link, _ = await connect()
    with pytest.raises(LinkError, match="A message has a wrong form"):
        link._take(bytes(16) + record_of(ANSWER, b"", body))


async def test_an_answer_that_no_request_waits_for_is_ignored(connect: Connect) -> None:
    link, reports = await connect()
    records = [
        *(record_of(ANSWER, b"", body_of([head])) for head in (b'{"number": 99}', b"{}")),
        record_of(PUBLISH, b"p:a", body_of([b"1"])),
    ]
    link._take(bytes(16) + b"".join(records))
    assert reports.received == [("a", b"1")]
    assert reports.lost == []


async def test_a_link_that_is_lost_ends_its_requests(tmp_path: Path, proxy: Proxy) -> None:
    """With the error of the broker, also one in the middle of a page."""
    broker, reports = create_broker(f"ipc://{tmp_path / 'b'}"), Reports()
    assert isinstance(broker, RemoteBroker)
    broker.attach(reports)
    await soon(broker.start())
    for _ in range(8):
        await soon(broker.publish_stored("a", bytes(100_000), KEEP))
    link = broker.link_session().storing_link
    assert isinstance(link, ZeroMQLink)
    answered = link._requests.answered

    def losing(message: bytes, start: int, end: int) -> None:
        answered(message, start, end)
        asyncio.get_running_loop().call_soon(
            broker.link_session().link_lost, BrokerError("cut for the test")
        )

    link._requests.answered = losing  # type: ignore[method-assign]
    with pytest.raises(BrokerError, match="cut for the test"):
        await soon(broker.history("a", KEEP))
    await until(lambda: bool(reports.gaps))
    assert len((await soon(broker.history("a", KEEP))).messages) == 8
    await broker.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ipc:///p?history_memory=64MB", "history_memory must be a size like 64MiB, not '64MB'"),
        ("ipc:///p?history_memory=0", "history_memory must be a size like 64MiB, not '0'"),
        ("ipc:///p?history_memory=", "history_memory must be a size like 64MiB, not ''"),
        ("redis://h?history_memory=64MiB", "has no parameter 'history_memory'"),
    ],
)
def test_a_wrong_url(url: str, problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem):
        create_broker(url)
    if url.startswith("ipc"):
        with pytest.raises(InvalidOptionsError, match=problem):
            proxy_of(parse_address(url))


def test_the_url_wins_over_the_option(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path / 'b'}"
    create_broker(f"{path}?history_memory=5MiB")
    for url, expected in ((path, 7), (f"{path}?history_memory=5MiB", 5 * 1024 * 1024)):
        proxy = proxy_of(parse_address(url), 7)
        assert proxy._switch._store._store._memory == expected
        proxy._context.term()
