"""Random programs of joins, leaves, kills, lost and late messages: in the end all nodes agree.

Whatever happened, once it is quiet every node that follows a channel knows the members that there
are, and every viewer has been told exactly of them.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from presence.nodes import Client, Network, Node, chance
from socketcluster import testing
from socketcluster.presence.options import Presence

SOAK = bool(os.environ.get("SOAK"))
SEEDS = range(200 if SOAK else 12)
STEPS = 200
CHANNELS = ("room/1", "room/2")
QUIET_SECONDS = 40
"""More than a silent node, its leave delay, and a sign of life together take."""


class Program:
    """Does random things to nodes, and knows what should be the result."""

    def __init__(self, seed: int, clock: Any) -> None:
        self.random = chance(seed)
        self.clock = clock
        self.network = Network()
        self.presence = Presence(leave_delay=self.random.choice([0, 3]), members_limit=1000)
        if seed % 3 == 2:
            self.presence = Presence(leave_delay=3, members_limit=4)
        self.nodes: list[Node] = []
        self.seats: dict[tuple[Node, str, int], tuple[str | None, Any]] = {}
        self.viewers: dict[tuple[Node, str], Client] = {}
        for _ in range(3):
            self.add()

    def add(self) -> None:
        node = Node(self.network, self.presence)
        node.start()
        self.nodes.append(node)

    async def step(self) -> None:
        roll = self.random.random()
        node = self.random.choice(self.nodes)
        channel = self.random.choice(CHANNELS)
        if roll < 0.45:
            key = node, channel, self.random.randrange(6)
            user = self.random.choice([None, "alice", "bob", "carol", "dave", "erin", "frank"])
            info = self.random.choice([1, 2])
            node.join(channel, key, user, info)
            self.seats[key] = user, info
        elif roll < 0.8:
            mine = [key for key in self.seats if key[0] is node]
            if mine:
                key = self.random.choice(mine)
                node.leave(key[1], key)
                del self.seats[key]
        elif roll < 0.84 and len(self.nodes) > 1:
            self.end(node)
        elif roll < 0.88 and len(self.nodes) < 5:
            self.add()
        elif roll < 0.93:
            if (node, channel) in self.viewers:
                node.channels.unwatch(channel, (node, channel))
                del self.viewers[node, channel]
            else:
                node.channels.watch(channel, (node, channel))
                self.viewers[node, channel] = Client()
        await self.clock.advance(self.random.choice([0, 0.01, 0.2, 0.7]))
        self.show()

    def end(self, node: Node) -> None:
        self.nodes.remove(node)
        self.seats = {key: seat for key, seat in self.seats.items() if key[0] is not node}
        self.viewers = {key: client for key, client in self.viewers.items() if key[0] is not node}
        assert node.faults == []
        if self.random.random() < 0.5:
            node.kill()
        else:
            node.close()

    def show(self) -> None:
        """Let viewers take what they were sent."""
        for node in self.nodes:
            for viewer, data in node.shown:
                if viewer in self.viewers:
                    self.viewers[viewer].take(data)
            node.shown.clear()

    def disturb(self) -> None:
        def loses(sender: str, receiver: str) -> bool:
            return self.random.random() < 0.2

        self.network.loses = loses
        self.network.delay = lambda: self.random.choice([0, 0, 0.01, 0.3])

    def calm(self) -> None:
        self.network.loses = lambda sender, receiver: False
        self.network.delay = lambda: 0.0

    def check(self) -> None:
        for channel in CHANNELS:
            here = [seat for key, seat in self.seats.items() if key[1] == channel]
            guests = sum(user is None for user, _ in here)
            users = {user for user, _ in here if user is not None}
            wanted = {user: sorted({i for u, i in here if u == user}) for user in users}
            follows = {key[0] for key in self.seats if key[1] == channel}
            follows |= {key[0] for key in self.viewers if key[1] == channel}
            for node in self.nodes:
                known = node.following.channels.get(channel)
                assert (known is not None) == (node in follows)
                if known is None:
                    continue
                if known.members.is_complete:
                    found = {u: sorted(known.members.infos(u) or []) for u in known.members}
                    assert found == wanted
                    assert known.members.count == len(users) + guests
                assert known.members.sockets == len(here)
                alive = {each.link.id for each in self.nodes if each.link is not None}
                assert set(known.members.nodes) <= {"", *alive}
                client = self.viewers.get((node, channel))
                if client is not None:
                    assert client.count == known.members.count
                    if client.state is not None:
                        shown = {user: sorted(infos) for user, infos in client.state.items()}
                        assert shown == wanted
                    else:
                        assert self.presence.members_limit == 4


@pytest.mark.parametrize("seed", SEEDS)
async def test_all_nodes_agree_after_quiet(seed: int) -> None:
    async with testing.clock() as clock:
        program = Program(seed, clock)
        for part in range(3):
            if part != 1:
                program.disturb()
            for _ in range(STEPS // 3):
                await program.step()
            program.calm()
            await clock.advance(QUIET_SECONDS)
            program.show()
            program.check()
        for node in program.nodes:
            assert node.faults == []
            node.kill()
