"""Inbound messages of one socket, in the order sent: dispatched at once or from a backlog.

With nothing to wait for, a message is decoded and dispatched in the engine's read callback. As soon
as something has to be waited for (middleware, a broker, the handshake), later messages queue in a
sequencer. Past `max_inbound_backlog` messages or `max_inbound_backlog_bytes`, reading pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from socketcluster.engines.base import Connection
from socketcluster.errors import InvalidMessageError
from socketcluster.events import MessageEvent, RawEvent
from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.protocol.packets import (
    AnyPacket,
    Batch,
    BinaryMessage,
    Packet,
    is_answer,
    public_message,
)
from socketcluster.protocol.state import CONNECTING, OPEN, PINGS
from socketcluster.protocol.wire import Wire
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.authentication import SocketAuth
from socketcluster.server.parts.flow_control import FlowControl
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.raw_middleware import RawMiddleware
from socketcluster.server.parts.rejections import Rejections
from socketcluster.server.parts.sequencer import MessageSequencer, Rest
from socketcluster.streams import TEXT_WEIGHT, StreamDemux


class InboundOwner(Protocol):
    """What the inbound messages ask of their socket."""

    _listeners_demux: StreamDemux[Any] | None

    @property
    def life(self) -> Life: ...
    @property
    def auth(self) -> SocketAuth: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def middleware(self) -> SocketMiddleware: ...
    def emit_error(self, error: BaseException) -> None: ...
    def disconnect(self, code: int = 1000, reason: str | None = None) -> None: ...


class Clock(Protocol):
    """The clock of silence; `now` is in seconds."""

    now: float


class InboundContext(Protocol):
    """What the inbound messages ask of their server."""

    @property
    def wire(self) -> Wire: ...
    @property
    def ticker(self) -> Clock: ...
    @property
    def options(self) -> ServerOptions: ...
    @property
    def middleware(self) -> Mapping[str, Any]: ...
    @property
    def dispatch(self) -> Callable[[Any, AnyPacket, bytes], Rest]:
        """Carries out a packet of (socket, packet, message)."""

    @property
    def dispatch_batch(self) -> Callable[[Any, Batch, bytes], Rest]:
        """Carries out a batch of (socket, batch, message)."""


class Inbound:
    """The inbound messages of one socket.

    Attributes:
        received, processed: messages so far, pongs included.
        flow_control: pauses the reading.
        unconfirmed, unconfirmed_size: publishes that the broker has not confirmed, and their bytes.
        batched: packets of batches carried out in this loop turn.
        last_seen: the time of the last message, on the ticker's clock of silence.
        silence: the time and the connection's activity at which a silence was first looked at.
        closed: whether nothing more is carried out.
    """

    __slots__ = (
        "_context",
        "_ending",
        "_held_by_loops",
        "_middleware",
        "_on_idle",
        "_pong",
        "_raw",
        "_rejections",
        "_sequencer",
        "_socket",
        "_ticker",
        "_wire",
        "batched",
        "closed",
        "flow_control",
        "last_seen",
        "processed",
        "received",
        "silence",
        "unconfirmed",
        "unconfirmed_size",
    )

    def __init__(
        self, socket: InboundOwner, connection: Connection, context: InboundContext
    ) -> None:
        options = context.options
        self._socket = socket
        self._context = context
        self._wire = context.wire
        self._ticker = context.ticker
        self._middleware = context.middleware
        self._raw: RawMiddleware | None = None
        self._sequencer: MessageSequencer | None = None
        self._pong = PINGS[options.protocol_version][1]
        self._held_by_loops = False
        self.flow_control = FlowControl(
            connection,
            options.max_inbound_backlog,
            options.max_inbound_backlog_bytes,
            self._loops_changed,
        )
        self._rejections: Rejections | None = None
        self._ending = False
        self._on_idle: Callable[[], None] | None = None
        self.closed = False
        self.received = self.processed = self.batched = 0
        self.unconfirmed = self.unconfirmed_size = 0
        self.last_seen = self._ticker.now
        self.silence: tuple[float, object] | None = None

    def message(self, message: bytes) -> None:
        """Take in a text message, as UTF-8. The engine calls it."""
        self.received += 1
        self.last_seen = self._ticker.now
        if (
            self._sequencer is None
            and self._raw is None
            and not self._ending
            and MIDDLEWARE_INBOUND_RAW not in self._middleware
        ):
            # The common case, with nothing to wait for.
            rest = self._process(message)
            if rest is not None:
                self._finish(rest)
        elif self._ending:
            self.processed += _take_answers(self._socket, self._context, message)
        elif self._raw is not None or MIDDLEWARE_INBOUND_RAW in self._middleware:
            self._put_raw(message)
        else:
            self._accept(message)

    def binary(self, message: bytes) -> None:
        """Take in a binary message. The engine calls it."""
        self.message(BinaryMessage(message))

    def _put_raw(self, message: bytes) -> None:
        if self._raw is None:
            middleware = self._socket.middleware
            self._raw = RawMiddleware(middleware, self._raw_decided, self._check_idle)
        if self.waiting:
            # Raw middleware still sees an answer in its turn, but cannot block it any more.
            _take_answers(self._socket, self._context, message)
        self.flow_control.add(message)
        self._raw.put(message)

    def _raw_decided(self, received: bytes, message: bytes | None) -> None:
        if self.closed:
            return
        self.flow_control.remove(received)
        if message is None:
            self.processed += 1
        else:
            self._accept(message)

    def _accept(self, message: bytes) -> None:
        if self._sequencer is None:
            rest = self._process(message)
            if rest is not None:
                self._finish(rest)
        elif _take_answers(self._socket, self._context, message):
            self.processed += 1
        else:
            self.flow_control.add(message)
            self._sequencer.put(message)

    # Waiting

    def hold(self) -> None:
        """Hold later messages back until `release`."""
        if not self.closed:
            self._ensure_sequencer().hold()

    def release(self) -> None:
        """End one `hold`."""
        if self._sequencer is not None:
            self._sequencer.done()

    def _finish(self, rest: Rest) -> None:
        sequencer = self._ensure_sequencer()
        sequencer.hold()
        sequencer.finish(rest)

    def _ensure_sequencer(self) -> MessageSequencer:
        if self._sequencer is None:
            self._sequencer = MessageSequencer(self._start, self._sequencer_idle, self._fail)
        return self._sequencer

    def _sequencer_idle(self) -> None:
        self._sequencer = None
        self._check_idle()

    def _check_idle(self) -> None:
        if self._on_idle is not None and not self.waiting:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    def _start(self, message: bytes) -> Rest:
        self.flow_control.remove(message)
        return None if self.closed else self._process(message)

    def _loops_changed(self, behind: bool) -> None:
        # Messages already received wait as bytes: no middleware makes values of them meanwhile.
        if behind and self._on_idle is None:
            self._held_by_loops = True
            self.hold()
        elif not behind:
            self._release_loops()

    def _release_loops(self) -> None:
        if self._held_by_loops:
            self._held_by_loops = False
            asyncio.get_running_loop().call_soon(self.release)

    # Carrying out

    def _process(self, message: bytes) -> Rest:
        """Carry out a message; return None if that is done, else the rest. It never raises."""
        self.processed += 1
        socket = self._socket
        try:
            # A private slot, because a method call for each message costs 0.3 % of a call.
            if socket._listeners_demux is not None:
                _show(socket, "message", MessageEvent, message)
            if message == self._pong:
                self._take_pong()
                return None
            decoded = self._wire.decode(message)
            if isinstance(decoded, Batch):
                return self._context.dispatch_batch(socket, decoded, message)
            return self._context.dispatch(socket, decoded, message)
        except InvalidMessageError as error:
            self.rejections.reject(error, message)
        except Exception as error:
            self._fail(error)
        return None

    def show_raw(self, message: bytes) -> None:
        """Emit 'raw'."""
        _show(self._socket, "raw", RawEvent, message)

    def _take_pong(self) -> None:
        if self._socket.life.state == CONNECTING:
            self.rejections.reject_before_handshake()
        else:
            self._socket.auth.check_expiry()

    def _fail(self, error: BaseException) -> None:
        self._socket.middleware.fail(error)

    @property
    def rejections(self) -> Rejections:
        """Rejects bad messages; made for the first one."""
        if self._rejections is None:
            self._rejections = Rejections(self._socket, self._context)
        return self._rejections

    @property
    def waiting(self) -> bool:
        """Whether a message is being carried out, or waits for that."""
        return self._sequencer is not None or (self._raw is not None and self._raw.busy)

    @property
    def busy(self) -> bool:
        """Whether a message is being carried out or waits, or a publish is unconfirmed."""
        return self.waiting or self.unconfirmed > 0

    def get_held_size(self) -> int:
        """Bytes that wait for middleware, for loops, or for the broker's confirmation."""
        return self.flow_control.total_size + self.unconfirmed_size

    # Ending

    def when_idle(self, on_idle: Callable[[], None]) -> None:
        """Call `on_idle` once when nothing is `waiting` any more. Something must be now."""
        self._on_idle = on_idle
        self._release_loops()  # From now on messages do not wait for loops.

    def close_after_backlog(self) -> None:
        """Carry out the messages received, and only answers of those that come later."""
        self._ending = True

    def close(self) -> None:
        """Carry out nothing more, and drop the backlog."""
        self.closed = self._ending = True
        sequencer, self._sequencer = self._sequencer, None
        if sequencer is not None:
            sequencer.clear()
        if self._raw is not None:
            self._raw.close()
        self.flow_control.clear()
        on_idle, self._on_idle = self._on_idle, None
        if on_idle is not None:
            on_idle()
        self.processed = self.received


