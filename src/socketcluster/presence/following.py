"""Following: the channels whose members on all nodes this node knows."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Any, Protocol

from socketcluster.presence.changes import apply_change, describe
from socketcluster.presence.expiries import Expiries, Expiry
from socketcluster.presence.followed import Followed
from socketcluster.presence.members import HERE
from socketcluster.presence.messages import NodeLink, PresenceMessages
from socketcluster.presence.packets import Change
from socketcluster.presence.rule import Rule

LINGER_SECONDS = 2.0
"""How long a channel is followed after its last member here left, to notice the last one of all."""

LISTED_AGAIN = 0.9
"""The part of `members_limit` down to which a node that only counts goes on doing so."""

ALL = ""
"""In place of a member: all that a node has only counted."""


class Listener(Protocol):
    """Receives the channels that get their first member, or lose their last one."""

    def occupied(self, channel: str) -> None: ...
    def vacated(self, channel: str) -> None: ...


class Following:
    """Keeps the members of channels as long as this node needs them.

    Attributes:
        channels: from the name to the followed channel.
        messages: what nodes tell each other; None if there are no others.
    """

    __slots__ = ("_expiries", "_listener", "_touched", "channels", "messages")

    def __init__(self, listener: Listener, link: NodeLink | None) -> None:
        self.channels: dict[str, Followed] = {}
        self._listener = listener
        self._touched: dict[str, Followed] = {}
        self._expiries = Expiries(self._due, self._expired)
        self.messages: PresenceMessages | None = None
        if link is not None:
            self.messages = PresenceMessages(link, self)

    def start(self) -> None:
        """Begin to tell other nodes."""
        if self.messages is not None:
            self.messages.start()

    def close(self) -> None:
        """Tell other nodes the rest, and forget everything."""
        if self.messages is not None:
            self.messages.close()
        self._expiries.clear()
        for followed in self.channels.values():
            followed.close()
        self.channels.clear()

    def follow(self, channel: str, rule: Rule) -> Followed:
        """Follow a channel, until `judge` finds that it is not wanted."""
        followed = self.channels.get(channel)
        if followed is None:
            followed = self.channels[channel] = Followed(channel, rule)
            if self.messages is None:
                followed.settle(True)
            else:
                self.messages.ask([channel])
        return followed

    def update(self, followed: Followed, user: str | None, at_once: bool = False) -> None:
        """Bring this node's members in line with its sockets, after a change of one user's.

        With `at_once` a user without sockets leaves without delay.
        """
        members, local, here = followed.members, followed.local, followed.here
        if user is not None:
            infos = local.infos(user)
            delay = 0.0 if at_once else followed.presence.leave_delay
            if infos is not None:
                members.put(HERE, user, infos)
            else:
                self._let_leave(followed, HERE, user, delay)
        here.guests, here.sockets = local.guests, len(local)
        self._count(followed)
        if self.messages is not None:
            self.messages.changed(followed.name, user)

    def _count(self, followed: Followed) -> None:
        """Decide whether the members of this node are listed or only counted."""
        here, limit = followed.here, followed.presence.members_limit
        was_counted = here.users is not None
        if was_counted:
            limit = int(limit * LISTED_AGAIN)
        followed.members.count_only(HERE, here.size if here.size > limit else None)
        if was_counted and here.users is None and self.messages is not None:
            self.messages.changed_all(followed.name)

    # Members that leave

    def _let_leave(
        self,
        followed: Followed,
        node: str,
        user: str,
        seconds: float,
        infos: list[Any] | None = None,
    ) -> None:
        if not seconds:
            followed.members.remove(node, user)
            return
        until = asyncio.get_running_loop().time() + seconds
        followed.members.leave(node, user, until, infos)
        self._expiries.add(until, Expiry(followed.name, node, user))

    def _due(self, expiry: Expiry) -> float | None:
        followed = self.channels.get(expiry.channel)
        known = None if followed is None else followed.members.nodes.get(expiry.node)
        if followed is None or known is None:
            return None
        if expiry.user == ALL:
            if expiry.node not in self._alive:
                followed.members.clear(expiry.node)
                self._touched[followed.name] = followed
            return None
        leaving = known.leaving.get(expiry.user)
        if leaving is None:
            return None
        if leaving.until > asyncio.get_running_loop().time():
            return leaving.until  # It was back meanwhile, and has left again.
        followed.members.remove(expiry.node, expiry.user)
        self._touched[followed.name] = followed
        return None

    def _expired(self) -> None:
        touched, self._touched = self._touched, {}
        for followed in touched.values():
            if followed.here.users is not None:
                self._count(followed)
                if self.messages is not None:
                    self.messages.changed(followed.name)
            followed.members.forget_empty(self._alive)
            self.judge(followed)

    # Reactions to a change

    def judge(self, followed: Followed) -> None:
        """React to a change of members; forget a channel that is not wanted."""
        self._notice(followed)
        self.end_unwanted(followed)

    def _notice(self, followed: Followed) -> None:
        """Tell viewers and listeners of a change.

        Of several servers that get a channel's first members at the same time each may emit
        'occupied', because none knows of the others.
        """
        members, here = followed.members, followed.here
        if followed.view is not None:
            followed.view.touch()
        if members.count == 0 and here.announced:
            here.announced = False
            self._listener.vacated(followed.name)
        elif not here.is_empty and followed.is_settled and not here.announced:
            here.announced = True
            if not members.is_announced_elsewhere:
                self._listener.occupied(followed.name)
            if self.messages is not None:
                self.messages.changed(followed.name)

    def end_unwanted(self, followed: Followed) -> None:
        """Forget a channel that is not wanted."""
        if followed.is_wanted:
            followed.stay()
        elif not followed.here.announced:
            self._end(followed)
        elif followed.ending is None:
            loop = asyncio.get_running_loop()
            followed.ending = loop.call_later(LINGER_SECONDS, self._end, followed)

    def _end(self, followed: Followed) -> None:
        followed.close()
        if self.channels.get(followed.name) is followed:
            del self.channels[followed.name]

    # What other nodes tell

    @property
    def _alive(self) -> Container[str]:
        return () if self.messages is None else self.messages.peers

    @property
    def followed(self) -> list[str]:
        """See `messages.Owner`."""
        return list(self.channels)

    def describe(self, channel: str, users: Iterable[str] | None) -> Change | None:
        """See `messages.Owner`."""
        followed = self.channels.get(channel)
        if followed is None:
            return None if users is None else Change(users=dict.fromkeys(users))
        now = asyncio.get_running_loop().time()
        return describe(followed.members, users, now, self._alive)

    def apply(self, node: str, channel: str, change: Change) -> None:
        """See `messages.Owner`."""
        followed = self.channels.get(channel)
        if followed is not None:
            for name, user, seconds, infos in apply_change(followed.members, node, change):
                self._let_leave(followed, name, user, seconds, infos)
            self.judge(followed)

    def settled(self, channels: Iterable[str], complete: bool) -> None:
        """See `messages.Owner`."""
        for channel in channels:
            followed = self.channels.get(channel)
            if followed is not None:
                followed.settle(complete)
                self._notice(followed)

    def gone(self, node: str) -> None:
        """See `messages.Owner`."""
        for followed in list(self.channels.values()):
            known = followed.members.nodes.get(node)
            if known is None:
                continue
            delay = followed.presence.leave_delay
            for user in list(known.present):
                self._let_leave(followed, node, user, delay)
            if known.users is not None:
                until = asyncio.get_running_loop().time() + delay
                self._expiries.add(until, Expiry(followed.name, node, ALL))
            known.guests = known.sockets = 0
            known.announced = False
            followed.members.forget_empty(self._alive)
            self.judge(followed)
