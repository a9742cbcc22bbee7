"""The members of a channel: who is subscribed to it, on all nodes.

A member is a user. It is *present* while it has a socket there, and *leaving* from the end of its
last socket there until its leave delay is over; both count as being there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

MAX_INFOS = 10
"""How many different infos of one member are shown."""

HERE = ""
"""The name of this node. Those of others are not empty."""

ORPHANS = "~"
"""The name for nodes that have closed, whose leaving members other nodes tell of."""


class Leaving(NamedTuple):
    """A member whose last socket has left.

    Attributes:
        infos: those of its last sockets.
        until: the loop's time at which it has left.
    """

    infos: list[Any]
    until: float


class NodeMembers:
    """The members of one channel on one node. `ChannelMembers` changes it.

    Attributes:
        present: the infos of each member that has a socket there, without repetitions.
        leaving: members whose last socket left.
        guests: how many sockets without a user are there.
        sockets: how many sockets are there.
        users: how many members are there, if there are too many to list; else None.
        announced: whether the node knows that 'occupied' was emitted.
        unconfirmed: known members that a new list of the node has not named until now; None if no
            part of a list is to come.
        parts: how many parts of the list are to come.
    """

    __slots__ = (
        "announced",
        "guests",
        "leaving",
        "parts",
        "present",
        "sockets",
        "unconfirmed",
        "users",
    )

    def __init__(self) -> None:
        self.present: dict[str, list[Any]] = {}
        self.leaving: dict[str, Leaving] = {}
        self.guests: int = 0
        self.sockets: int = 0
        self.users: int | None = None
        self.announced: bool = False
        self.unconfirmed: set[str] | None = None
        self.parts: int = 0

    def __contains__(self, user: str) -> bool:
        return user in self.present or user in self.leaving

    @property
    def size(self) -> int:
        """How many members it has itself, listed or not."""
        return len(self.present) + len(self.leaving)

    @property
    def is_empty(self) -> bool:
        """Whether no member and no socket is there."""
        return not (self.present or self.leaving or self.guests or self.sockets or self.users)


class ChannelMembers:
    """The members of one channel on all nodes.

    Attributes:
        nodes: the members of each node.
        changed: the members that changed since this set was replaced; None without viewers.
    """

    __slots__ = ("_holders", "changed", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[str, NodeMembers] = {}
        self._holders: dict[str, int] = {}  # On how many nodes a listed member is.
        self.changed: set[str] | None = None

    def node(self, name: str) -> NodeMembers:
        """Return the members of a node, none at first."""
        found = self.nodes.get(name)
        if found is None:
            found = self.nodes[name] = NodeMembers()
        return found

    # Changes

    def put(self, name: str, user: str, infos: list[Any]) -> None:
        """Record a member that is present on a node."""
        node = self.node(name)
        if user not in node:
            self._hold(node, user, 1)
        node.leaving.pop(user, None)
        node.present[user] = infos
        self._note(user)

    def leave(self, name: str, user: str, until: float, infos: list[Any] | None = None) -> None:
        """Record that a member leaves a node."""
        node = self.node(name)
        known = node.present.pop(user, None)
        if known is None and user not in node.leaving:
            self._hold(node, user, 1)
        if infos is None:
            former = node.leaving.get(user)
            infos = known or ([] if former is None else former.infos)
        node.leaving[user] = Leaving(infos, until)
        self._note(user)

    def remove(self, name: str, user: str) -> None:
        """Remove a member of a node."""
        node = self.nodes.get(name)
        if node is not None and user in node:
            node.present.pop(user, None)
            node.leaving.pop(user, None)
            self._hold(node, user, -1)
            self._note(user)

    def count_only(self, name: str, users: int | None) -> None:
        """Count the members of a node instead of listing them; None lists them again."""
        node = self.node(name)
        if (node.users is None) != (users is None):
            listed = [*node.present, *node.leaving]
            node.users = None  # So that they are taken out, or put in.
            for user in listed:
                self._hold(node, user, 1 if users is None else -1)
                self._note(user)
        node.users = users

    def clear(self, name: str) -> None:
        """Remove all members of a node."""
        node = self.nodes.get(name)
        if node is None:
            return
        for user in [*node.present, *node.leaving]:
            self.remove(name, user)
        node.users, node.guests, node.sockets, node.announced = None, 0, 0, False

    def begin_list(self, name: str, parts: int) -> None:
        """Begin to replace the members of a node; `parts` follow, and members stay until then."""
        node = self.node(name)
        if node.users is not None:
            self.clear(name)
        node.unconfirmed, node.parts = {*node.present, *node.leaving}, parts

    def confirm(self, name: str, users: Iterable[str]) -> None:
        """Take that a list, or a change, names members of a node."""
        unconfirmed = self.node(name).unconfirmed
        if unconfirmed is not None:
            unconfirmed.difference_update(users)

    def end_part(self, name: str, parts: int) -> None:
        """Take the end of a part; `parts` follow. After the last, those who are not named go.

        If a part is missing, no member goes: the node is asked for another list.
        """
        node = self.node(name)
        if node.unconfirmed is None or node.parts != parts:
            node.unconfirmed = None
        elif parts:
            node.parts = parts - 1
        else:
            unconfirmed, node.unconfirmed = node.unconfirmed, None
            for user in unconfirmed:
                self.remove(name, user)

    def forget_empty(self, alive: Container[str]) -> None:
        """Drop nodes that have closed and have no members any more."""
        for name in [n for n, node in self.nodes.items() if n != HERE and node.is_empty]:
            if name not in alive:
                del self.nodes[name]

    def _hold(self, node: NodeMembers, user: str, step: int) -> None:
        if node.users is not None:
            return
        holders = self._holders.get(user, 0) + step
        if holders:
            self._holders[user] = holders
        else:
            del self._holders[user]

    def _note(self, user: str) -> None:
        if self.changed is not None:
            self.changed.add(user)

    # Looking at them

    @property
    def listed(self) -> int:
        """How many members could be listed."""
        return len(self._holders)

    @property
    def is_complete(self) -> bool:
        """Whether every node lists its members."""
        return all(node.users is None for node in self.nodes.values())

    @property
    def is_announced_elsewhere(self) -> bool:
        """Whether another node that has members knows that 'occupied' was emitted."""
        others = (node for name, node in self.nodes.items() if name != HERE)
        return any(node.announced and not node.is_empty for node in others)

    @property
    def users(self) -> int:
        """How many members there are. A member counts once for each node that only counts."""
        return len(self._holders) + sum(node.users or 0 for node in self.nodes.values())

    @property
    def guests(self) -> int:
        """How many sockets without a user are there."""
        return sum(node.guests for node in self.nodes.values())

    @property
    def sockets(self) -> int:
        """How many sockets are there."""
        return sum(node.sockets for node in self.nodes.values())

    @property
    def count(self) -> int:
        """How many members and sockets without a user there are."""
        return self.users + self.guests

    def infos(self, user: str) -> list[Any] | None:
        """Return the different infos of a member; None if it is not there."""
        if user not in self._holders:
            return None
        found: list[Any] = []
        for node in self.nodes.values():
            _add_new(found, node.present.get(user, ()))
        if not found and not any(user in node.present for node in self.nodes.values()):
            for node in self.nodes.values():
                leaving = node.leaving.get(user)
                _add_new(found, () if leaving is None else leaving.infos)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)


def _add_new(found: list[Any], infos: Any) -> None:
    for info in infos:
        if len(found) < MAX_INFOS and info not in found:
            found.append(info)
