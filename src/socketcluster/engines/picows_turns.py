"""The frames of one picows connection: checked, and carried out a bounded share in each loop turn.

What exceeds the share of a turn waits in a queue, in order, while the transport is not read from.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from picows import WSListener

from socketcluster.engines.assembler import (
    BINARY,
    CLOSE,
    TEXT,
    TURN_UNITS,
    FrameReceiver,
    Violation,
    turn_units,
)
from socketcluster.engines.base import ConnectionHandler, Endpoint
from socketcluster.engines.deflate import Deflate

FAULT = -1
"""The opcode, in the queue, of what the parser could not take; its payload is the close code."""

Frame = tuple[int, bool, bool, bool, bytes]
"""(opcode, FIN, RSV1, RSV2 or RSV3, payload)"""


class FrameTurns(WSListener):
    """Carries out frames."""

    __slots__ = (
        "_closing",
        "_endpoint",
        "_frames",
        "_gone",
        "_grown",
        "_handler",
        "_held",
        "_left",
        "_paused",
        "_queue",
        "_scheduled",
        "_straight",
        "_text_received",
        "_transport",
    )

    _text_received: Callable[[bytes], None]

    def __init__(
        self,
        transport: asyncio.Transport,
        handler: ConnectionHandler,
        endpoint: Endpoint,
        deflate: Deflate | None,
    ) -> None:
        self._transport = transport
        self._handler: Any = handler
        self._endpoint = endpoint
        self._frames = FrameReceiver(endpoint.max_first_message, deflate)
        self._queue: deque[Frame] | None = None
        self._left = 0  # Of this turn, once something is counted in it.
        self._scheduled = False
        self._straight = True  # Nothing is queued, in progress, closing or to be shrunk.
        self._held = False
        self._paused = False
        self._grown = False
        self._closing = False
        self._gone = False

    # What a connection adds

    @property
    @abstractmethod
    def has_more(self) -> bool:
        """Whether bytes wait to be parsed, besides those that the transport has."""

    @abstractmethod
    def parse_more(self) -> None:
        """Parse them, as far as the share of this turn goes."""

    @abstractmethod
    def first_received(self) -> None:
        """The first message is complete, and about to be given to the handler."""

    @abstractmethod
    def control_frame(self, opcode: int, payload: bytes) -> None:
        """A control frame is to be dealt with. After `shut` only close frames are."""

    @abstractmethod
    def fail(self, code: int, reason: str = "") -> None:
        """The peer broke the protocol, or sent too much."""

    @abstractmethod
    def finish(self) -> None:
        """The transport is gone, and nothing that was received is left to carry out."""

    # A share of each loop turn

    def _count(self, size: int) -> None:
        units = turn_units(size)
        self._left -= units
        if self._left <= 0:
            self._count_on(units)

    def _count_on(self, units: int) -> None:
        """Nothing is left of the share; of a turn in which nothing was counted yet, the whole."""
        if not self._scheduled:
            self._schedule()
            self._left = TURN_UNITS - units
        if self._left <= 0 and not self._held:
            self._hold()

    @property
    def _used_up(self) -> bool:
        return self._scheduled and self._left <= 0

    def _hold(self) -> None:
        self._held = True
        self._straight = False
        self._transport.pause_reading()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _take(self, frame: Frame) -> None:
        """Carry out a frame in its turn."""
        if self._queue is not None:
            self._queue.append(frame)
        elif self._held and not self._closing:
            self._queue = deque((frame,))
        else:
            self._carry_out(*frame)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._left = 0
        while self._queue and not self._used_up and (self._gone or not self._paused):
            each = self._queue.popleft()
            self._count(len(each[-1]))
            self._carry_out(*each)
        if self._queue:
            return
        self._queue = None
        if self._held and not self._used_up:
            self._held = False
            self._set_straight()
            self.parse_more()
        if not self._gone:
            self._read_on()
        elif not (self._queue or self.has_more):
            self.finish()

    def _carry_out(
        self, opcode: int, fin: bool, rsv1: bool, reserved: bool, payload: bytes
    ) -> None:
        if self._closing:
            if opcode == CLOSE:
                self.control_frame(opcode, payload)
        elif opcode == FAULT:
            self.fail(int.from_bytes(payload, "big"))
        else:
            try:
                message = self._frames.receive(opcode, fin, rsv1, reserved, payload)
            except Violation as violation:
                self.fail(violation.code, violation.reason)
                return
            if message is not None:
                self._message(*message)
                if len(message[1]) > len(payload):  # It was inflated, or had other fragments.
                    self._count(len(message[1]))
            self._set_straight()

    def _message(self, opcode: int, data: bytes) -> None:
        if opcode == TEXT:
            self._text_received(data)
        elif opcode == BINARY:
            self.first_received()
            self._handler.binary_received(data)
        else:
            self.control_frame(opcode, data)

    def _set_straight(self) -> None:
        self._straight = not (
            self._closing or self._held or self._grown or self._frames.assembler is not None
        )

    # From the handler

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        if not (self._closing or self._gone):
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        self._paused = False
        self._read_on()

    def _read_on(self) -> None:
        if self._held:
            self._schedule()
        elif not self._paused and not self._gone:
            self._transport.resume_reading()

    def shut(self) -> None:
        """Carry out nothing more, and wait for a close frame only."""
        self._closing = True
        self._straight = False
        queue, self._queue = self._queue, None
        loop = asyncio.get_running_loop()
        for opcode, _, _, _, payload in queue or ():
            if opcode == CLOSE:
                loop.call_soon(self.control_frame, CLOSE, payload)
                break
        if self._gone:
            loop.call_soon(self.finish)
