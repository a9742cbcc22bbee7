"""Presence: what the rule of a channel says about its members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from socketcluster.options import invalid_option

MEMBERS_LIMIT = 1000
LEAVE_DELAY = 5.0
MAX_LEAVE_DELAY = 3600.0
MAX_MEMBERS_LIMIT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Tell who is subscribed to a channel: `ChannelRule("room/*", presence=Presence())`.

    A member is a user (`AGServer.identify`), with all of its sockets. A socket without a user is
    counted, and not listed. Clients subscribe to `$presence/room/1`; the server asks
    `exchange.presence`.

    Guarantees: servers that reach each other, and have subscribers of a channel, know the same
    members a second after the last change. Members of a server that was killed leave after 15
    seconds and the `leave_delay`; those of one that closes stay for the `leave_delay`. Without
    messages between servers each knows its own members only. Above `members_limit` a user of two
    servers counts twice.

    Attributes:
        info: called with a socket as it subscribes; what it returns is shown to the others beside
            the user. It is JSON. None shows nothing beside the user.
        leave_delay: seconds that a member stays after its last socket left, so that a short loss of
            the connection is no leave.
        members_limit: the most members to list; a channel with more only has counts.

    Raises:
        InvalidOptionsError: a value is wrong.
    """

    info: Callable[[Any], Any] | None = None
    leave_delay: float = LEAVE_DELAY
    members_limit: int = MEMBERS_LIMIT

    def __post_init__(self) -> None:
        if self.info is not None and not callable(self.info):
            raise invalid_option("presence.info", "a function of a socket, or None", self.info)
        delay: object = self.leave_delay
        if isinstance(delay, bool) or not isinstance(delay, int | float):
            raise invalid_option("presence.leave_delay", "seconds", delay)
        if not 0 <= delay <= MAX_LEAVE_DELAY:
            raise invalid_option(
                "presence.leave_delay", f"0 to {MAX_LEAVE_DELAY:,.0f} seconds", delay
            )
        limit: object = self.members_limit
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise invalid_option("presence.members_limit", "a whole number", limit)
        if not 0 <= limit <= MAX_MEMBERS_LIMIT:
            raise invalid_option("presence.members_limit", f"0 to {MAX_MEMBERS_LIMIT:,}", limit)
