"""One session of a link made up for the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from socketcluster.brokers.adapter import BrokerOptions, Publish
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
