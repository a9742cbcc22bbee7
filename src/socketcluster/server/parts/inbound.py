"""What comes in on one socket: messages in the order sent, dispatched at once or from a backlog.

With nothing to wait for, a message is decoded and dispatched in the engine's read callback. As
soon as something has to be waited for (middleware, a broker, the handshake), one task works off
what follows, and past `max_inbound_backlog` messages or `max_inbound_backlog_bytes` the socket is
not read from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from socketcluster.errors import InvalidMessageError
from socketcluster.events import MessageEvent
from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.protocol.packets import (
    Batch,
    BinaryMessage,
    Packet,
    is_answer,
)
from socketcluster.protocol.state import CLOSE_BEFORE_HANDSHAKE, CONNECTING, OPEN, PINGS
from socketcluster.protocol.wire import Wire
from socketcluster.server.packets.batch import dispatch_batch
from socketcluster.server.packets.delivery import show_message
from socketcluster.server.packets.dispatch import dispatch
from socketcluster.server.packets.replies import refuse_unreadable, take_answer
from socketcluster.server.parts.flow_control import Reading
from socketcluster.server.parts.raw_middleware import RawLine
from socketcluster.server.parts.sequencer import Left, Sequencer

if TYPE_CHECKING:
    from socketcluster.server.socket import AGServerSocket


class Inbound:
    """One socket's way in.

    Attributes:
        received, processed: messages so far, pongs included.
        reading: whether the socket is read from.
        last_seen: the server ticker's time of the last message.
        silence: for `hears`, which looks at it in a silence.
    """

    __slots__ = (
        "_ending",
        "_gate",
        "_held_by_loops",
        "_line",
        "_malformed",
        "_middleware",
        "_on_idle",
        "_pong",
        "_socket",
        "_ticker",
        "_wire",
        "batched",
        "closed",
        "last_seen",
        "processed",
        "reading",
        "received",
        "silence",
        "unconfirmed",
        "unconfirmed_size",
    )

    def __init__(self, socket: AGServerSocket) -> None:
        server = socket.server
        self._socket = socket
        self._wire = server.wire
        self.unconfirmed = 0  # Publishes that the broker has not answered,
        self.unconfirmed_size = 0  # and their bytes.
        self._ticker = server.ticker
        self._middleware = server.middleware
        self._line: RawLine | None = None
        self._pong = PINGS[socket.protocol_version][1]
        self._gate: Sequencer | None = None
        self._held_by_loops = False
        opts = server.options
        self.reading = Reading(
            socket.connection,
            opts.max_inbound_backlog,
            opts.max_inbound_backlog_bytes,
            self._loops_are_behind,
        )
        self._malformed = 0
        self._ending = False
        self._on_idle: Callable[[], None] | None = None
        self.closed = False
        self.received = self.processed = self.batched = 0
        self.last_seen = self._ticker.now
        self.silence: tuple[float, object] | None = None

    def message(self, message: bytes) -> None:
        """A text message, as UTF-8, came in."""
        self.received += 1
        self.last_seen = self._ticker.now
        if (
            self._gate is None
            and self._line is None
            and not self._ending
            and MIDDLEWARE_INBOUND_RAW not in self._middleware
        ):
            # The common case, with nothing to wait for.
            pending = self._process(message)
            if pending is not None:
                self._wait(pending)
        elif self._ending:
            self.processed += self._settle_answers(message)
        elif self._line is not None or MIDDLEWARE_INBOUND_RAW in self._middleware:
            if self._line is None:
                self._line = RawLine(self._socket, self._decided, self._check_idle)
            if self.waiting:
                # Raw middleware still sees it in its turn; its blocking comes too late.
                self._settle_answers(message)
            self.reading.waits(message)
            self._line.put(message)
        else:
            self._accept(message)

    def binary(self, message: bytes) -> None:
        """A binary message came in."""
        self.message(BinaryMessage(message))

    def _decided(self, received: bytes, message: bytes | None) -> None:
        if self.closed:
            return
        self.reading.waited(received)
        if message is None:
            self.processed += 1
        else:
            self._accept(message)

    def _accept(self, message: bytes) -> None:
        if self._gate is None:
            pending = self._process(message)
            if pending is not None:
                self._wait(pending)
        elif self._settle_answers(message):
            self.processed += 1
        else:
            self.reading.waits(message)
            self._gate.put(message)

    def _settle_answers(self, message: bytes) -> bool:
        """Settle the calls of this side that a message answers, ahead of the backlog, which may be
        waiting for them; whether the message has nothing else."""
        socket = self._socket
        if not socket.calls or socket.state != OPEN or not self._wire.may_answer(message):
            return False
        answers, nothing_else = _answers(self._wire, message, socket.server.options.max_batch_items)
        for packet in answers:
            take_answer(socket, packet)
        return nothing_else

    # What has to be waited for holds back what follows

    def hold(self) -> None:
        """Have the messages that come later wait until `release`."""
        if not self.closed:
            self._sequencer().hold()

    def release(self) -> None:
        """One that held the later messages back is done."""
        if self._gate is not None:
            self._gate.next()

    def _wait(self, left: Left) -> None:
        gate = self._sequencer()
        gate.hold()
        gate.follow(left)

    def _sequencer(self) -> Sequencer:
        if self._gate is None:
            self._gate = Sequencer(self._let_through, self._caught_up, self.fault)
        return self._gate

    def _caught_up(self) -> None:
        self._gate = None
        self._check_idle()

    def _check_idle(self) -> None:
        if self._on_idle is not None and not self.waiting:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    def _let_through(self, message: bytes) -> Left:
        self.reading.waited(message)
        return None if self.closed else self._process(message)

    def _loops_are_behind(self, behind: bool) -> None:
        # What came in already waits as bytes: no middleware makes values of it meanwhile.
        if behind and self._on_idle is None:
            self._held_by_loops = True
            self.hold()
        elif not behind:
            self._release_by_loops()

    def _release_by_loops(self) -> None:
        if self._held_by_loops:
            self._held_by_loops = False
            asyncio.get_running_loop().call_soon(self.release)

    def _process(self, message: bytes) -> Left:
        """Carry out a message; None when that is done, else the rest of it. It never raises."""
        self.processed += 1
        socket = self._socket
        try:
            if socket._listeners_demux is not None:
                show_message(socket, "message", MessageEvent, message)
            if message == self._pong:
                self._pong_received()
                return None
            decoded = self._wire.decode(message)
            if isinstance(decoded, Batch):
                return dispatch_batch(socket, decoded, message)
            return dispatch(socket, decoded, message)
        except InvalidMessageError as error:
            refuse_unreadable(socket, error, message)
        except Exception as error:
            self.fault(error)
        return None

    def _pong_received(self) -> None:
        if self._socket.state == CONNECTING:
            self.reject_before_handshake()
        else:
            self._socket.auth.check_expiry()

    def fault(self, error: BaseException) -> None:
        """A fault of this server, or of something plugged into it: never of the client."""
        self._socket.server.report_fault(error)
        self._socket.disconnect(1011)

    @property
    def waiting(self) -> bool:
        """Whether a message is being carried out or waits for that."""
        return self._gate is not None or (self._line is not None and self._line.busy)

    def get_held_size(self) -> int:
        """Bytes that wait for middleware, for loops, or for the broker to accept them."""
        return self.reading.total_size + self.unconfirmed_size

    @property
    def busy(self) -> bool:
        """`waiting`, or whether the broker has still to answer publishes."""
        return self.waiting or self.unconfirmed > 0

    def when_idle(self, on_idle: Callable[[], None]) -> None:
        """Call `on_idle` once when nothing is `waiting` any more. Something must be now."""
        self._on_idle = on_idle
        self._release_by_loops()  # Nobody waits for handlers now.

    def malformed(self) -> None:
        """Count a malformed message; the socket that sends too many is closed."""
        self._malformed += 1
        if self._malformed > self._socket.server.options.max_malformed_messages:
            self._socket.disconnect(1008, "Too many malformed messages")

    def reject_before_handshake(self) -> None:
        """A socket said something else before its handshake."""
        if self._socket.server.options.strict_handshake:
            self._socket.disconnect(CLOSE_BEFORE_HANDSHAKE)
        else:
            self.malformed()

    def close_after_backlog(self) -> None:
        """Carry out what was received, and of what comes later only answers."""
        self._ending = True

    def close(self) -> None:
        """Carry out nothing more, not even what was received."""
        self.closed = self._ending = True
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.clear()
        if self._line is not None:
            self._line.close()
        self.reading.nothing_waits()
        on_idle, self._on_idle = self._on_idle, None
        if on_idle is not None:
            on_idle()
        self.processed = self.received


def _answers(wire: Wire, message: bytes, max_batch_items: int) -> tuple[list[Packet], bool]:
    """The answers in a message, and whether it has nothing else."""
    try:
        decoded = wire.decode(message)
    except InvalidMessageError:
        return [], False
    if isinstance(decoded, Batch):
        packets = list(decoded.readable_packets()) if len(decoded) <= max_batch_items else []
    else:
        packets = [decoded]
    answers = [p for p in packets if isinstance(p, Packet) and is_answer(p)]
    return answers, bool(packets) and len(answers) == len(packets)
