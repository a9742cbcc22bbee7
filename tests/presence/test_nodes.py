"""What nodes know of each other's members, on a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from presence.nodes import Client, Message, Network, Node
from socketcluster import testing
from socketcluster.errors import InvalidArgumentsError
from socketcluster.presence.options import Presence

ROOM = "room/1"


class Cluster:
    """Nodes, and the clock."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.network = Network()
        self.nodes: list[Node] = []

    async def start(self, count: int = 1, **options: Any) -> list[Node]:
        presence = Presence(**{"leave_delay": 5, **options})
        made = [Node(self.network, presence) for _ in range(count)]
        for node in made:
            node.start()
        self.nodes += made
        await self.clock.advance(2)
        return made

    def sent(self, since: float) -> list[tuple[float, str, Any]]:
        return [each for each in self.network.presence() if each[0] >= since]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with testing.clock() as clock:
        cluster = Cluster(clock)
        yield cluster
        for node in cluster.nodes:
            node.kill()
            assert node.faults == []


async def test_members_of_all_nodes_are_known_where_there_are_subscribers(
    cluster: Cluster,
) -> None:
    a, b, c = await cluster.start(3)
    a.join(ROOM, 1, "alice", {"name": "Alice"})
    a.join(ROOM, 2, None)
    await cluster.clock.advance(0.1)
    b.join(ROOM, 1, "bob")
    b.join(ROOM, 2, "alice", {"name": "Alice"})
    b.join(ROOM, 3, "alice", {"name": "A"})
    await cluster.clock.advance(0.6)
    everyone = {"alice": [{"name": "Alice"}, {"name": "A"}], "bob": []}
    for node in (a, b):
        known = node.known(ROOM)
        assert known is not None
        assert {user: sorted(map(str, infos)) for user, infos in known.items()} == {
            user: sorted(map(str, infos)) for user, infos in everyone.items()
        }
        found = await node.channels.occupancy(ROOM)
        assert (found.sockets, found.users, found.complete) == (5, 2, True)
        assert (await node.channels.state(ROOM)).count == 3
    assert c.known(ROOM) is None  # It has no subscriber, and keeps nothing.


