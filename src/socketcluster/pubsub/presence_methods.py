"""The methods of an exchange that tell who is subscribed to channels."""

from __future__ import annotations

from typing import Protocol

from socketcluster.errors import InvalidArgumentsError
from socketcluster.presence.results import Occupancy, PresenceState
from socketcluster.presence.rule import no_presence
from socketcluster.runtime.loop_binding import LoopBinding


class Members(Protocol):
    """Knows the members of channels."""

    async def state(self, channel: str) -> PresenceState: ...
    async def occupancy(self, channel: str) -> Occupancy: ...


class PresenceMixin:
    """Questions about the members of channels that have a rule with presence."""

    __slots__ = ()

    members: Members | None
    loop_binding: LoopBinding

    async def presence(self, channel: str) -> PresenceState:
        """Return the members of a channel, on all servers.

        A server without subscribers of the channel asks the others, which takes up to two seconds
        if one of them does not answer.

        Raises:
            InvalidArgumentsError: no rule has presence for the channel.
        """
        return await self._members(channel).state(channel)

    async def occupancy(self, channel: str) -> Occupancy:
        """Return how many sockets and users are in a channel, on all servers; see `presence`.

        Raises:
            InvalidArgumentsError: no rule has presence for the channel.
        """
        return await self._members(channel).occupancy(channel)

    def _members(self, channel: str) -> Members:
        self.loop_binding.check()
        if not isinstance(channel, str):
            raise InvalidArgumentsError(f"A channel's name must be a text, not {channel!r}")
        if self.members is None:
            raise no_presence(channel)
        return self.members
