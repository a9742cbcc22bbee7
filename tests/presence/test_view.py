"""What viewers of `$presence/…` are shown, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from presence.nodes import Client, Node
from socketcluster import testing
from socketcluster.presence.options import Presence

ROOM = "room/1"


@pytest.fixture
async def clock() -> AsyncIterator[Any]:
    async with testing.clock() as clock:
        yield clock


def started(**options: Any) -> Node:
    size = options.pop("max_size", 10**6)
    node = Node(None, Presence(**{"leave_delay": 0, **options}), size)
    node.start()
    return node


async def test_first_the_members_then_one_change_a_second(clock: Any) -> None:
    node = started()
    node.join(ROOM, 1, "alice", {"name": "Alice"})
    node.join(ROOM, 2, None)
    node.channels.watch(ROOM, "v")
    await clock.advance(0)
    assert node.shown == [("v", {"state": {"alice": [{"name": "Alice"}]}, "count": 2})]
    node.shown.clear()
    node.join(ROOM, 3, "bob", 1)
    await clock.advance(0)  # The first change after quiet is shown at once.
    node.join(ROOM, 4, "carol", 1)
    node.join(ROOM, 5, "carol", 2)
    node.leave(ROOM, 1)
    node.join(ROOM, 6, "dave")
    node.leave(ROOM, 6)
    await clock.advance(0.9)
    assert node.shown == [("v", {"join": {"bob": [1]}, "leave": [], "count": 3})]
    await clock.advance(0.2)
    assert node.shown[1:] == [("v", {"join": {"carol": [1, 2]}, "leave": ["alice"], "count": 3})]
    await clock.advance(60)
    assert len(node.shown) == 2
    for number in range(100):
        node.join(ROOM, 10 + number, f"user-{number}")
        await clock.advance(0.05)
    await clock.advance(1)
    assert len(node.shown) <= 2 + 7
    node.close()


async def test_who_comes_later_knows_the_same_as_the_others(clock: Any) -> None:
    node = started()
    node.channels.watch(ROOM, "first")
    await clock.advance(0)
    clients = {"first": Client(), "second": Client()}
    node.join(ROOM, 1, "alice")
    await clock.advance(0.1)
    node.join(ROOM, 2, "bob")
    node.channels.watch(ROOM, "second")
    await clock.advance(0)
    assert node.shown[-1] == ("second", {"state": {"alice": []}, "count": 1})
    await clock.advance(1)
    for viewer, data in node.shown:
        clients[viewer].take(data)
    assert clients["first"].state == clients["second"].state == {"alice": [], "bob": []}
    node.channels.unwatch(ROOM, "first")
    node.channels.unwatch(ROOM, "first")
    node.shown.clear()
    node.leave(ROOM, 1)
    await clock.advance(2)
    assert node.shown == [("second", {"join": {}, "leave": ["alice"], "count": 1})]
    node.channels.unwatch(ROOM, "second")
    node.leave(ROOM, 2)
    await clock.advance(2)
    assert len(node.shown) == 1
    assert node.following.channels == {}
    node.close()


async def test_a_viewer_that_leaves_before_it_is_told(clock: Any) -> None:
    node = started()
    node.channels.watch(ROOM, "v")
    node.channels.unwatch(ROOM, "v")
    await clock.advance(2)
    assert node.shown == []
    assert node.following.channels == {}
    node.close()


async def test_members_that_are_too_large_to_be_shown_are_counted(clock: Any) -> None:
    node = started(max_size=2000)
    node.join(ROOM, 0, "alice", "x" * 500)
    node.channels.watch(ROOM, "v")
    await clock.advance(0)
    for number in range(3):
        node.join(ROOM, number + 1, f"user-{number}", "y" * 900)
    await clock.advance(2)
    assert node.shown[-1] == ("v", {"count": 4})
    node.channels.watch(ROOM, "w")
    await clock.advance(2)
    assert node.shown[-1] == ("w", {"count": 4})
    assert len(node.oversize) == 1
    for number in range(3):
        node.leave(ROOM, number + 1)
    await clock.advance(2)
    assert node.shown[-2:] == [
        (viewer, {"state": {"alice": ["x" * 500]}, "count": 1}) for viewer in ("v", "w")
    ]
    node.close()


async def test_the_members_grow_too_large_between_two_viewers(clock: Any) -> None:
    node = started(max_size=2000)
    node.channels.watch(ROOM, "v")
    for number in range(4):  # Each change is small enough.
        node.join(ROOM, number, f"user-{number}", "y" * 600)
        await clock.advance(1.1)
    client = Client()
    node.channels.watch(ROOM, "w")
    await clock.advance(0)
    for viewer, data in node.shown:
        if viewer == "v":
            client.take(data)
    assert client.state is None  # The list of the others is void, too.
    assert node.shown[-2:] == [("v", {"count": 4}), ("w", {"count": 4})]
    node.close()


async def test_a_fault_of_the_codec_is_reported(clock: Any) -> None:
    node = started()
    node.join(ROOM, 1, "alice")
    node.encode = lambda data: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    node.channels.watch(ROOM, "v")
    await clock.advance(1)
    assert [type(error) for error in node.faults] == [ZeroDivisionError]
    node.close()


async def test_ten_infos_of_a_member_are_shown_and_no_member_with_none_is_lost(clock: Any) -> None:
    node = started(leave_delay=5)
    for number in range(20):
        node.join(ROOM, number, "alice", number // 2)
    node.join(ROOM, 100, "bob")
    assert node.known(ROOM) == {"alice": list(range(10)), "bob": []}
    for number in range(20):
        node.leave(ROOM, number)
    assert (node.known(ROOM) or {})["alice"] == [9]  # The last one of a member that is leaving.
    node.close()
