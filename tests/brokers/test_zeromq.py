"""The ZeroMQ proxy's files, which are safe from other users, and links to it."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import zmq

from socketcluster.brokers import zeromq
from socketcluster.brokers.adapter import Publish
from socketcluster.brokers.address import parse_address
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.zeromq import ZeroMQConnector, ZeroMQLink, proxy_of
from socketcluster.brokers.zeromq_proxy import Proxy
from socketcluster.brokers.zeromq_wire import (
    CUT,
    MAX_TOPIC_BYTES,
    PUBLISH,
    Flow,
    LinkError,
    body_of,
    parts_of,
    payloads_in,
    record_of,
    records_in,
)
from socketcluster.errors import BrokerError, InvalidOptionsError
from support import soon, until


@pytest.fixture(params=[0o000, 0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_and_lock_are_for_this_user_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    proxy = Proxy(str(tmp_path / "b"))
    proxy.start()
    try:
        assert [mode(tmp_path / f"b.{end}") for end in ("sock", "lock")] == [0o600] * 2
        assert os.umask(mask) == mask
    finally:
        proxy.stop()


def test_one_that_takes_over_makes_them_so_too(tmp_path: Path) -> None:
    before = os.umask(0)
    first, second = Proxy(str(tmp_path / "b")), Proxy(str(tmp_path / "b"))
    try:
        first.start()
        second.start()
        first.stop()
        assert second._running.wait(10)
        assert mode(tmp_path / "b.sock") == 0o600
    finally:
        second.stop()
        os.umask(before)


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, there: bool) -> None:
    other = tmp_path / "other"
    if there:
        other.write_bytes(b"precious")
    (tmp_path / "b.lock").symlink_to(other)
    with pytest.raises(BrokerError, match=r"b\.lock is a symbolic link"):
        Proxy(str(tmp_path / "b")).start()
    assert other.exists() == there
    assert not there or other.read_bytes() == b"precious"


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    proxy = Proxy(str(tmp_path / "b"))
    proxy.start()
    try:
        assert proxy._lock is not None
        assert not os.get_inheritable(proxy._lock.fileno())
    finally:
        proxy.stop()


def test_a_folder_that_is_missing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Proxy(str(tmp_path / "none" / "b")).start()


def test_a_path_that_cannot_be_bound_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "b.sock").mkdir()
    proxy = Proxy(str(tmp_path / "b"))
    with pytest.raises(OSError, match="Cannot use"):
        proxy.start()


def test_a_takeover_that_fails_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Proxy(str(tmp_path / "b")), Proxy(str(tmp_path / "b"))
    try:
        first.start()
        second.start()
        first.stop()
        (tmp_path / "b.sock").unlink(missing_ok=True)
        (tmp_path / "b.sock").mkdir()
        second._thread.join(10)
        assert not second._thread.is_alive()
        assert "The ZeroMQ proxy cannot take over" in caplog.text
    finally:
        second.stop()


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[tuple[ZeroMQLink, LinkReports]]:
    """A link to a proxy, with the prefix "p:", and what it reports."""
    proxy = Proxy(str(tmp_path / "b"))
    proxy.start()
    reports = LinkReports()
    made = await ZeroMQConnector(str(tmp_path / "b"), "p:").connect(reports)
    assert isinstance(made, ZeroMQLink)
    try:
        yield made, reports
    finally:
        await made.close()
        await made.close()
        proxy.stop()


class LinkReports:
    """A `LinkListener` that records."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.confirmed: list[Publish] = []
        self.refused: list[Publish] = []
        self.failures: list[str] = []
        self.lost: list[str] = []

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def publishes_confirmed(self, publishes: Sequence[Publish]) -> None:
        self.confirmed += publishes

    def publish_refused(self, publish: Publish, error: BrokerError) -> None:
        self.refused.append(publish)

    def link_failed(self, error: BrokerError) -> None:
        self.failures.append(str(error))

    def link_lost(self, error: BrokerError) -> None:
        self.lost.append(str(error))


def publishes(*items: tuple[str, bytes]) -> list[Publish]:
    loop = asyncio.get_running_loop()
    return [Publish(channel, payload, loop.create_future()) for channel, payload in items]


