"""Processes the frames of one picows connection within a budget for each loop turn.

Frames beyond the budget wait in a queue, in order, while the transport is paused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from socketcluster.engines.assembler import BINARY, CLOSE, TEXT, FrameReceiver, Violation
from socketcluster.engines.closed_transport import CLOSED_TRANSPORT
from socketcluster.engines.turn_budget import TURN_BUDGET, turn_cost

PARSER_FAULT = -1
"""The opcode of a queue entry for a frame that the parser rejected; its payload is the close code.
"""

QueuedFrame = tuple[int, bool, bool, bool, bytes]
"""(opcode, FIN, RSV1, RSV2 or RSV3, payload)"""


class FrameSource(Protocol):
    """The reader that supplies frames, as the scheduler sees it."""

    @property
    def has_more(self) -> bool:
        """Whether bytes outside the transport wait to be parsed."""
        ...

    def parse_more(self) -> None:
        """Parse these bytes, as far as this turn's budget goes."""

    def binary_received(self, data: bytes) -> None:
        """Deliver a whole binary message."""


class SchedulerOwner(Protocol):
    """The connection, as its scheduler sees it."""

    def control_frame(self, opcode: int, payload: bytes) -> None:
        """Handle a control frame. After `FrameScheduler.shut` only close frames follow."""

    def fail(self, code: int, reason: str = "") -> None:
        """Handle a violation of the protocol or of a limit by the peer."""

    def finish(self) -> None:
        """Handle the end: the transport is lost, and every frame is processed."""


class FrameScheduler:
    """Processes frames, and pauses and resumes the transport.

    Attributes:
        budget: units of work left in this turn; valid once work was counted in it.
        direct: whether the source may pass a whole text message to `text_received` itself: nothing
            is queued, incomplete or closing.
        held: whether frames wait for the next turn.
        lost: whether the transport is lost.
        paused: whether the handler paused reading.
        shut: whether only a close frame is still processed.
        text_received: called with each whole text message.
    """

    __slots__ = (
        "_next_turn",
        "_owner",
        "_queue",
        "_receiver",
        "_source",
        "_transport",
        "budget",
        "direct",
        "held",
        "lost",
        "paused",
        "shut",
        "text_received",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        receiver: FrameReceiver,
        source: FrameSource,
        owner: SchedulerOwner,
        text_received: Callable[[bytes], None],
    ) -> None:
        self._transport = transport
        self._receiver = receiver
        self._source: FrameSource | None = source
        self._owner: SchedulerOwner | None = owner
        self.text_received: Callable[[bytes], None] = text_received
        self._queue: deque[QueuedFrame] | None = None
        self._next_turn: asyncio.Handle | None = None
        self.budget: int = 0
        self.direct: bool = True
        self.held: bool = False
        self.lost: bool = False
        self.paused: bool = False
        self.shut: bool = False

    # The budget

    def count(self, size: int) -> None:
        """Count a frame or message of `size` bytes that is being processed."""
        cost = turn_cost(size)
        self.budget -= cost
        if self.budget <= 0:
            self.budget_used(cost)

    def budget_used(self, cost: int) -> None:
        """Begin a budget, or hold the frames that follow if this turn's is used up.

        Args:
            cost: the units that were just taken from `budget`.
        """
        if self._next_turn is None:  # The first count of a turn.
            self._schedule()
            self.budget = TURN_BUDGET - cost
        if self.budget <= 0 and not self.held:
            self.hold()

    def hold(self) -> None:
        """Queue the frames that follow, and pause the transport."""
        self.held = True
        self.direct = False
        self._transport.pause_reading()

    @property
    def _is_used_up(self) -> bool:
        return self._next_turn is not None and self.budget <= 0

    def _schedule(self) -> None:
        if self._next_turn is None:
            self._next_turn = asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self.budget = 0
        while self._queue and not self._is_used_up and (self.lost or not self.paused):
            frame = self._queue.popleft()
            self.count(len(frame[-1]))
            self._process(*frame)
        if self._queue or self._source is None:
            return
        self._queue = None
        if self.held and not self._is_used_up:
            self.held = False
            self.update_direct()
            self._source.parse_more()
        if not self.lost:
            self._resume_transport()
        elif not self._has_more:
            self._finish()

    @property
    def _has_more(self) -> bool:
        return bool(self._queue) or (self._source is not None and self._source.has_more)

    def _finish(self) -> None:
        if self._owner is not None:
            self._owner.finish()

    # Frames

    def add(self, frame: QueuedFrame) -> None:
        """Process a frame now, or queue it behind those that wait."""
        if self._queue is not None:
            self._queue.append(frame)
        elif self.held and not self.shut:
            self._queue = deque((frame,))
        else:
            self._process(*frame)

    def _process(self, opcode: int, fin: bool, rsv1: bool, reserved: bool, payload: bytes) -> None:
        owner, source = self._owner, self._source
        if owner is None or source is None:
            return
        if self.shut:
            if opcode == CLOSE:
                owner.control_frame(opcode, payload)
        elif opcode == PARSER_FAULT:
            owner.fail(int.from_bytes(payload, "big"))
        else:
            try:
                message = self._receiver.receive(opcode, fin, rsv1, reserved, payload)
            except Violation as violation:
                owner.fail(violation.code, violation.reason)
                return
            if message is not None:
                self._deliver(owner, source, *message)
                if len(message[1]) > len(payload):  # It was inflated, or had other fragments.
                    self.count(len(message[1]))
            self.update_direct()

    def _deliver(
        self, owner: SchedulerOwner, source: FrameSource, opcode: int, data: bytes
    ) -> None:
        if opcode == TEXT:
            self.text_received(data)
        elif opcode == BINARY:
            source.binary_received(data)
        else:
            owner.control_frame(opcode, data)

    def update_direct(self) -> None:
        """Compute `direct` anew."""
        self.direct = not (self.shut or self.held or self._receiver.assembler is not None)

    # Pausing and the end

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        if not (self.shut or self.lost):
            self.paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        self.paused = False
        self._resume_transport()

    def _resume_transport(self) -> None:
        if self.held:
            self._schedule()
        elif not self.paused and not self.lost:
            self._transport.resume_reading()

    def shut_down(self) -> None:
        """Process nothing more but a close frame, which may be queued already."""
        self.shut = True
        self.direct = False
        queue, self._queue = self._queue, None
        owner = self._owner
        if owner is None:
            return
        loop = asyncio.get_running_loop()
        for opcode, _, _, _, payload in queue or ():
            if opcode == CLOSE:
                loop.call_soon(owner.control_frame, CLOSE, payload)
                break
        if self.lost:
            loop.call_soon(owner.finish)

    def transport_lost(self) -> None:
        """Process the frames received before the transport was lost, then finish."""
        self.lost = True
        self._transport = CLOSED_TRANSPORT
        if self.shut or not self._has_more:
            self._finish()
        else:
            self._schedule()

    def free(self) -> None:
        """Drop received frames and every reference back to the connection."""
        self.shut = True
        self.direct = False
        self._receiver.close()
        self._queue = self._source = self._owner = None
        self.text_received = _ignore
        if self._next_turn is not None:
            self._next_turn.cancel()


def _ignore(_: Any) -> None:
    pass
