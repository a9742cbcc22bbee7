"""What hostile users, other versions and unlucky packets do to the members of channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from presence.nodes import Client, Message, Network, Node
from socketcluster import testing
from socketcluster.presence.local import LocalSockets, Seat
from socketcluster.presence.options import Presence

ROOM = "room/1"


@pytest.fixture
async def clock() -> AsyncIterator[Any]:
    async with testing.clock() as clock:
        yield clock


@pytest.fixture
async def nodes(clock: Any) -> AsyncIterator[list[Node]]:
    network = Network()
    made = [Node(network, Presence(leave_delay=5)) for _ in range(2)]
    for node in made:
        node.start()
    await clock.advance(2)
    yield made
    for node in made:
        node.kill()
        assert node.faults == []


async def test_a_channel_is_occupied_anew_after_another_node_vacated_it(
    nodes: list[Node], clock: Any
) -> None:
    a, b = nodes
    b.channels.watch(ROOM, "viewer")
    a.join(ROOM, 1, "alice")
    await clock.advance(2)
    a.leave(ROOM, 1)
    await clock.advance(10)
    assert a.events == [("occupied", ROOM), ("vacated", ROOM)]
    b.join(ROOM, 1, "bob")
    await clock.advance(2)
    assert b.events == [("occupied", ROOM)]


async def test_a_long_list_that_is_told_again_shows_no_leaves(
    nodes: list[Node], clock: Any
) -> None:
    a, b = nodes
    b.channels.watch(ROOM, "viewer")
    for number in range(200):
        a.join(ROOM, number, f"user-{number}", "x" * 900)
    await clock.advance(3)
    client = Client()
    for _, data in b.shown:
        client.take(data)
    assert len(client.state or ()) == 200
    b.shown.clear()
    assert a.link is not None
    network, delays = a.link.network, iter(range(10_000))
    network.delay = lambda: next(delays) * 0.05
    c = Node(network, Presence(leave_delay=5))
    c.start()
    c.channels.watch(ROOM, "other")
    for _ in range(100):
        await clock.advance(0.1)
    network.delay = lambda: 0.0
    assert len(c.known(ROOM) or ()) == 200
    c.kill()
    assert [data for _, data in b.shown] == []


async def test_members_that_left_unnoticed_are_gone_after_a_long_list(
    nodes: list[Node], clock: Any
) -> None:
    a, b = nodes
    b.channels.watch(ROOM, "viewer")
    for number in range(200):
        a.join(ROOM, number, f"user-{number}", "x" * 900)
    await clock.advance(3)
    assert a.link is not None
    a.link.network.loses = lambda sender, receiver: True
    for number in range(0, 200, 2):
        a.leave(ROOM, number)
    await clock.advance(8)
    a.link.network.loses = lambda sender, receiver: False
    await clock.advance(8)
    assert b.known(ROOM) == a.known(ROOM)
    assert len(b.known(ROOM) or ()) == 100


async def test_a_member_whose_leave_was_lost_is_gone_though_its_node_follows_no_more(
    nodes: list[Node], clock: Any
) -> None:
    a, b = nodes
    b.channels.watch(ROOM, "viewer")
    a.join(ROOM, 1, "alice")
    await clock.advance(2)
    assert a.link is not None
    a.link.network.loses = lambda sender, receiver: True
    a.leave(ROOM, 1)
    await clock.advance(8)
    assert a.known(ROOM) is None
    a.link.network.loses = lambda sender, receiver: False
    await clock.advance(8)
    assert b.known(ROOM) == {}


async def test_a_node_that_understands_nothing_costs_little(nodes: list[Node], clock: Any) -> None:
    a, b = nodes
    assert a.link is not None
    messages: Any = a.following.messages
    a.join(ROOM, 1, "alice")
    version = 1
    for minute in range(120):  # It has changes, too, which this one does not understand.
        version += 7
        a.link.receive("alive", Message("of-another-version", {"presence": version}))
        a.channels.watch(f"room/{minute + 10}", "viewer")
        await clock.advance(2)
        a.channels.unwatch(f"room/{minute + 10}", "viewer")
        await clock.advance(3)
    assert len(messages._questions) < 20
    start = clock.time()
    a.link.network.sent.clear()
    for _ in range(4):
        version += 7
        a.link.receive("alive", Message("of-another-version", {"presence": version}))
        await clock.advance(5)
    assert clock.time() - start >= 20
    assert len([each for each in a.link.network.presence() if each[1] == a.link.id]) <= 30
    # All others are known as ever.
    b.join(ROOM, 1, "bob")
    await clock.advance(1)
    assert set(a.known(ROOM) or ()) == {"alice", "bob"}


class Compared(dict[str, Any]):
    """Counts the comparisons."""

    count = 0

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return super().__eq__(other)

    __hash__ = None


def test_many_sockets_of_one_user_are_not_compared_with_each_other() -> None:
    sockets = LocalSockets()
    for number in range(1000):
        sockets.add(number, Seat("alice", Compared(name="Alice")))
        assert sockets.infos("alice") == [{"name": "Alice"}]
    assert Compared.count <= 3000
    sockets.add("last", Seat("alice", Compared(name="A")))
    assert sockets.infos("alice") == [{"name": "Alice"}, {"name": "A"}]
    for number in range(1000):
        sockets.remove(number)
    assert sockets.infos("alice") == [{"name": "A"}]
    sockets.remove("last")
    assert sockets.infos("alice") is None