async def test_a_body_of_another_form_is_reported_and_the_next_is_delivered(
    link: tuple[ZeroMQLink, LinkReports],
) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    made._send([record_of(PUBLISH, b"p:a", b"\0\0\0\x09short")], lambda: None)
    made.publish(publishes(("a", b"1")))
    await until(lambda: reports.received == [("a", b"1")])
    assert reports.failures == ["A message has a wrong form, on the channel 'a'"]
    assert reports.lost == []


@pytest.mark.parametrize(
    "records",
    [b"x", record_of(9, b"p:a"), record_of(PUBLISH, b"p:a", b"1")[:-1]],
    ids=["short", "unknown kind", "truncated"],
)
async def test_a_sender_of_another_form_is_cut_off_and_others_are_not(
    link: tuple[ZeroMQLink, LinkReports], tmp_path: Path, records: bytes
) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    others = LinkReports()
    other = await ZeroMQConnector(str(tmp_path / "b"), "p:").connect(others)
    assert isinstance(other, ZeroMQLink)
    other._send([records], lambda: None)
    await until(lambda: bool(others.lost))
    assert others.lost[0].startswith("The proxy cut the link off: A ")
    await other.close()
    made.publish(publishes(("a", b"1")))
    await until(lambda: reports.received == [("a", b"1")])
    assert reports.lost == []


async def test_foreign_peers_and_parts_are_ignored(
    link: tuple[ZeroMQLink, LinkReports], tmp_path: Path
) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    with zmq.Context() as context, context.socket(zmq.DEALER) as other:
        other.setsockopt(zmq.LINGER, 1000)
        other.connect(f"ipc://{tmp_path / 'b'}.sock")
        other.send(Flow().pack([record_of(PUBLISH, b"p:a", body_of([b"1"]))]))
        other.send_multipart([b"1", b"2", b"3"])
    made.publish(publishes(("a", b"2")))
    await until(lambda: reports.received == [("a", b"2")])
    assert reports.lost == []


async def test_a_lost_message_ends_the_link_in_both_directions(
    link: tuple[ZeroMQLink, LinkReports],
) -> None:
    made, reports = link
    made._flow.pack([])  # A message that ZeroMQ loses on the way to the proxy.
    made.publish(publishes(("a", b"1")))
    await until(lambda: bool(reports.lost))
    assert reports.lost == ["The proxy cut the link off: Message 1 is missing; 2 follows"]
    assert reports.confirmed == []


async def test_a_message_that_the_proxy_lost_ends_the_link(
    link: tuple[ZeroMQLink, LinkReports],
) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    made.publish(publishes(("a", b"0")))
    await until(lambda: bool(reports.received))
    made._flow.received -= 1  # As if one of the proxy's had not arrived.
    made.publish(publishes(("a", b"1")))
    await until(lambda: bool(reports.lost))
    assert "is missing" in reports.lost[0]
    assert reports.received == [("a", b"0")]


