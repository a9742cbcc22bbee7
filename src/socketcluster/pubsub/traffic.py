"""Traffic: what the sockets of one server were sent, counted if its metrics are on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Traffic:
    """The frames that the sockets of one server wrote.

    A publish that is delivered at the end of a loop turn is counted as written for all subscribers
    at once. A socket that does not write it then subtracts it.

    Attributes:
        deliveries: publishes times the sockets that they were delivered to.
        messages, size: the frames that sockets wrote, and their bytes; `settle` adds the latest.
        writes: the bytes of each write since the last `settle`.
        further: the frames of a write that had several, without the first.
    """

    deliveries: int = 0
    messages: int = 0
    size: int = 0
    writes: list[int] = field(default_factory=list)
    further: list[int] = field(default_factory=list)

    def settle(self) -> None:
        """Count the latest writes. To append a number costs half of adding it to an attribute."""
        self.messages += len(self.writes) + sum(self.further)
        self.size += sum(self.writes)
        self.writes.clear()
        self.further.clear()
