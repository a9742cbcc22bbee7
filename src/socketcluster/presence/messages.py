"""PresenceMessages: what nodes tell each other of their members, so that all know the same.

Each node tells of its own members only. Its changes of 250 ms are one message, and each message has
a version, one higher than the one before. A node that misses a version, or meets another node, asks
for the members of all channels that it follows; one that begins to follow a channel asks all nodes
for it. Signs of life carry the version, so that a lost last message is noticed, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from socketcluster.errors import BrokerError
from socketcluster.presence.packets import Ask, Change, Packer, decode, encode
from socketcluster.presence.questions import Questions

TYPE = "presence"
"""The type of the messages, and the name of the version in signs of life."""

COLLECT_SECONDS = 0.25
"""How long changes are collected."""

SILENT_SECONDS = 15.0
"""How long a node may be silent before its members leave."""

UNKNOWN = -1
"""In place of the version of a node that did not answer. Its next message or sign of life makes
this node ask for everything again."""

HELLO_SECONDS = 1.0
"""How long after its start a node expects answers of nodes that it does not know yet."""


class NodeLink(Protocol):
    """The messages between nodes, as presence uses them.

    Attributes:
        id: that of this node, new at each start.
        alive_fields: by name, functions whose results its signs of life carry.
    """

    @property
    def id(self) -> str: ...
    @property
    def alive_fields(self) -> dict[str, Callable[[], Any]]: ...
    def send(self, type: str, data: Any = None, target: str | None = None) -> Any: ...
    def on(self, type: str, handler: Callable[[Any], object]) -> None: ...


class Owner(Protocol):
    """The members that the messages are about."""

    @property
    def followed(self) -> Sequence[str]:
        """The channels whose members on other nodes are kept."""
        ...

    def describe(self, channel: str, users: Iterable[str] | None) -> Change | None:
        """Describe the members `users` of this node, or all if it is None.

        Returns None if there is nothing to tell.
        """
        ...

    def apply(self, node: str, channel: str, change: Change) -> None:
        """Take the change of a node's members; channels that are not followed are ignored."""

    def settled(self, channels: Iterable[str], complete: bool) -> None:
        """Take that all nodes have answered a question for channels, or have had time to."""

    def gone(self, node: str) -> None:
        """Take that a node has closed, or is silent."""


class _Peer:
    """Another node; `version` is that of its last message, and `heard_at` in the loop's time."""

    __slots__ = ("heard_at", "version")

    def __init__(self, version: int, heard_at: float) -> None:
        self.version = version
        self.heard_at = heard_at


