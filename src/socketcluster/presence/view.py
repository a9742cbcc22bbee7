"""View: shows members to the viewers of `$presence/…`, then at most one change a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from socketcluster.presence.members import ChannelMembers

INTERVAL_SECONDS = 1.0
"""The time between two publishes of one channel."""

LISTED_AGAIN = 0.9
"""The part of the limit down to which a channel that was above it is not listed."""


class Output(Protocol):
    """Sends to viewers.

    Attributes:
        max_size: the bytes of the largest payload.
    """

    @property
    def max_size(self) -> int: ...
    def encode(self, data: Any) -> bytes: ...
    def send(self, channel: str, viewers: dict[Any, None], payload: bytes) -> None: ...
    def before_change(self, viewers: dict[Any, None]) -> None:
        """Send the publishes that are collected for viewers, because the viewers change."""

    def report_fault(self, error: BaseException) -> None: ...
    def too_large(self, channel: str, size: int) -> None:
        """Report that the members of a channel are too many bytes, and only counted."""


class View:
    """The viewers of one channel, and the members that they know of.

    All of them know the same: a viewer who comes receives what the others were shown last, and then
    the same changes as they.

    Args:
        channel: the name that viewers are subscribed to.
        members: what to show.
        limit: the most members to list.
        output: encodes and sends.

    Attributes:
        is_ready: whether the members of other nodes are known.
    """

    __slots__ = (
        "_channel",
        "_is_listed",
        "_limit",
        "_members",
        "_next_at",
        "_output",
        "_shown",
        "_shown_count",
        "_state",
        "_timer",
        "_too_large_at",
        "_viewers",
        "_waiting",
        "_welcoming",
        "is_ready",
    )

    def __init__(self, channel: str, members: ChannelMembers, limit: int, output: Output) -> None:
        self._channel = channel
        self._members = members
        self._limit = limit
        self._output = output
        self._viewers: dict[Any, None] = {}
        self._waiting: dict[Any, None] = {}
        self._welcoming: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._shown: dict[str, list[Any]] = {}
        self._shown_count = 0
        self._is_listed = True
        self._too_large_at: int | None = None
        self._state: bytes | None = None
        self.is_ready: bool = False

    def __len__(self) -> int:
        return len(self._viewers) + len(self._waiting)

    def add(self, viewer: Any) -> None:
        """Add a viewer, who receives the members soon."""
        if viewer not in self._viewers:
            self._waiting[viewer] = None
            self._welcome_soon()

    def remove(self, viewer: Any) -> None:
        """Remove a viewer."""
        self._waiting.pop(viewer, None)
        if viewer in self._viewers:
            self._output.before_change(self._viewers)
            del self._viewers[viewer]

    def ready(self) -> None:
        """Take that the members of other nodes are known."""
        if not self.is_ready:
            self.is_ready = True
            self._welcome_soon()

    def close(self) -> None:
        """Show nothing more."""
        for handle in (self._timer, self._welcoming):
            if handle is not None:
                handle.cancel()
        self._timer = self._welcoming = None
        self._members.changed = None

    def touch(self) -> None:
        """Show a change of the members, at the earliest time that the pace allows."""
        if self._timer is None and self._viewers:
            loop = asyncio.get_running_loop()
            when = max(loop.time(), self._next_at)
            self._timer = loop.call_at(when, self._guard, self._show)

    def _guard(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # Of the codec, maybe.
            self._output.report_fault(error)

    # Those who come

    def _welcome_soon(self) -> None:
        if self._waiting and self.is_ready and self._welcoming is None:
            loop = asyncio.get_running_loop()
            self._welcoming = loop.call_soon(self._guard, self._welcome)

    def _welcome(self) -> None:
        """Tell those who wait of the members."""
        self._welcoming = None
        if not self._waiting:
            return
        if not self._viewers:
            self._look()
        was_listed = self._is_listed
        payload = self._state_payload()
        if self._viewers and was_listed and not self._is_listed:
            self._output.send(self._channel, self._viewers, payload)  # Their list is void.
        coming, self._waiting = self._waiting, {}
        if self._viewers:
            self._output.before_change(self._viewers)
        self._viewers.update(coming)
        self._output.send(self._channel, coming, payload)

    def _look(self) -> None:
        """See the members as they are now."""
        members = self._members
        members.changed = set()
        self._shown_count = members.count
        self._is_listed = self._may_list()
        self._shown = {}
        if self._is_listed:
            self._shown = {user: members.infos(user) or [] for user in members}
        self._state = None

    def _may_list(self) -> bool:
        members = self._members
        limit = self._limit if self._is_listed else int(self._limit * LISTED_AGAIN)
        if self._too_large_at is not None:
            limit = min(limit, int(self._too_large_at * LISTED_AGAIN))
        return members.is_complete and members.listed <= limit

    def _state_payload(self) -> bytes:
        """The payload of the members; of their number alone if it would be too large."""
        if self._state is None and self._is_listed:
            payload = self._output.encode({"state": self._shown, "count": self._shown_count})
            if len(payload) <= self._output.max_size:
                self._state, self._too_large_at = payload, None
            else:
                self._too_large(len(payload))
        if self._state is None:
            self._state = self._counted_payload()
        return self._state

    def _counted_payload(self) -> bytes:
        return self._output.encode({"count": self._shown_count})

    def _too_large(self, size: int) -> None:
        self._too_large_at = len(self._shown)
        self._is_listed = False
        self._shown = {}
        self._output.too_large(self._channel, size)

    # Changes

    def _show(self) -> None:
        """Send the changes to the viewers."""
        self._timer = None
        if not self._viewers:
            return
        if self._may_list() != self._is_listed:
            self._look()
            payload = self._state_payload()
        else:
            found = self._difference()
            if found is None:
                return
            payload = self._output.encode(found)
            if len(payload) > self._output.max_size:
                self._too_large(len(payload))
                payload = self._counted_payload()
        self._state = None
        self._next_at = asyncio.get_running_loop().time() + INTERVAL_SECONDS
        self._output.send(self._channel, self._viewers, payload)

    def _difference(self) -> dict[str, Any] | None:
        """Return the changes since the last publish; None without any."""
        members = self._members
        changed, members.changed = members.changed or (), set()
        count, self._shown_count = self._shown_count, members.count
        if not self._is_listed:
            return None if count == self._shown_count else {"count": self._shown_count}
        join: dict[str, list[Any]] = {}
        leave: list[str] = []
        for user in changed:
            infos = members.infos(user)
            if infos is None:
                if self._shown.pop(user, None) is not None:
                    leave.append(user)
            elif self._shown.get(user) != infos:
                self._shown[user] = join[user] = infos
        if not join and not leave and count == self._shown_count:
            return None
        return {"join": join, "leave": leave, "count": self._shown_count}