async def test_names_that_the_messages_have_no_room_for_are_refused(
    link: tuple[ZeroMQLink, LinkReports],
) -> None:
    made, reports = link
    long = "x" * MAX_TOPIC_BYTES
    refused = await soon(made.subscribe([long, "a"]))
    assert list(refused) == [long]
    assert "65537 bytes with the prefix" in str(refused[long])
    await soon(made.unsubscribe([long]))
    made.publish(publishes((long, b"1"), ("a", b"2")))
    await until(lambda: reports.received == [("a", b"2")])
    assert [publish.payload for publish in reports.refused] == [b"1"]


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a proxy that keeps 1 MiB for a process."""
    proxy = proxy_of(parse_address(f"ipc://{tmp_path / 'b'}?max_buffered=1MiB"))
    proxy.start()
    yield f"ipc://{tmp_path / 'b'}"
    proxy.stop()


async def test_a_link_that_does_not_read_is_cut_off_after_what_it_read(small: str) -> None:
    slow, fast = LinkReports(), LinkReports()
    links = [await ZeroMQConnector(small[6:], "").connect(each) for each in (slow, fast)]
    reading, sending = links
    assert isinstance(reading, ZeroMQLink)
    await soon(reading.subscribe(["a"]))
    asyncio.get_running_loop().remove_reader(reading._fds[0])
    payload = bytes(100_000)
    for n in range(50):
        sending.publish(publishes(("a", b"%04d" % n + payload)))
        await until(lambda: len(fast.confirmed) == n + 1)  # noqa: B023
    asyncio.get_running_loop().add_reader(reading._fds[0], reading._receive)
    reading._receive()
    await until(lambda: bool(slow.lost))
    assert "This process read too slowly" in slow.lost[0]
    assert "above the proxy's max_buffered of 1048576" in slow.lost[0]
    numbers = [int(received[:4]) for _, received in slow.received]
    assert numbers == list(range(len(numbers)))
    assert 10 < len(numbers) < 30  # The window of 1 MiB, and a message.
    assert fast.lost == []
    for each in links:
        await each.close()


async def test_a_publish_of_max_buffered_bytes_arrives_and_a_larger_one_is_refused(
    small: str,
) -> None:
    size = 1024 * 1024
    broker, listener = create_broker(f"{small}?max_buffered=1MiB"), Reports()
    broker.attach(listener)
    await soon(broker.start())
    await soon(as_awaitable(broker.subscribe("a")))
    small_one = broker.publish("a", b"1")
    await soon(as_awaitable(small_one))
    await soon(as_awaitable(broker.publish("a", bytes(size))))
    await until(lambda: [len(payload) for _, payload in listener.received] == [1, size])
    with pytest.raises(BrokerError, match="has 1048577 bytes and 0 bytes wait"):
        broker.publish("a", bytes(size + 1))
    half = broker.publish("a", bytes(size // 2))
    with pytest.raises(BrokerError, match=f"and {size // 2} bytes wait"):
        broker.publish("a", bytes(size // 2 + 1))
    await soon(as_awaitable(half))
    await soon(as_awaitable(broker.publish("a", bytes(size))))
    await broker.close()
    assert listener.lost == []


async def test_a_publish_above_the_proxys_own_limit_fails_and_cuts_nobody_else_off(
    small: str,
) -> None:
    brokers = [create_broker(small) for _ in range(2)]
    listeners = [Reports(), Reports()]
    for broker, listener in zip(brokers, listeners, strict=True):
        broker.attach(listener)
        await soon(broker.start())
    await soon(as_awaitable(brokers[1].subscribe("a")))
    with pytest.raises(BrokerError, match="has 1048577 bytes, above max_buffered"):
        await soon(as_awaitable(brokers[0].publish("a", bytes(1024 * 1024 + 1))))
    await until(lambda: len(listeners[0].gaps) == 1)
    await soon(as_awaitable(brokers[0].publish("a", b"1")))
    await until(lambda: listeners[1].received == [("a", b"1")])
    assert listeners[1].lost == []
    for broker in brokers:
        await broker.close()


async def test_the_proxy_forgets_links_that_end(tmp_path: Path) -> None:
    proxy = Proxy(str(tmp_path / "b"))
    proxy._switch._send = spy = Spy(proxy._switch._send)
    proxy.start()
    connector = ZeroMQConnector(str(tmp_path / "b"), "")
    first = await connector.connect(LinkReports())
    await soon(first.subscribe(["a"]))
    second = await connector.connect(LinkReports())  # The process's next link.
    await soon(second.subscribe(["b"]))
    assert len(proxy._switch.links) == 1
    assert list(proxy._switch._topics) == [b"b"]
    await first.close()
    await second.close()
    for link in list(proxy._switch.links.values()):
        link.probe_at = 0.0  # As after five silent seconds.
    await until(lambda: not proxy._switch.links)
    assert not proxy._switch._topics
    assert spy.calls
    proxy.stop()


class Spy:
    def __init__(self, send: Callable[[bytes, bytes], bool]) -> None:
        self.calls: list[bytes] = []
        self._send = send

    def __call__(self, identity: bytes, message: bytes) -> bool:
        self.calls.append(message)
        return self._send(identity, message)


def as_awaitable(operation: Awaitable[None] | None) -> Awaitable[None]:
    assert operation is not None
    return operation


class Reports:
    """A `BrokerListener` that records."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.lost: list[BrokerError] = []
        self.gaps: list[float] = []

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    backend_message_received = message_received

    def broker_failed(self, error: BaseException) -> None:
        raise error

    def backend_lost(self, error: BrokerError, *_: object, **__: object) -> None:
        self.lost.append(error)

    def backend_recovered(self, duration: float, *_: object, **__: object) -> None:
        self.gaps.append(duration)