class PresenceMessages:
    """Sends the changes of this node's members, and takes those of others.

    Attributes:
        is_running: whether the node takes part.
        version: that of the last message.
        peers: the other nodes that are alive, by id.
    """

    __slots__ = (
        "_acks",
        "_asks",
        "_changed",
        "_flush",
        "_flushed_at",
        "_full",
        "_link",
        "_owner",
        "_questions",
        "_silence",
        "_started_at",
        "is_running",
        "peers",
        "version",
    )

    def __init__(self, link: NodeLink, owner: Owner) -> None:
        self._link = link
        self._owner = owner
        self._flush: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self.is_running: bool = False
        self._reset()
        link.on(TYPE, self._received)
        link.on("alive", self._alive)
        link.on("drain", self._alive)
        link.alive_fields[TYPE] = lambda: self.version

    def _reset(self) -> None:
        self.version: int = 0
        self.peers: dict[str, _Peer] = {}
        self._changed: dict[str, set[str]] = {}
        self._full: set[str] = set()
        self._asks: list[Ask] = []
        self._acks: dict[str, list[int]] = {}
        self._questions = Questions(self._ask_soon, self._owner.settled, self._gave_up)
        self._flushed_at = self._started_at = 0.0

    def start(self) -> None:
        """Begin; the link has its id."""
        self._reset()
        self.is_running = True
        self._started_at = self._now
        self._questions.complete_at = self._now + HELLO_SECONDS
        self.ask([])

    def close(self) -> None:
        """Tell the rest, and that this node closes."""
        if not self.is_running:
            return
        self._send_all(bye=True)
        self.is_running = False
        for handle in (self._flush, self._silence):
            if handle is not None:
                handle.cancel()
        self._flush = self._silence = None
        self._questions.close()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # Sending

    def changed(self, channel: str, user: str | None = None) -> None:
        """Note a member of this node that changed, or the counts of its channel."""
        if self.is_running:
            users = self._changed.setdefault(channel, set())
            if user is not None:
                users.add(user)
            self._schedule()

    def changed_all(self, channel: str) -> None:
        """Note that other nodes need all members of this node again."""
        if self.is_running:
            self._full.add(channel)
            self._schedule()

    def ask(self, channels: list[str]) -> None:
        """Ask all nodes for the members of channels."""
        if self.is_running:
            self._questions.ask_all(channels, self.peers)
        else:
            self._owner.settled(channels, True)

    def _ask_soon(self, ask: Ask) -> None:
        self._asks.append(ask)
        self._schedule()

    def _gave_up(self, node: str) -> None:
        peer = self.peers.get(node)
        if peer is not None:
            peer.version = UNKNOWN

    def _schedule(self) -> None:
        if self._flush is None:
            loop = asyncio.get_running_loop()
            when = max(loop.time(), self._flushed_at + COLLECT_SECONDS)
            self._flush = loop.call_at(when, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._flushed_at = self._now
        self._send_all()

    def _send_all(self, bye: bool = False) -> None:
        packer = Packer()
        for channel in self._full:
            change = self._owner.describe(channel, None)
            if change is not None:
                packer.add_change(channel, change)
                self._changed.pop(channel, None)
        for channel, users in self._changed.items():
            change = self._owner.describe(channel, users)
            if change is not None:
                packer.add_change(channel, change)
        for ask in self._asks:
            if ask.number in self._questions:
                packer.add_ask(ask)
        packer.add_acks(self._acks)
        packer.packets[-1].bye = bye
        self._changed, self._full, self._asks, self._acks = {}, set(), [], {}
        # A node that does not know this one yet meets it with the next sign of life, and asks.
        is_alone = not self.peers and self._now >= self._started_at + HELLO_SECONDS
        for packet in packer.packets:
            self.version += 1
            packet.version = self.version
            if is_alone:
                continue
            # The others notice by its version that a message was not sent, and ask.
            with contextlib.suppress(BrokerError):
                self._link.send(TYPE, encode(packet))

    # Receiving

    def _alive(self, message: Any) -> None:
        version = message.data.get(TYPE)
        if self.is_running and type(version) is int and version >= 0:
            self._meet(message.node, version)

    def _received(self, message: Any) -> None:
        if not self.is_running:
            return
        packet, node = decode(message.data), message.node
        known = self.peers.get(node)
        if known is not None and packet.version <= known.version:
            return  # It is old.
        if known is not None and packet.version == known.version + 1:
            known.version = packet.version
        self._meet(node, packet.version, first=1)
        for channel, change in packet.channels.items():
            self._owner.apply(node, channel, change)
        self._questions.described(
            node, [name for name, each in packet.channels.items() if each.full]
        )
        for ask in packet.asks:
            if not ask.nodes or self._link.id in ask.nodes:
                self._acks.setdefault(node, []).append(ask.number)
                self._full.update(ask.channels)
                self._schedule()
        for number in packet.acks.get(self._link.id, ()):
            for channel in self._questions.undescribed(node, number):
                # It has no member there, and may have had some.
                self._owner.apply(node, channel, Change(full=True))
            self._questions.answered(node, number)
        if packet.bye:
            self._lose(node)

    def _meet(self, node: str, version: int, first: int = 0) -> None:
        """Take a sign of life; ask the node if messages of it are missing.

        `first` is the version at which a new node has told all.
        """
        peer = self.peers.get(node)
        if peer is None:
            self.peers[node] = _Peer(version, self._now)
            missed = version > first
        else:
            missed = version > peer.version
            peer.version, peer.heard_at = max(version, peer.version), self._now
        if missed:
            followed = list(self._owner.followed)
            if followed:
                self._questions.ask_one(followed, node)
        self._watch()

    # Nodes that have closed, or are silent

    def _watch(self) -> None:
        if self._silence is None and self.peers:
            first = min(peer.heard_at for peer in self.peers.values())
            loop = asyncio.get_running_loop()
            self._silence = loop.call_at(first + SILENT_SECONDS, self._find_silent)

    def _find_silent(self) -> None:
        self._silence = None
        limit = self._now - SILENT_SECONDS
        for node in [n for n, peer in self.peers.items() if peer.heard_at <= limit]:
            self._lose(node)
        self._watch()

    def _lose(self, node: str) -> None:
        self.peers.pop(node, None)
        self._owner.gone(node)
        self._questions.lost(node)
