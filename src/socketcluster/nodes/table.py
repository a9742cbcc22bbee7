"""The table of nodes: which messages are new, and which other servers are alive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from socketcluster.nodes.wire import MessageRejectedError, NodeMessage

MAX_NODES = 10_000
"""How many nodes to know; messages of further ones are dropped."""

MAX_AGE_SECONDS = 30.0
"""How old a message may be, and how far its time may be ahead."""

FORGET_SECONDS = 2 * MAX_AGE_SECONDS
"""How long after its last message to remember a sender. Its messages are too old by then."""

SILENT_SECONDS = 15.0
"""How long a node may be silent before it counts as gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Another server process of the same application.

    Attributes:
        id: random, new at each start.
        host: the name of its machine.
        pid: its process id there.
        parent: the process id of its parent; workers of one supervisor have the same.
        since: seconds since 1970 when it started, by its clock.
        last_seen: seconds since 1970 when its last message arrived, by this process's clock.
        draining: whether it is closing, so that clients should not go to it.
    """

    id: str
    host: str
    pid: int
    parent: int
    since: float
    last_seen: float
    draining: bool = False


class _Sender:
    """A process that messages came from.

    Attributes:
        number: the highest so far.
        heard_at: when that message arrived, in seconds since 1970.
    """

    __slots__ = ("heard_at", "number")

    def __init__(self, number: int, heard_at: float) -> None:
        self.number = number
        self.heard_at = heard_at


class _Known:
    """A node that is alive, and when it was last heard by the loop's clock."""

    __slots__ = ("draining", "host", "parent", "pid", "seen_at", "seen_time", "since")

    def __init__(self, host: str, pid: int, parent: int, since: float) -> None:
        self.host = host
        self.pid = pid
        self.parent = parent
        self.since = since
        self.draining = False
        self.seen_at = 0.0
        self.seen_time = 0.0


class NodeTable:
    """The known nodes, without this one. Times are given by the caller."""

    __slots__ = ("_known", "_senders")

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._senders: dict[str, _Sender] = {}

    def __iter__(self) -> Iterator[Node]:
        for id_, known in self._known.items():
            yield Node(
                id=id_,
                host=known.host,
                pid=known.pid,
                parent=known.parent,
                since=known.since,
                last_seen=known.seen_time,
                draining=known.draining,
            )

    def __len__(self) -> int:
        return len(self._known)

    def has_peer(self, leaving: tuple[str, int] | None = None) -> bool:
        """Return whether a node is alive that does not drain.

        `leaving` is the host and the parent of processes that leave, too.
        """
        return any(
            not known.draining and (known.host, known.parent) != leaving
            for known in self._known.values()
        )

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._senders.clear()

    def check(self, message: NodeMessage, time: float) -> None:
        """Record a message; `time` is now, in seconds since 1970.

        Raises:
            MessageRejectedError: it is old, of the future or not new, or too many nodes are known.
        """
        age = time - message.time
        if not age <= MAX_AGE_SECONDS:
            raise MessageRejectedError("old", f"it was sent {age:.0f} s ago by its sender's clock")
        if age < -MAX_AGE_SECONDS:
            raise MessageRejectedError("future", f"its sender's clock is {-age:.0f} s ahead")
        sender = self._senders.get(message.node)
        if sender is None:
            if len(self._senders) >= MAX_NODES:
                raise MessageRejectedError("full", f"{MAX_NODES:,} nodes are known already")
            self._senders[message.node] = _Sender(message.number, time)
        elif message.number <= sender.number:
            raise MessageRejectedError("replayed", "it, or a later one of its sender, came before")
        else:
            sender.number, sender.heard_at = message.number, time

    def seen(self, node: str, now: float, time: float) -> None:
        """Record that a node is alive, if it is known; `now` is the loop's time."""
        known = self._known.get(node)
        if known is not None:
            known.seen_at, known.seen_time = now, time

    def add(self, node: str, host: str, pid: int, parent: int, since: float) -> bool:
        """Add a node, which introduced itself; return whether it is new. Else it stays as it is."""
        if node in self._known:
            return False
        self._known[node] = _Known(host, pid, parent, since)
        return True

    def drains(self, node: str) -> None:
        """Record that a node is closing."""
        known = self._known.get(node)
        if known is not None:
            known.draining = True

    def expire(self, now: float, time: float) -> None:
        """Remove nodes that are silent, and forget senders whose messages would be too old."""
        for node in [n for n, k in self._known.items() if now - k.seen_at > SILENT_SECONDS]:
            del self._known[node]
        for node in [n for n, s in self._senders.items() if time - s.heard_at > FORGET_SECONDS]:
            if node not in self._known:
                del self._senders[node]
