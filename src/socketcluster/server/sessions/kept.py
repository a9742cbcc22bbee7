"""KeptSessions: where lost clients were, in memory, until they come back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

KEPT_SESSIONS = 100_000
KEPT_BYTES = 64 * 1024 * 1024
"""How many lost clients a process remembers, and the bytes of their states. Past either it forgets
those that were lost first."""

_OVERHEAD = 200
"""Bytes of one entry beside its state, about."""


class Name(NamedTuple):
    """The name of a state.

    Attributes:
        id: a hash of the session.
        owner: a hash of the user whom it belongs to; None if it was made without a user.
    """

    id: str
    owner: str | None


class KeptSessions:
    """The states of lost clients, by their names.

    Args:
        clock: returns the time in seconds.
        max_count: how many to keep.
        max_bytes: how many bytes of them to keep.
    """

    __slots__ = ("_clock", "_max_bytes", "_max_count", "_states", "size")

    def __init__(
        self,
        clock: Callable[[], float],
        max_count: int = KEPT_SESSIONS,
        max_bytes: int = KEPT_BYTES,
    ) -> None:
        self._clock = clock
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._states: OrderedDict[Name, tuple[bytes, float]] = OrderedDict()
        self.size: int = 0

    def __len__(self) -> int:
        self._expire()
        return len(self._states)

    def put(self, name: Name, state: bytes, seconds: float) -> None:
        """Keep a state for some seconds, in place of a former one of that name."""
        self._drop(name)
        self._states[name] = state, self._clock() + seconds
        self.size += len(state) + _OVERHEAD
        self._expire()
        while len(self._states) > self._max_count or self.size > self._max_bytes:
            self._drop(next(iter(self._states)))

    def take(self, name: Name) -> bytes | None:
        """Remove and return a state; None without one."""
        found = self._drop(name)
        return found[0] if found is not None and found[1] > self._clock() else None

    def items(self) -> Iterator[tuple[Name, bytes, float]]:
        """Yield the names, the states, and the seconds that are left to them."""
        now = self._clock()
        for name, (state, expires) in list(self._states.items()):
            if expires > now:
                yield name, state, expires - now

    def _drop(self, name: Name) -> tuple[bytes, float] | None:
        found = self._states.pop(name, None)
        if found is not None:
            self.size -= len(found[0]) + _OVERHEAD
        return found

    def _expire(self) -> None:
        now = self._clock()
        while self._states:
            name = next(iter(self._states))
            if self._states[name][1] > now:
                return
            self._drop(name)


def allowed_names(name: Name) -> list[Name]:
    """Return the names of the states that a client may have: its own, and that without a user."""
    return [name] if name.owner is None else [name, Name(name.id, None)]