def test_messages_of_a_wrong_form() -> None:
    flow = Flow()
    with pytest.raises(LinkError, match="wrong form"):
        flow.take(b"short")
    with pytest.raises(LinkError, match="Message 5 is acknowledged, and was not sent"):
        flow.take(bytes(8) + (5).to_bytes(8, "big"))
    with pytest.raises(LinkError, match="wrong form"):
        payloads_in(b"\0\0\0\x05four", 0, 8)
    with pytest.raises(LinkError, match="wrong form"):
        list(records_in(bytes(16) + b"\1"))


def test_a_flow_counts_the_bytes_on_the_way() -> None:
    here, there = Flow(), Flow()
    messages = [here.pack([b"x" * n]) for n in (10, 1000)]
    sizes = [len(message) + 64 for message in messages]
    assert here.on_the_way == sum(sizes)
    there.take(messages[0])
    here.take(there.acknowledgment())
    assert here.on_the_way == sizes[1]
    there.take(messages[1])
    assert there.unacknowledged == sizes[1]
    here.take(there.pack([]))
    assert (here.on_the_way, there.unacknowledged) == (0, 0)


@pytest.mark.parametrize("sizes", [[], [0], [100], [6, 6, 6], [0] * 9, [30, 1, 1, 30, 8, 1]])
def test_parts_fit_and_keep_the_order(sizes: list[int]) -> None:
    payloads = [bytes([n]) * size for n, size in enumerate(sizes)]
    parts = list(parts_of(payloads, 20))
    assert [payload for part in parts for payload in part] == payloads
    assert all(len(body_of(part)) <= 20 or len(part) == 1 for part in parts)
    assert [payloads_in(body := body_of(part), 0, len(body)) for part in parts] == parts


async def test_more_messages_than_are_received_in_one_turn(
    link: tuple[ZeroMQLink, LinkReports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeromq, "MAX_RECEIVES_PER_TURN", 2)
    made, reports = link
    await soon(made.subscribe(["a", "b"]))
    # Alternating channels do not share a message.
    sent = [("ab"[n % 2], b"%d" % n) for n in range(20)]
    made.publish(publishes(*sent))
    await until(lambda: len(reports.confirmed) == 20)
    assert reports.received == sent
    assert [(each.channel, each.payload) for each in reports.confirmed] == sent


async def test_publishes_during_a_mark_are_confirmed_by_the_next(
    link: tuple[ZeroMQLink, LinkReports],
) -> None:
    made, reports = link
    await soon(made.subscribe([]))
    first, second = publishes(("a", b"1"), ("a", b"2"))
    made.publish([first])
    made.publish([second])
    assert reports.confirmed == []
    await until(lambda: reports.confirmed == [first, second])


async def test_a_closed_link_receives_nothing(link: tuple[ZeroMQLink, LinkReports]) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    made.publish(publishes(("a", b"1")))
    await made.close()
    made._receive()
    made._check_connection()
    assert reports.received == []


async def test_a_link_without_a_proxy_is_lost_and_subscribing_can_be_cancelled(
    tmp_path: Path,
) -> None:
    reports = LinkReports()
    made = await ZeroMQConnector(str(tmp_path / "b"), "").connect(reports)
    assert isinstance(made, ZeroMQLink)
    subscribing = asyncio.create_task(made._change(CUT, []))
    await until(lambda: bool(reports.lost))
    assert reports.lost == ["Nobody runs the proxy there"]
    await made.close()
    subscribing.cancel()
    await asyncio.wait([subscribing])
    assert subscribing.cancelled()


async def test_a_link_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(zmq.Context, "socket", fail)
    with pytest.raises(BrokerError, match="Cannot connect: Too many open files"):
        await ZeroMQConnector(str(tmp_path / "b"), "").connect(LinkReports())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ipc://", "names an absolute path"),
        ("ipc://host/path", "names an absolute path"),
        (f"ipc:///{'x' * 100}", "at most 100 bytes"),
        ("ipc:///path?nkey=x", "has no parameter 'nkey'"),
        ("ipc:///path?max_buffered=1000KiB", "max_buffered of an ipc URL must be 1MiB or more"),
        ("ipc:///path?max_buffered=64MB", "must be a size like 64MiB, not '64MB'"),
        ("ipc:///path?max_buffered=-1GiB", "must be a size like 64MiB, not '-1GiB'"),
    ],
)
def test_a_wrong_url(url: str, problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem):
        create_broker(url)
