"""One session of a link made up for the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from socketcluster import testing
from socketcluster.brokers.adapter import BrokerOptions, Link, LinkListener, Publish
from socketcluster.brokers.session import Session
from socketcluster.errors import BrokerError
from support import soon


class SilentLink:
    """A link that confirms no publish."""

    def publish(self, publishes: Sequence[Publish]) -> None:
        pass

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        return {}

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        pass

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


def publish() -> Publish:
    return Publish("c", b"1", asyncio.get_running_loop().create_future())


@pytest.mark.parametrize("when", ["before", "after"])
async def test_no_publish_is_left_waiting_when_the_link_is_lost(when: str) -> None:
    session = Session(BrokerOptions(), "inbox", lambda *_: None, lambda _: None)
    session.link = SilentLink()
    waiting = publish()
    if when == "before":
        session.publish([waiting])
    session.link_lost(BrokerError("gone"))
    if when == "after":
        session.publish([waiting])
    with pytest.raises(BrokerError, match="gone"):
        await soon(waiting.confirmed)


async def test_a_link_that_raises_leaves_no_publish_waiting() -> None:
    """Any exception of a link ends the session, and fails the batch's other publishes too."""

    class BrokenLink(SilentLink):
        def publish(self, publishes: Sequence[Publish]) -> None:
            raise UnicodeError("It cannot be sent")

    session = Session(BrokerOptions(), "inbox", lambda *_: None, lambda _: None)
    session.link = BrokenLink()
    waiting = [publish(), publish()]
    session.publish(waiting)
    for each in waiting:
        with pytest.raises(BrokerError, match="UnicodeError: It cannot be sent"):
            await soon(each.confirmed)
    assert isinstance(session.ended.result().__cause__, UnicodeError)


def recording() -> tuple[Session, list[tuple[str, bytes]], list[BrokerError]]:
    """A session of a `SilentLink`, what it delivers, and its failures."""
    received: list[tuple[str, bytes]] = []
    failures: list[BrokerError] = []
    session = Session(
        BrokerOptions(), "inbox", lambda *each: received.append(each), failures.append
    )
    session.link = SilentLink()
    return session, received, failures


async def test_an_ended_session_reports_nothing_more() -> None:
    session, received, failures = recording()
    session.link_failed(BrokerError("before"))
    session.message_received("c", b"1")
    session.link_lost(BrokerError("gone"))
    session.link_lost(BrokerError("gone again"))
    session.link_failed(BrokerError("after"))
    session.message_received("c", b"2")
    assert received == [("c", b"1")]
    assert [str(error) for error in failures] == ["before"]
    assert str(session.ended.result()) == "gone"


async def test_a_heartbeat_of_somebody_else_is_not_delivered() -> None:
    session, received, _ = recording()
    session.message_received("inbox", b"unknown")
    assert received == []


async def test_an_answer_counts_once() -> None:
    session, *_ = recording()
    refused, confirmed = publish(), publish()
    session.publish([refused, confirmed])
    session.publishes_confirmed([confirmed])
    session.publish_refused(refused, BrokerError("not you"))
    session.publish_refused(confirmed, BrokerError("too late"))
    session.publishes_confirmed([refused])
    await soon(confirmed.confirmed)
    with pytest.raises(BrokerError, match="not you"):
        await soon(refused.confirmed)
    assert session.unconfirmed == {}


async def test_an_operation_ends_with_the_link() -> None:
    session, *_ = recording()
    never = asyncio.Event()
    running = asyncio.ensure_future(session.run(never.wait()))
    await asyncio.sleep(0)
    session.link_lost(BrokerError("gone"))
    with pytest.raises(BrokerError, match="gone"):
        await soon(running)


class EchoingLink(SilentLink):
    """A link that works, except that it never answers to subscriptions of `silent` channels.

    `changed` is called before each subscription.
    """

    def __init__(self, session: Session, silent: str = "", refused: str = "") -> None:
        self.session = session
        self.silent = silent
        self.refused = refused
        self.subscribed: set[str] = set()
        self.changed: Callable[[], None] = lambda: None

    def publish(self, publishes: Sequence[Publish]) -> None:
        for each in publishes:
            self.session.message_received(each.channel, each.payload)
        self.session.publishes_confirmed(publishes)

    async def subscribe(self, channels: Sequence[str]) -> Mapping[str, BrokerError]:
        self.changed()
        if self.silent in channels:
            await asyncio.Event().wait()
        self.subscribed.update(channels)
        return {self.refused: BrokerError("not you")} if self.refused in channels else {}

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        self.subscribed.difference_update(channels)


class ConnectorOf:
    name = "somewhere"

    def __init__(self, link: SilentLink) -> None:
        self.link = link

    async def connect(self, listener: LinkListener) -> Link:
        return self.link


@pytest.mark.parametrize(
    ("silent", "problem"),
    [("inbox", "There was no answer within 9 s"), ("c", "did not confirm the subscriptions")],
)
async def test_a_backend_that_does_not_answer_is_given_up(silent: str, problem: str) -> None:
    async with testing.clock(auto=True) as clock:
        options = BrokerOptions(connect_timeout=9)
        session = Session(options, "inbox", lambda *_: None, lambda _: None)
        connector = ConnectorOf(EchoingLink(session, silent))
        with pytest.raises(BrokerError, match=problem):
            await session.open(connector, {"c"})
        assert clock.time() >= 9


async def test_an_inbox_that_is_refused_fails_the_opening() -> None:
    session, *_ = recording()
    with pytest.raises(BrokerError, match="not you"):
        await soon(session.open(ConnectorOf(EchoingLink(session, refused="inbox")), set()))


async def test_channels_that_change_while_it_opens() -> None:
    """It ends with what is wanted then, and refused ones are reported."""
    session, _, failures = recording()
    link = EchoingLink(session, refused="b")
    channels = {"a"}

    def change() -> None:
        if "a" in link.subscribed:
            channels.discard("a")
        elif "inbox" in link.subscribed:
            channels.update(("b", "c"))

    link.changed = change
    await soon(session.open(ConnectorOf(link), channels))
    assert channels == {"b", "c"}
    assert link.subscribed == {"inbox", "b", "c"}
    assert [str(error) for error in failures] == [
        "The backend refused the subscription to the channel 'b': not you"
    ]


async def test_a_heartbeat_that_does_not_return_ends_the_session() -> None:
    async with testing.clock(auto=True):
        session, *_ = recording()
        await session.prove_repeatedly()
        reason = "The backend did not deliver a heartbeat within 2 s"
        assert str(session.ended.result()) == reason
