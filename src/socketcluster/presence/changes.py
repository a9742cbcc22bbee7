"""Changes of members between nodes: made of a node's own, and taken from others."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

from socketcluster.presence.members import HERE, ORPHANS, ChannelMembers, NodeMembers
from socketcluster.presence.packets import Change, Leavers

Leaver = tuple[str, str, float, list[Any] | None]
"""The node and the member, the seconds until it has left, and its infos if they are known."""


def describe(
    members: ChannelMembers, users: Iterable[str] | None, now: float, alive: Container[str]
) -> Change | None:
    """Describe the members `users` of this node, or all if it is None.

    `alive` has the nodes that tell of their own members.
    """
    here = members.nodes[HERE]
    change = Change(guests=here.guests, sockets=here.sockets, announced=here.announced)
    if users is None:
        change.full = True
        change.orphans = _orphans(members, now, alive)
    if here.users is not None:
        change.counted = here.users
    elif users is None:
        change.users = dict(here.present)
        change.leaving = _leavers(here, now)
    else:
        for user in users:
            leaving = here.leaving.get(user)
            known: Any = here.present.get(user)
            change.users[user] = known if leaving is None else _seconds(leaving.until, now)
    return change


def apply_change(members: ChannelMembers, node: str, change: Change) -> Iterator[Leaver]:
    """Take the change of a node; yield the members that are leaving."""
    if change.counted is not None:
        members.clear(node)
    elif change.full:
        members.begin_list(node, change.parts)
    members.count_only(node, change.counted)
    for user, known in change.users.items():
        if known is None:
            members.remove(node, user)
        elif isinstance(known, list):
            members.put(node, user, known)
        else:
            yield node, user, known, None
    for user, (infos, seconds) in change.leaving.items():
        yield node, user, seconds, infos
    orphans = members.nodes.get(ORPHANS)
    for user, (infos, seconds) in change.orphans.items():
        if orphans is None or user not in orphans:  # Else nodes would tell each other for ever.
            yield ORPHANS, user, seconds, infos
    members.confirm(node, change.users)
    members.confirm(node, change.leaving)
    if change.full or change.is_part:
        members.end_part(node, change.parts)
    found = members.node(node)
    found.guests, found.sockets = change.guests, change.sockets
    found.announced = change.announced


def _seconds(until: float, now: float) -> float:
    return max(0.0, round(until - now, 3))


def _leavers(node: NodeMembers, now: float) -> Leavers:
    return {user: (each.infos, _seconds(each.until, now)) for user, each in node.leaving.items()}


def _orphans(members: ChannelMembers, now: float, alive: Container[str]) -> Leavers:
    """The leaving members of nodes that have closed, and cannot tell of them."""
    found: Leavers = {}
    for name, node in members.nodes.items():
        if name != HERE and name not in alive:
            found |= _leavers(node, now)
    return found
