"""The sockets of this node that are subscribed to one channel."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Any, NamedTuple

import msgspec

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


class _User:
    """The sockets of one user.

    Attributes:
        count: how many they are.
        infos: from the JSON of each different info to it, and how many sockets have it.
    """

    __slots__ = ("count", "infos")

    def __init__(self) -> None:
        self.count = 0
        self.infos: dict[bytes, tuple[Any, int]] = {}

    def add(self, info: Any, step: int) -> None:
        """Count a socket, or no longer, by a step of 1 or -1."""
        self.count += step
        if info is not NO_INFO:
            key = msgspec.json.encode(info)
            first, count = self.infos.get(key, (info, 0))
            if count + step:
                self.infos[key] = first, count + step
            else:
                del self.infos[key]


class LocalSockets:
    """The sockets of one channel, by their users. No change looks at all sockets of a user.

    Attributes:
        guests: how many have no user.
    """

    __slots__ = ("_seats", "_users", "guests")

    def __init__(self) -> None:
        self._seats: dict[Hashable, Seat] = {}
        self._users: dict[str, _User] = {}
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
            self._users.setdefault(seat.user, _User()).add(seat.info, 1)

    def remove(self, key: Hashable) -> Seat | None:
        """Remove a socket; return its seat."""
        seat = self._seats.pop(key, None)
        if seat is None:
            return None
        if seat.user is None:
            self.guests -= 1
        else:
            user = self._users[seat.user]
            user.add(seat.info, -1)
            if not user.count:
                del self._users[seat.user]
        return seat

    def infos(self, user: str) -> list[Any] | None:
        """Return the different infos of a user's sockets; None if it has no socket here."""
        found = self._users.get(user)
        if found is None:
            return None
        return [info for info, _ in islice(found.infos.values(), MAX_INFOS)]
