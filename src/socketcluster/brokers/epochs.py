"""Epochs of links: recognize messages that a lost link sent, for backends that cannot end a link.

A backend may still deliver what a lost link sent, after newer publishes of the same process. Order
per publisher and channel forbids that. Each message therefore names the process that sent it and
the epoch of the link: 1 for the process's first link, 2 for the second, and so on.
"""

from __future__ import annotations

import secrets

MAX_PROCESSES = 10_000
"""How many processes to remember; past that the one first heard from is forgotten."""


class LinkEpochs:
    """The latest epoch of each process, this one included.

    Attributes:
        process: a random id of this process, in hexadecimal.
    """

    __slots__ = ("_latest", "_own", "process")

    def __init__(self) -> None:
        self.process: str = secrets.token_hex(8)
        self._own = 0
        self._latest: dict[str | bytes, int] = {}

    def next(self, process: str | bytes) -> int:
        """Start the next epoch of this process; `process` is its id as messages carry it."""
        self._own += 1
        self.is_stale(process, self._own)
        return self._own

    def is_stale(self, process: str | bytes, epoch: int) -> bool:
        """Record the epoch of a message; return whether its process has used a later one."""
        latest = self._latest.get(process)
        if latest is None:
            if len(self._latest) >= MAX_PROCESSES:
                del self._latest[next(iter(self._latest))]
        elif epoch <= latest:
            return epoch < latest
        self._latest[process] = epoch
        return False