def _show(
    socket: InboundOwner, name: str, kind: type[MessageEvent | RawEvent], message: bytes
) -> None:
    """Emit an event whose text is made when a consumer takes it."""
    listeners = socket._listeners_demux
    if listeners is not None:
        size = len(message)
        listeners.write_deferred(name, size, lambda: kind(public_message(message)), TEXT_WEIGHT)


def _take_answers(socket: InboundOwner, context: InboundContext, message: bytes) -> bool:
    """Resolve this side's calls that a message answers, ahead of the backlog, which may be waiting
    for them; return whether the message holds nothing else."""
    calls, wire = socket.messaging.calls, context.wire
    if not calls or socket.life.state != OPEN or not wire.may_answer(message):
        return False
    answers, nothing_else = _answers(wire, message, context.options.max_batch_items)
    for packet in answers:
        socket.messaging.take_answer(packet)
    return nothing_else


def _answers(wire: Wire, message: bytes, max_batch_items: int) -> tuple[list[Packet], bool]:
    """The answers in a message, and whether it holds nothing else."""
    try:
        decoded = wire.decode(message)
    except InvalidMessageError:
        return [], False
    if isinstance(decoded, Batch):
        packets = list(decoded.packets()) if len(decoded) <= max_batch_items else []
    else:
        packets = [decoded]
    answers = [p for p in packets if isinstance(p, Packet) and is_answer(p)]
    return answers, bool(packets) and len(answers) == len(packets)
