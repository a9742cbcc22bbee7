"""The methods of an exchange that tell who is subscribed to channels."""

from __future__ import annotations

from typing import Protocol

from socketcluster.errors import InvalidArgumentsError
from socketcluster.patterns import Pattern
from socketcluster.presence.results import ChannelsPage, Occupancy, PresenceState
from socketcluster.presence.rule import no_presence
from socketcluster.pubsub.listing import ChannelListing
from socketcluster.runtime.loop_binding import LoopBinding


class Members(Protocol):
    """Knows the members of channels."""

    async def state(self, channel: str) -> PresenceState: ...
    async def occupancy(self, channel: str) -> Occupancy: ...


class PresenceMixin:
    """Questions about channels and their subscribers, on all servers."""

    __slots__ = ()

    members: Members | None
    listing: ChannelListing
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

    async def channels(
        self, pattern: str | Pattern = "**", limit: int = 100, cursor: str | None = None
    ) -> ChannelsPage:
        """Return channels that clients are subscribed to, on all servers; no rule is needed.

        A page is not a moment: channels may come and go between two of them.

        Args:
            pattern: "room/*"; see `socketcluster.patterns`.
            limit: the most channels of one page, up to 1,000.
            cursor: that of the page before; None for the first page.

        Raises:
            InvalidArgumentsError: the pattern, the limit or the cursor is wrong.
        """
        self.loop_binding.check()
        return await self.listing.page(pattern, limit, cursor)

    def _members(self, channel: str) -> Members:
        self.loop_binding.check()
        if not isinstance(channel, str):
            raise InvalidArgumentsError(f"A channel's name must be a text, not {channel!r}")
        if self.members is None:
            raise no_presence(channel)
        return self.members