async def test_a_node_without_subscribers_asks_and_forgets(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice", 7)
    await cluster.clock.advance(1)
    asking = cluster.clock.time()
    task: Any = b.channels.state(ROOM)
    state = await _within(cluster, task)
    assert state.members == {"alice": [7]}
    assert state.complete
    assert cluster.clock.time() - asking < 1
    assert b.known(ROOM) is None
    for name in ("news", "$presence/room/1"):
        with pytest.raises(InvalidArgumentsError, match="No rule of the server has presence"):
            await b.channels.state(name)


async def _within(cluster: Cluster, coroutine: Any, seconds: float = 3) -> Any:
    """The result of something that takes time on the clock."""
    import asyncio

    task = asyncio.create_task(coroutine)
    for _ in range(int(seconds * 20)):
        await cluster.clock.advance(0.05)
        if task.done():
            break
    return await task


async def test_a_node_that_does_not_answer_is_waited_for_two_seconds(cluster: Cluster) -> None:
    a, b, c = await cluster.start(3)
    a.join(ROOM, 1, "alice")
    await cluster.clock.advance(1)
    cluster.network.loses = lambda sender, receiver: c.link is not None and sender == c.link.id
    state = await _within(cluster, b.channels.state(ROOM))
    assert state.members == {"alice": []}
    assert not state.complete


async def test_joins_and_leaves_of_250_ms_are_one_message(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    b.join(ROOM, 0, "bob")
    a.join(ROOM, 0, "alice")
    await cluster.clock.advance(2)
    start = cluster.clock.time()
    for number in range(100):
        a.join(ROOM, number + 1, f"user-{number}")
        await cluster.clock.advance(0.02)
    await cluster.clock.advance(0.5)
    assert len(cluster.sent(start)) <= 2 / 0.25 + 1
    assert len(b.known(ROOM) or ()) == 102
    # A node sends nothing while nothing changes, and per message nothing at all.
    start = cluster.clock.time()
    await cluster.clock.advance(60)
    assert cluster.sent(start) == []


async def test_a_lone_node_sends_no_changes(cluster: Cluster) -> None:
    (a,) = await cluster.start()
    for number in range(10):
        a.join(ROOM, number, "alice")
        await cluster.clock.advance(1)
    assert len(cluster.network.presence()) == 1  # Its greeting.
    (b,) = await cluster.start()
    b.join(ROOM, 0, "bob")
    await cluster.clock.advance(1)
    assert set(a.known(ROOM) or ()) == set(b.known(ROOM) or ()) == {"alice", "bob"}


async def test_who_comes_back_within_the_delay_has_not_left(cluster: Cluster) -> None:
    a, b, c = await cluster.start(3)
    c.channels.watch(ROOM, "viewer")
    a.join(ROOM, 1, "alice", 1)
    await cluster.clock.advance(2)
    before = len(c.shown)
    a.leave(ROOM, 1)
    await cluster.clock.advance(4)
    b.join(ROOM, 1, "alice", 1)  # On another node.
    await cluster.clock.advance(10)
    b.leave(ROOM, 1)
    await cluster.clock.advance(4.5)
    b.join(ROOM, 2, "alice", 1)
    await cluster.clock.advance(10)
    assert c.shown[before:] == []
    b.leave(ROOM, 2)
    await cluster.clock.advance(4.9)
    assert c.shown[before:] == []
    await cluster.clock.advance(0.2)
    assert c.shown[before:] == [("viewer", {"join": {}, "leave": ["alice"], "count": 0})]
    assert [node.known(ROOM) for node in (a, b)] == [None, None]


async def test_a_silent_node_is_gone_after_15_seconds_and_the_delay(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    a.join(ROOM, 2, None)
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(7)
    a.kill()
    await cluster.clock.advance(15 + 5)
    assert b.known(ROOM) == {"bob": []}
    assert (await b.channels.occupancy(ROOM)).sockets == 1
    assert list(b.following.channels[ROOM].members.nodes) == [""]


async def test_a_silent_node_is_there_before(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(7)
    a.kill()
    await cluster.clock.advance(14)
    assert b.known(ROOM) == {"bob": [], "alice": []}


async def test_a_node_that_closes_says_so_and_its_members_stay_for_the_delay(
    cluster: Cluster,
) -> None:
    a, b = await cluster.start(2)
    b.join(ROOM, 1, "bob")
    a.join(ROOM, 1, "alice", 1)
    a.join(ROOM, 2, "carol")
    a.join(ROOM, 3, None)
    await cluster.clock.advance(2)
    a.leave(ROOM, 1)  # The drain closes its sockets.
    a.close()  # The last of them maybe not.
    await cluster.clock.advance(2.9)
    assert set(b.known(ROOM) or ()) == {"alice", "bob", "carol"}
    assert (await b.channels.occupancy(ROOM)).sockets == 1
    (c,) = await cluster.start()
    c.join(ROOM, 1, "dave")  # It takes the place of the node, and asks.
    await cluster.clock.advance(1)
    assert b.known(ROOM) == {"bob": [], "dave": []}  # Five seconds are over.
    c.join(ROOM, 2, "alice", 1)
    await cluster.clock.advance(0.3)
    for node in (b, c):
        assert set(node.known(ROOM) or ()) == {"alice", "bob", "dave"}


async def test_a_new_node_is_told_of_members_of_nodes_that_are_gone(cluster: Cluster) -> None:
    a, b, c = await cluster.start(3)
    for node, user in ((a, "alice"), (b, "bob")):
        node.join(ROOM, 1, user, user)
    await cluster.clock.advance(2)
    a.leave(ROOM, 1)
    a.close()
    await cluster.clock.advance(1)
    c.join(ROOM, 1, "carol", "carol")
    await cluster.clock.advance(0.5)
    assert c.known(ROOM) == {"carol": ["carol"], "bob": ["bob"], "alice": ["alice"]}
    await cluster.clock.advance(3.6)
    assert b.known(ROOM) == c.known(ROOM) == {"bob": ["bob"], "carol": ["carol"]}
    await cluster.clock.advance(20)
    assert set(c.following.channels[ROOM].members.nodes) <= {"", b.link.id}  # type: ignore[union-attr]


async def test_partitions_heal(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(2)
    cluster.network.loses = lambda sender, receiver: True
    a.join(ROOM, 2, "anna")
    b.leave(ROOM, 1)
    b.join(ROOM, 2, "bea")
    await cluster.clock.advance(30)
    assert set(a.known(ROOM) or ()) == {"alice", "anna"}
    assert set(b.known(ROOM) or ()) == {"bea"}
    cluster.network.loses = lambda sender, receiver: False
    await cluster.clock.advance(6)
    assert set(a.known(ROOM) or ()) == set(b.known(ROOM) or ()) == {"alice", "anna", "bea"}


@pytest.mark.parametrize("lost", range(1, 5))
async def test_a_lost_message_is_asked_for(cluster: Cluster, lost: int) -> None:
    a, b = await cluster.start(2)
    b.join(ROOM, 0, "bob")
    await cluster.clock.advance(2)
    count = 0

    def loses(sender: str, receiver: str) -> bool:
        nonlocal count
        count += 1
        return count == lost

    cluster.network.loses = loses
    for number in range(3):
        a.join(ROOM, number, f"user-{number}")
        await cluster.clock.advance(0.3)
    await cluster.clock.advance(7)  # The next sign of life tells of a last one that is lost.
    for node in (a, b):
        assert set(node.known(ROOM) or ()) == {"bob", "user-0", "user-1", "user-2"}


async def test_a_lost_leave_of_a_node_that_does_not_follow_the_channel_any_more(
    cluster: Cluster,
) -> None:
    a, b = await cluster.start(2, leave_delay=0)
    b.join(ROOM, 0, "bob")
    a.join(ROOM, 1, "alice")
    a.join("room/2", 1, "alice")
    await cluster.clock.advance(2)
    cluster.network.loses = lambda sender, receiver: True
    a.leave(ROOM, 1)
    await cluster.clock.advance(4)
    assert a.known(ROOM) is None
    assert set(b.known(ROOM) or ()) == {"alice", "bob"}
    cluster.network.loses = lambda sender, receiver: False
    await cluster.clock.advance(7)
    assert b.known(ROOM) == {"bob": []}


async def test_an_old_message_changes_nothing(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    b.join(ROOM, 0, "bob")
    await cluster.clock.advance(2)
    a.join(ROOM, 1, "alice")
    await cluster.clock.advance(1)
    recorded = [data for _, node, data in cluster.network.presence() if node == a.link.id]  # type: ignore[union-attr]
    a.channels.join(ROOM, a.rule, 2, a.channels.seat(ROOM, 1)._replace(user="anna"))  # type: ignore[union-attr]
    await cluster.clock.advance(1)
    for data in recorded:
        b.link.receive("presence", Message(a.link.id, data))  # type: ignore[union-attr]
    assert set(b.known(ROOM) or ()) == {"alice", "anna", "bob"}


async def test_what_is_too_large_for_a_message_is_split(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    info = {"text": "x" * 1000}
    for number in range(500):
        a.join(ROOM, number, f"user-{number}", info)
    for number in range(3000):
        a.join("room/" + "y" * 200 + str(number), 0, "alice")
        b.join("room/" + "y" * 200 + str(number), 0, "bob")
    b.join(ROOM, 0, "bob")
    await cluster.clock.advance(3)  # The network of this test refuses what is too large.
    assert len(b.known(ROOM) or ()) == 501
    assert (b.known(ROOM) or {})["user-7"] == [info]
    for number in range(0, 3000, 100):
        known = b.known("room/" + "y" * 200 + str(number))
        assert set(known or ()) == {"alice", "bob"}


async def test_a_thousand_nodes_are_answered_in_messages_that_are_not_too_large(
    cluster: Cluster,
) -> None:
    (a,) = await cluster.start()
    assert a.link is not None
    a.join(ROOM, 1, "alice")
    await cluster.clock.advance(1)
    start = cluster.clock.time()
    names = [f"{number:032}" for number in range(1000)]
    for name in names:
        data = {"version": 1, "asks": [{"number": 1, "channels": [ROOM]}]}
        a.link.receive("presence", Message(name, data))
    await cluster.clock.advance(1)
    sent = [data for _, _, data in cluster.sent(start)]
    answered = [name for data in sent for name in data.get("acks", ())]
    assert sorted(answered) == names
    told = [
        data["channels"][ROOM].get("users") for data in sent if ROOM in data.get("channels", ())
    ]
    assert told == [{"alice": []}]
    # Those that do not answer are asked again, all at once.
    a.join("room/2", 1, "alice")
    await cluster.clock.advance(2)
    asks = [ask for _, _, data in cluster.sent(start) for ask in data.get("asks", ())]
    assert len(asks) >= 2
    assert all(ask.get("nodes", []) == [] for ask in asks)


async def test_above_the_limit_only_counts_are_told(cluster: Cluster) -> None:
    a, b = await cluster.start(2, members_limit=10, leave_delay=0)
    b.join(ROOM, 0, "bob")
    b.channels.watch(ROOM, "viewer")
    for number in range(11):
        a.join(ROOM, number, f"user-{number}")
    await cluster.clock.advance(2)
    start = cluster.clock.time()
    a.join(ROOM, 11, "user-11")
    a.join(ROOM, 12, None)
    await cluster.clock.advance(2)
    assert "user" not in str(cluster.sent(start))
    for node in (a, b):
        state = await node.channels.state(ROOM)
        assert (state.members, state.count) == (None, 14)
        assert (await node.channels.occupancy(ROOM)).users == 13
    assert b.shown[-1] == ("viewer", {"count": 14})
    for number in range(9, 12):
        a.leave(ROOM, number)  # Ten are left.
    await cluster.clock.advance(2)
    assert b.shown[-1] == ("viewer", {"count": 11})  # They are not listed again at the limit.
    a.leave(ROOM, 8)
    await cluster.clock.advance(2)
    last: Any = b.shown[-1][1]
    assert set(last) == {"state", "count"}
    assert len(last["state"]) == 9
    assert len((await b.channels.state(ROOM)).members or ()) == 9
    client = Client()
    for _, data in b.shown:
        client.take(data)
    assert client.state == b.known(ROOM)


async def test_counted_members_of_a_node_that_is_gone_stay_for_the_delay(cluster: Cluster) -> None:
    a, b = await cluster.start(2, members_limit=2)
    b.join(ROOM, 0, "bob")
    for number in range(5):
        a.join(ROOM, number, f"user-{number}")
    await cluster.clock.advance(2)
    a.close()
    await cluster.clock.advance(4)
    assert (await b.channels.state(ROOM)).count == 6
    await cluster.clock.advance(1.5)
    assert (await b.channels.state(ROOM)).members == {"bob": []}


async def test_a_socket_whose_user_changes_moves_at_once(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    b.join(ROOM, 0, "bob")
    a.join(ROOM, 1, None)
    await cluster.clock.advance(1)
    assert (await b.channels.state(ROOM)).count == 2
    a.join(ROOM, 1, "alice", 1)
    await cluster.clock.advance(1)
    assert b.known(ROOM) == {"bob": [], "alice": [1]}
    a.join(ROOM, 1, "anna", 2)
    await cluster.clock.advance(1)
    assert b.known(ROOM) == {"bob": [], "anna": [2]}
    assert (await b.channels.occupancy(ROOM)).sockets == 2
    a.join(ROOM, 1, None)
    await cluster.clock.advance(1)
    assert (await b.channels.state(ROOM)).count == 2


async def test_events_of_the_first_and_the_last_subscriber(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    await cluster.clock.advance(1)
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(1)
    a.join(ROOM, 2, None)
    a.leave(ROOM, 1)
    a.leave(ROOM, 2)
    await cluster.clock.advance(10)
    assert (a.events, b.events) == ([("occupied", ROOM)], [])
    b.leave(ROOM, 1)
    await cluster.clock.advance(4)
    assert b.events == []
    await cluster.clock.advance(2)
    assert (a.events, b.events) == ([("occupied", ROOM)], [("vacated", ROOM)])
    assert a.following.channels == b.following.channels == {}
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(1)
    assert b.events[-1] == ("occupied", ROOM)


async def test_first_subscribers_at_the_same_moment_are_told_at_least_once(
    cluster: Cluster,
) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(2)
    assert ("occupied", ROOM) in a.events + b.events
    a.leave(ROOM, 1)
    b.leave(ROOM, 1)
    await cluster.clock.advance(8)
    assert ("vacated", ROOM) in a.events + b.events
    assert a.following.channels == b.following.channels == {}


async def test_an_outage_of_the_backend(cluster: Cluster) -> None:
    a, b = await cluster.start(2)
    a.join(ROOM, 1, "alice")
    b.join(ROOM, 1, "bob")
    await cluster.clock.advance(2)
    assert a.link is not None
    assert b.link is not None
    a.link.is_away = b.link.is_away = True
    a.join(ROOM, 2, "anna")
    b.join(ROOM, 2, "bea")
    await cluster.clock.advance(9)
    assert set(a.known(ROOM) or ()) == {"alice", "bob", "anna"}
    a.link.is_away = b.link.is_away = False
    await cluster.clock.advance(7)
    assert set(a.known(ROOM) or ()) == set(b.known(ROOM) or ()) == {"alice", "bob", "anna", "bea"}


async def test_without_other_nodes_all_is_known_at_once() -> None:
    async with testing.clock() as clock:
        node = Node(None, Presence(leave_delay=1))
        node.start()
        node.join(ROOM, 1, "alice", 1)
        node.join(ROOM, 2, "alice", 2)
        state = await node.channels.state(ROOM)
        assert (state.members, state.count, state.complete) == ({"alice": [1, 2]}, 1, True)
        assert node.channels.members_here() == {"room/*": 1}
        node.leave(ROOM, 1)
        assert node.known(ROOM) == {"alice": [2]}
        node.leave(ROOM, 2)
        node.leave(ROOM, 2)
        await clock.advance(1.1)
        assert node.events == [("occupied", ROOM), ("vacated", ROOM)]
        assert node.following.channels == {}
        assert node.channels.members_here() == {}
        node.close()
