"""Traffic: what the sockets of one server were sent, counted if its metrics are on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Traffic:
    """The frames that the sockets of one server wrote.

    A publish that is delivered at the end of a loop turn is counted as written for all subscribers
    at once. A socket that does not write it then subtracts it.

    Attributes:
        deliveries: publishes times the sockets that they were delivered to.
        messages: the frames that sockets wrote.
        size: the bytes of publishes that were written at once; sockets count those of other frames.
    """

    deliveries: int = 0
    messages: int = 0
    size: int = 0

    def wrote(self, messages: int) -> None:
        """Count frames that sockets wrote."""
        self.messages += messages
