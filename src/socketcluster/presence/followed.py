"""Followed: all that a node knows of one channel whose members it follows."""

from __future__ import annotations

import asyncio

from socketcluster.presence.local import LocalSockets
from socketcluster.presence.members import HERE, ChannelMembers, NodeMembers
from socketcluster.presence.options import Presence
from socketcluster.presence.rule import Rule
from socketcluster.presence.view import View


class Followed:
    """A channel with subscribers or viewers here, or whose members the application asks for.

    Attributes:
        name: the channel's.
        presence: its rule.
        pattern: the text of the rule's pattern.
        members: those of all nodes.
        local: the sockets here.
        view: its viewers; None without one.
        queries: how many calls wait for its members, or look at them.
        is_settled: whether the other nodes have told of their members, or have had time to.
        is_complete: whether all of them have told.
        ending: the end of it, after its last member here left; None before.
    """

    __slots__ = (
        "_waiters",
        "ending",
        "is_complete",
        "is_settled",
        "local",
        "members",
        "name",
        "pattern",
        "presence",
        "queries",
        "view",
    )

    def __init__(self, name: str, rule: Rule) -> None:
        self.name: str = name
        self.presence: Presence = rule.presence
        self.pattern: str = rule.pattern
        self.members: ChannelMembers = ChannelMembers()
        self.members.node(HERE)
        self.local: LocalSockets = LocalSockets()
        self.view: View | None = None
        self.queries: int = 0
        self.is_settled: bool = False
        self.is_complete: bool = False
        self.ending: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def here(self) -> NodeMembers:
        """The members of this node."""
        return self.members.nodes[HERE]

    @property
    def is_wanted(self) -> bool:
        """Whether it has a member, a viewer or a query here."""
        return bool(self.local or not self.here.is_empty or self.view or self.queries)

    def settle(self, complete: bool) -> None:
        """Take that the other nodes have told of their members, or have had time to."""
        self.is_settled = True
        self.is_complete = complete
        if self.view is not None:
            self.view.ready()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until it is settled."""
        if not self.is_settled:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def stay(self) -> None:
        """Undo the ending, because it is wanted again."""
        if self.ending is not None:
            self.ending.cancel()
            self.ending = None

    def close(self) -> None:
        """Stop the timers."""
        self.stay()
        if self.view is not None:
            self.view.close()
