"""Results: the answers to questions of the application about members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PresenceState:
    """The members of a channel, on all servers.

    Attributes:
        members: from each user to the different infos of its sockets, at most ten; None if there
            are more members than `members_limit`.
        count: how many members and sockets without a user there are.
        complete: whether all servers that this one knows have told of their members.
    """

    members: dict[str, list[Any]] | None
    count: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full a channel is, on all servers.

    Attributes:
        sockets: how many sockets are subscribed.
        users: how many members there are. Of a server with more than `members_limit` members of the
            channel they are counted on their own, so that a user of two servers counts twice.
        complete: whether all servers that this one knows have told of their members.
    """

    sockets: int
    users: int
    complete: bool


@dataclass(frozen=True, slots=True)
class ChannelsPage:
    """A page of the channels that clients are subscribed to, on all servers.

    Attributes:
        channels: the names, in the order of their characters.
        cursor: asks for the next page; None on the last one.
        complete: whether all servers that this one knows have answered.
    """

    channels: list[str]
    cursor: str | None
    complete: bool
