"""Who sent a message, and whether it comes too late: for backends that cannot end a lost link.

What a link had sent before it was lost may still be delivered, after what its process publishes
over the next. Order per publisher and channel forbids that, so messages name process and link.
"""

from __future__ import annotations

import secrets

REMEMBERED = 10_000
"""Processes; of those that were heard from least recently for the first time one is forgotten."""


class Senders:
    """The latest link of each process that was heard from, the own one included."""

    __slots__ = ("_latest", "link", "process")

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        self.link = 0
        self._latest: dict[str | bytes, int] = {}

    def new_link(self, key: str | bytes) -> int:
        """Count a new link of this process, which receivers know by `key`."""
        self.link += 1
        self.is_late(key, self.link)
        return self.link

    def is_late(self, process: str | bytes, link: int) -> bool:
        """Whether a process has sent something over a later link already."""
        latest = self._latest.get(process)
        if latest is None:
            if len(self._latest) >= REMEMBERED:
                del self._latest[next(iter(self._latest))]
        elif link <= latest:
            return link < latest
        self._latest[process] = link
        return False
