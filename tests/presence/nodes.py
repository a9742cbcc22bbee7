"""Nodes without servers: the presence of each, over a network in memory that a test disturbs."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from socketcluster.errors import BrokerError
from socketcluster.presence.channels import PresenceChannels
from socketcluster.presence.following import Following
from socketcluster.presence.local import NO_INFO, Seat
from socketcluster.presence.options import Presence
from socketcluster.presence.rule import PREFIX, Rule

ALIVE_SECONDS = 5.0


@dataclass
class Message:
    """A message as handlers get it."""

    node: str
    data: Any


class Network:
    """Carries messages between links, in order; a test may lose, delay and count them.

    Attributes:
        sent: (time, node, type, data) of each message.
        loses: returns whether a message to a node is lost.
        delay: returns the seconds that a message takes.
    """

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.sent: list[tuple[float, str, str, Any]] = []
        self.loses: Callable[[str, str], bool] = lambda sender, receiver: False
        self.delay: Callable[[], float] = lambda: 0.0

    def send(self, sender: Link, type: str, data: Any) -> None:
        loop = asyncio.get_running_loop()
        encoded = msgspec.json.encode(data)
        assert len(encoded) < 60_000
        self.sent.append((loop.time(), sender.id, type, data))
        for link in list(self.links.values()):
            if link is not sender and not self.loses(sender.id, link.id):
                message = Message(sender.id, msgspec.json.decode(encoded))
                delay = self.delay()
                if delay:
                    loop.call_later(delay, link.receive, type, message)
                else:
                    loop.call_soon(link.receive, type, message)

    def presence(self) -> list[tuple[float, str, Any]]:
        """The messages about presence."""
        return [(time, node, data) for time, node, type, data in self.sent if type == "presence"]


class Link:
    """A `NodeLink`, with signs of life."""

    _numbers = itertools.count(1)

    def __init__(self, network: Network) -> None:
        self.id = f"node-{next(self._numbers)}"
        self.network = network
        self.alive_fields: dict[str, Callable[[], Any]] = {}
        self.handlers: dict[str, list[Callable[[Any], object]]] = {}
        self.is_away = False
        self._alive: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.network.links[self.id] = self
        self._alive = asyncio.create_task(self._run())

    def stop(self) -> None:
        self.network.links.pop(self.id, None)
        if self._alive is not None:
            self._alive.cancel()

    async def _run(self) -> None:
        while True:
            if not self.is_away:
                self.send("alive", {name: read() for name, read in self.alive_fields.items()})
            await asyncio.sleep(ALIVE_SECONDS)

    def send(self, type: str, data: Any = None, target: str | None = None) -> None:
        if self.is_away:
            raise BrokerError("away")
        self.network.send(self, type, data)

    def on(self, type: str, handler: Callable[[Any], object]) -> None:
        self.handlers.setdefault(type, []).append(handler)

    def receive(self, type: str, message: Message) -> None:
        if self.id in self.network.links:
            for handler in self.handlers.get(type, ()):
                handler(message)


class Node:
    """One node.

    Attributes:
        shown: (viewer, data) of all that viewers were sent.
        events: ("occupied" or "vacated", channel).
    """

    def __init__(self, network: Network | None, presence: Presence, max_size: int = 10**6) -> None:
        self.presence = presence
        self.rule = Rule(presence, "room/*")
        self.shown: list[tuple[Any, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.faults: list[BaseException] = []
        self.oversize: list[int] = []
        self.max_size = max_size
        self.link = None if network is None else Link(network)
        self.channels = PresenceChannels(self.find, self, self, self.link)

    def find(self, channel: str) -> Rule | None:
        return self.rule if channel.startswith("room/") else None

    @property
    def following(self) -> Following:
        return self.channels._following

    def start(self) -> None:
        if self.link is not None:
            self.link.start()
        self.channels.start()

    def kill(self) -> None:
        """End it without a word."""
        if self.link is not None:
            self.link.stop()
            self.link.is_away = True
        self.channels.close()

    def close(self) -> None:
        """End it in order."""
        self.channels.close()
        if self.link is not None:
            self.link.stop()

    def join(self, channel: str, key: Any, user: str | None, info: Any = NO_INFO) -> None:
        self.channels.join(channel, self.rule, key, Seat(user, info))

    def leave(self, channel: str, key: Any) -> None:
        self.channels.leave(channel, key)

    def known(self, channel: str) -> dict[str, list[Any]] | None:
        """What it knows of a channel's members; None if it does not follow it."""
        followed = self.following.channels.get(channel)
        if followed is None:
            return None
        return {user: followed.members.infos(user) or [] for user in followed.members}

    # Output

    def encode(self, data: Any) -> bytes:
        return msgspec.json.encode(data)

    def send(self, channel: str, viewers: dict[Any, None], payload: bytes) -> None:
        assert channel.startswith(PREFIX)
        for viewer in viewers:
            self.shown.append((viewer, msgspec.json.decode(payload)))

    def before_change(self, viewers: dict[Any, None]) -> None:
        pass

    def report_fault(self, error: BaseException) -> None:
        self.faults.append(error)

    def too_large(self, channel: str, size: int) -> None:
        self.oversize.append(size)

    # Listener

    def occupied(self, channel: str) -> None:
        self.events.append(("occupied", channel))

    def vacated(self, channel: str) -> None:
        self.events.append(("vacated", channel))


class Client:
    """What a client makes of what it is shown."""

    def __init__(self) -> None:
        self.state: dict[str, list[Any]] | None = None
        self.count = 0

    def take(self, data: Any) -> None:
        self.count = data["count"]
        if "state" in data:
            self.state = dict(data["state"])
        elif "join" in data:
            assert self.state is not None
            for user in data["leave"]:
                del self.state[user]
            self.state.update(data["join"])
        else:
            self.state = None


def chance(seed: int) -> random.Random:
    return random.Random(seed)
