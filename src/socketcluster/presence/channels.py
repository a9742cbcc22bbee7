"""PresenceChannels: the channels of a server that have a presence rule, and their members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from socketcluster.presence.followed import Followed
from socketcluster.presence.following import Following, Listener
from socketcluster.presence.local import Seat
from socketcluster.presence.messages import NodeLink
from socketcluster.presence.results import Occupancy, PresenceState
from socketcluster.presence.rule import PREFIX, Rule, no_presence
from socketcluster.presence.view import Output, View


class PresenceChannels:
    """The members of channels, their viewers, and answers to the application.

    Args:
        find: finds the rule of a channel; None if it has none.
        output: sends what viewers see.
        listener: receives the channels that are occupied or vacated.
        link: the messages between nodes; None if there are no others.
    """

    __slots__ = ("_find", "_following", "_output")

    def __init__(
        self,
        find: Callable[[str], Rule | None],
        output: Output,
        listener: Listener,
        link: NodeLink | None,
    ) -> None:
        self._find = find
        self._output = output
        self._following = Following(listener, link)

    def start(self) -> None:
        """Begin to tell other nodes."""
        self._following.start()

    def close(self) -> None:
        """Tell other nodes the rest, and forget everything."""
        self._following.close()

    def rule_of(self, channel: str) -> Rule | None:
        """Return the presence rule of a channel; None if it has none."""
        return None if channel.startswith(PREFIX) else self._find(channel)

    # Sockets of this node

    def join(self, channel: str, rule: Rule, key: Hashable, seat: Seat) -> None:
        """Add a socket to a channel, or replace its seat."""
        followed = self._following.follow(channel, rule)
        former = followed.local.remove(key)
        followed.local.add(key, seat)
        if former is not None and former.user != seat.user:
            self._following.update(followed, former.user, at_once=True)
        self._following.update(followed, seat.user)
        self._following.judge(followed)

    def leave(self, channel: str, key: Hashable) -> None:
        """Remove a socket from a channel."""
        followed = self._following.channels.get(channel)
        seat = None if followed is None else followed.local.remove(key)
        if followed is not None and seat is not None:
            self._following.update(followed, seat.user)
            self._following.judge(followed)

    def seat(self, channel: str, key: Hashable) -> Seat | None:
        """Return the seat of a socket in a channel; None if it is not there."""
        followed = self._following.channels.get(channel)
        return None if followed is None else followed.local.get(key)

    def members_here(self) -> Counter[str]:
        """Count the members that have a socket here, by the pattern of the rule."""
        found: Counter[str] = Counter()
        for followed in self._following.channels.values():
            found[followed.pattern] += len(followed.here.present)
        return found

    # Viewers

    def watch(self, channel: str, viewer: Any) -> None:
        """Show the members of a channel to a viewer.

        Raises:
            InvalidArgumentsError: the channel has no presence rule.
        """
        followed = self._follow(channel)
        if followed.view is None:
            limit = followed.presence.members_limit
            followed.view = View(PREFIX + channel, followed.members, limit, self._output)
            if followed.is_settled:
                followed.view.ready()
        followed.view.add(viewer)
        followed.stay()

    def unwatch(self, channel: str, viewer: Any) -> None:
        """Show nothing more to a viewer."""
        followed = self._following.channels.get(channel)
        if followed is None or followed.view is None:
            return
        followed.view.remove(viewer)
        if not followed.view:
            followed.view.close()
            followed.view = None
            self._following.end_unwanted(followed)

    # Questions of the application

    async def state(self, channel: str) -> PresenceState:
        """Return the members of a channel.

        Raises:
            InvalidArgumentsError: the channel has no presence rule.
        """
        followed = await self._settled(channel)
        members, limit = followed.members, followed.presence.members_limit
        listed = None
        if members.is_complete and members.listed <= limit:
            listed = {user: members.infos(user) or [] for user in members}
        return PresenceState(listed, members.count, followed.is_complete)

    async def occupancy(self, channel: str) -> Occupancy:
        """Return how many sockets and users are in a channel.

        Raises:
            InvalidArgumentsError: the channel has no presence rule.
        """
        followed = await self._settled(channel)
        members = followed.members
        return Occupancy(members.sockets, members.users, followed.is_complete)

    def _follow(self, channel: str) -> Followed:
        rule = self.rule_of(channel)
        if rule is None:
            raise no_presence(channel)
        return self._following.follow(channel, rule)

    async def _settled(self, channel: str) -> Followed:
        followed = self._follow(channel)
        followed.queries += 1
        try:
            await followed.wait()
        finally:
            followed.queries -= 1
            self._following.end_unwanted(followed)
        return followed
