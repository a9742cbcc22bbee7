"""The ZeroMQ proxy's files, which are safe from other users, and links to it."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import zmq

from socketcluster.brokers import zeromq
from socketcluster.brokers.adapter import Publish
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.zeromq import Proxy, ZeroMQConnector, ZeroMQLink, topic_of
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
        assert [mode(tmp_path / f"b.{end}") for end in ("in", "out", "lock")] == [0o600] * 3
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
        assert [mode(tmp_path / f"b.{end}") for end in ("in", "out")] == [0o600] * 2
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
    (tmp_path / "b.out").mkdir()
    proxy = Proxy(str(tmp_path / "b"))
    with pytest.raises(OSError, match="Cannot use"):
        proxy.start()


def test_a_takeover_that_fails_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Proxy(str(tmp_path / "b")), Proxy(str(tmp_path / "b"))
    try:
        first.start()
        second.start()
        first.stop()
        (tmp_path / "b.in").unlink(missing_ok=True)
        (tmp_path / "b.in").mkdir()
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
    made = await ZeroMQConnector(str(tmp_path / "b"), "p").connect(reports)
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
        self.failures: list[str] = []
        self.lost: list[str] = []

    def message_received(self, channel: str, payload: bytes) -> None:
        self.received.append((channel, payload))

    def publishes_confirmed(self, publishes: Sequence[Publish]) -> None:
        self.confirmed += publishes

    def publish_refused(self, publish: Publish, error: BrokerError) -> None:
        raise AssertionError

    def link_failed(self, error: BrokerError) -> None:
        self.failures.append(str(error))

    def link_lost(self, error: BrokerError) -> None:
        self.lost.append(str(error))


def publishes(*items: tuple[str, bytes]) -> list[Publish]:
    loop = asyncio.get_running_loop()
    return [Publish(channel, payload, loop.create_future()) for channel, payload in items]


async def test_messages_of_another_form_are_reported_and_the_next_is_delivered(
    link: tuple[ZeroMQLink, LinkReports], tmp_path: Path
) -> None:
    made, reports = link
    await soon(made.subscribe(["a"]))
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        other.connect(f"ipc://{tmp_path / 'b'}.in")
        async with asyncio.timeout(10):
            while not reports.failures:  # The proxy accepts it at some time.
                other.send(topic_of("p:a") + b"short")
                await asyncio.sleep(0.002)
    assert "A message of the wrong form on b'\\x00\\x03p:a'" in reports.failures[0]
    made.publish(publishes(("a", b"1")))
    await until(lambda: reports.received == [("a", b"1")])


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
    await soon(made.fence())
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


async def test_a_link_without_a_proxy_is_lost_and_its_fence_can_be_cancelled(
    tmp_path: Path,
) -> None:
    reports = LinkReports()
    made = await ZeroMQConnector(str(tmp_path / "b"), "").connect(reports)
    assert isinstance(made, ZeroMQLink)
    fence = asyncio.create_task(made.fence())
    await until(lambda: bool(reports.lost))
    assert reports.lost == ["Nobody runs the proxy there"]
    await made.close()
    fence.cancel()
    await asyncio.wait([fence])
    assert fence.cancelled()


async def test_a_process_that_stalled_gives_its_link_up(
    link: tuple[ZeroMQLink, LinkReports], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = link
    await made.check()
    now = asyncio.get_running_loop().time()
    with monkeypatch.context() as patch:
        patch.setattr(made, "_loop", Stalled(now + zeromq.MAX_STALL_SECONDS + 1))
        with pytest.raises(BrokerError, match="This process stalled for 6 s"):
            await made.check()
        await made.check()


class Stalled:
    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


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
    ],
)
def test_a_wrong_url(url: str, problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem):
        create_broker(url)
