"""The sockets of this node that are subscribed to one channel."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from socketcluster.presence.members import MAX_INFOS

NO_INFO: Any = object()


class Seat(NamedTuple):
    """A socket that is subscribed.

    Attributes:
        user: its user, or None.
        info: shown to viewers, if it is not NO_INFO.
    """

    user: str | None
    info: Any = NO_INFO


class LocalSockets:
    """The sockets of one channel, by their users.

    Attributes:
        guests: how many have no user.
    """

    __slots__ = ("_seats", "_users", "guests")

    def __init__(self) -> None:
        self._seats: dict[Hashable, Seat] = {}
        self._users: dict[str, dict[Hashable, None]] = {}
        self.guests: int = 0

    def __len__(self) -> int:
        return len(self._seats)

    def get(self, key: Hashable) -> Seat | None:
        """Return the seat of a socket."""
        return self._seats.get(key)

    def add(self, key: Hashable, seat: Seat) -> None:
        """Add a socket, which is not there."""
        self._seats[key] = seat
        if seat.user is None:
            self.guests += 1
        else:
            self._users.setdefault(seat.user, {})[key] = None

    def remove(self, key: Hashable) -> Seat | None:
        """Remove a socket; return its seat."""
        seat = self._seats.pop(key, None)
        if seat is None:
            return None
        if seat.user is None:
            self.guests -= 1
        else:
            keys = self._users[seat.user]
            del keys[key]
            if not keys:
                del self._users[seat.user]
        return seat

    def infos(self, user: str) -> list[Any] | None:
        """Return the different infos of a user's sockets; None if it has no socket here."""
        keys = self._users.get(user)
        if keys is None:
            return None
        found: list[Any] = []
        for key in keys:
            info = self._seats[key].info
            if len(found) == MAX_INFOS:
                break
            if info is not NO_INFO and info not in found:
                found.append(info)
        return found
