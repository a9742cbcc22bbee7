"""Inbound messages of one socket, in the order sent: dispatched at once or from a backlog.

With nothing to wait for, a message is decoded and dispatched in the engine's read callback. While
one message waits for middleware, a broker or the handshake, later messages queue in a sequencer.
Past `max_inbound_backlog` messages or `max_inbound_backlog_bytes`, reading pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from socketcluster.codecs.json import SHORT
from socketcluster.engines.base import Connection
from socketcluster.errors import InvalidMessageError
from socketcluster.events import MessageEvent, RawEvent
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MIDDLEWARE_INBOUND_RAW
from socketcluster.protocol.packets import (
    AnyPacket,
    Batch,
    Packet,
    is_answer,
    public_message,
)
from socketcluster.protocol.state import CONNECTING, OPEN, PINGS
from socketcluster.protocol.typed_packets import NAME_AT
from socketcluster.protocol.wire import Wire
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.authentication import SocketAuth
from socketcluster.server.parts.flow_control import FlowControl
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.raw_middleware import RawMiddleware
from socketcluster.server.parts.rejections import Rejections
from socketcluster.server.parts.sequencer import Continuation, MessageSequencer
from socketcluster.streams import TEXT_WEIGHT, StreamDemux

_QUOTE = b'"'


class InboundOwner(Protocol):
    """The inbound messages' view of their socket."""

    @property
    def life(self) -> Life: ...
    @property
    def auth(self) -> SocketAuth: ...
    @property
    def messaging(self) -> Messaging: ...
    @property
    def middleware(self) -> SocketMiddleware: ...
    def emit_error(self, error: BaseException) -> None: ...
    def disconnect(self, code: int | None = 1000, reason: str | None = None) -> None: ...


class Clock(Protocol):
    """The clock of silence; `now` is in seconds."""

    now: float


class PongSessions(Protocol):
    """The sessions of clients that recover."""

    def ponged(self, socket: Any) -> None:
        """Take a pong."""


class InboundContext(Protocol):
    """The inbound messages' view of their server."""

    @property
    def wire(self) -> Wire: ...
    @property
    def ticker(self) -> Clock: ...
    @property
    def options(self) -> ServerOptions: ...
    @property
    def middleware(self) -> Mapping[MiddlewareType, Any]: ...
    @property
    def pongs(self) -> Callable[[float], None] | None:
        """Called with the seconds between a ping and its pong, if set."""
        ...

    @property
    def sessions(self) -> PongSessions | None:
        """The sessions of clients that recover; None without."""
        ...

    @property
    def direct(self) -> Mapping[bytes, Callable[[Any, bytes], bool]]:
        """Functions that carry out short messages: (socket, message)."""
        ...

    @property
    def dispatch(self) -> Callable[[Any, AnyPacket, bytes], Continuation]:
        """A function that carries out a packet: (socket, packet, message)."""
        ...

    @property
    def dispatch_batch(self) -> Callable[[Any, Batch, bytes], Continuation]:
        """A function that carries out a batch: (socket, batch, message)."""
        ...


class Inbound:
    """The inbound messages of one socket.

    Attributes:
        received, processed: messages so far, pongs included.
        flow_control: pauses the reading.
        listeners: the demux of the socket's events; None before the first listener.
        unconfirmed, unconfirmed_size: publishes that the broker has not confirmed, and their bytes.
        batched: packets of batches carried out in this loop turn.
        last_seen: the time of the last message, on the ticker's clock of silence.
        silence: when a silence was first noticed, and the connection's activity then.
        closed: whether messages are ignored from now on.
        ending: whether messages received from now on are ignored, except for answers.
    """

    __slots__ = (
        "_context",
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
        "ending",
        "flow_control",
        "last_seen",
        "listeners",
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
        self.closed: bool = False
        self.ending: bool = False
        self.listeners: StreamDemux[Any] | None = None
        self.flow_control: FlowControl = FlowControl(
            connection, options.max_inbound_backlog, options.max_inbound_backlog_bytes, self
        )
        self._rejections: Rejections | None = None
        self._on_idle: Callable[[], None] | None = None
        self.received: int = 0
        self.processed: int = 0
        self.batched: int = 0
        self.unconfirmed: int = 0
        self.unconfirmed_size: int = 0
        self.last_seen: float = self._ticker.now
        self.silence: tuple[float, object] | None = None

    def message(self, message: bytes) -> None:
        """Accept a text message, as UTF-8, or a BinaryMessage. The engine calls this."""
        self.received += 1
        self.last_seen = self._ticker.now
        if (
            self._sequencer is None
            and self._raw is None
            and not self.ending
            and MIDDLEWARE_INBOUND_RAW not in self._middleware
        ):
            # The common case, with nothing to wait for.
            continuation = self._process(message)
            if continuation is not None:
                self.wait_for(continuation)
        elif self.ending:
            self.processed += take_answers(self._socket, self._context, message)
        elif self._raw is not None or MIDDLEWARE_INBOUND_RAW in self._middleware:
            self._put_raw(message)
        else:
            self._accept(message)

    def _put_raw(self, message: bytes) -> None:
        if self._raw is None:
            self._raw = RawMiddleware(self._socket.middleware, self._raw_decided, self._check_idle)
        if self.waiting:
            # Raw middleware sees the answer in its turn, but can no longer block it.
            take_answers(self._socket, self._context, message)
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
            continuation = self._process(message)
            if continuation is not None:
                self.wait_for(continuation)
        elif take_answers(self._socket, self._context, message):
            self.processed += 1
        else:
            self.flow_control.add(message)
            self._sequencer.put(message)

    def hold(self) -> None:
        """Queue later messages until `release`."""
        if not self.closed:
            self._ensure_sequencer().hold()

    def release(self) -> None:
        """End one `hold`."""
        if self._sequencer is not None:
            self._sequencer.done()

    def wait_for(self, continuation: Continuation) -> None:
        """Queue later messages until a continuation is done."""
        sequencer = self._ensure_sequencer()
        sequencer.hold()
        sequencer.finish(continuation)

    def _ensure_sequencer(self) -> MessageSequencer:
        if self._sequencer is None:
            fail = self._socket.middleware.fail
            self._sequencer = MessageSequencer(self._start, self._sequencer_idle, fail)
        return self._sequencer

    def _sequencer_idle(self) -> None:
        self._sequencer = None
        self._check_idle()

    def _check_idle(self) -> None:
        if self._on_idle is not None and not self.waiting:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    def _start(self, message: bytes) -> Continuation:
        self.flow_control.remove(message)
        return None if self.closed else self._process(message)

    def loops_changed(self, behind: bool) -> None:
        """See `FlowControlOwner.loops_changed`."""
        # Messages received already wait as bytes, and do not become larger values in middleware.
        if behind and self._on_idle is None:
            self._held_by_loops = True
            self.hold()
        elif not behind:
            self._release_loops()

    def _release_loops(self) -> None:
        if self._held_by_loops:
            self._held_by_loops = False
            asyncio.get_running_loop().call_soon(self.release)

    def _process(self, message: bytes) -> Continuation:
        """Carry out a message, and return its continuation. It never raises."""
        self.processed += 1
        try:
            if self.listeners is not None:
                _emit_message(self.listeners, "message", MessageEvent, message)
            if message == self._pong:
                self._take_pong()
                return None
            # The name is searched for here, because a function for it would cost 1 % of a call.
            direct = self._context.direct
            if direct and len(message) <= SHORT:
                name = message[NAME_AT : message.find(_QUOTE, NAME_AT)]
                if name in direct and direct[name](self._socket, message):
                    return None
            decoded = self._wire.decode(message)
            if isinstance(decoded, Batch):
                return self._context.dispatch_batch(self._socket, decoded, message)
            return self._context.dispatch(self._socket, decoded, message)
        except InvalidMessageError as error:
            self.rejections.reject(error, message)
        except (Exception, asyncio.CancelledError) as error:
            self._socket.middleware.fail(error)
        return None

    def emit_raw(self, message: bytes) -> None:
        """Emit 'raw'."""
        if self.listeners is not None:
            _emit_message(self.listeners, "raw", RawEvent, message)

    def _take_pong(self) -> None:
        if self._socket.life.state == CONNECTING:
            self.rejections.reject_before_handshake()
        else:
            _take_pong(self._socket, self._context)

    @property
    def rejections(self) -> Rejections:
        """Rejects bad messages; made for the first one."""
        if self._rejections is None:
            self._rejections = Rejections(self._socket, self._context)
        return self._rejections

    @property
    def waiting(self) -> bool:
        """Whether a message is being carried out or waits."""
        return self._sequencer is not None or (self._raw is not None and self._raw.busy)

    @property
    def busy(self) -> bool:
        """Whether a message is being carried out or waits, or a publish is unconfirmed."""
        return self.waiting or self.unconfirmed > 0

    def get_held_size(self) -> int:
        """Bytes that wait for middleware, for loops, or for the broker's confirmation."""
        return self.flow_control.total_size + self.unconfirmed_size

    def when_idle(self, on_idle: Callable[[], None]) -> None:
        """Call `on_idle` once, when no message is `waiting`; one must be waiting now."""
        self._on_idle = on_idle
        self._release_loops()  # From now on messages do not wait for loops.

    def close_after_backlog(self) -> None:
        """Carry out the messages received so far, and of later ones only the answers."""
        self.ending = True

    def close(self) -> None:
        """Ignore messages from now on, and drop the backlog."""
        self.closed = self.ending = True
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


def _take_pong(socket: InboundOwner, context: InboundContext) -> None:
    if context.pongs is not None:
        socket.life.take_pong(context.pongs)
    if context.sessions is not None:
        context.sessions.ponged(socket)
    socket.auth.check_expiry()


def _emit_message(
    listeners: StreamDemux[Any], name: str, kind: type[MessageEvent | RawEvent], message: bytes
) -> None:
    """Emit an event whose text is decoded when a consumer takes it."""
    listeners.write_deferred(name, len(message), lambda: kind(public_message(message)), TEXT_WEIGHT)


def take_answers(socket: InboundOwner, context: InboundContext, message: bytes) -> bool:
    """Resolve this side's calls that a message answers; return whether it has nothing else.

    Answers overtake the backlog, which may be waiting for them.
    """
    calls, wire = socket.messaging.calls, context.wire
    if not calls or socket.life.state != OPEN or not wire.may_answer(message):
        return False
    answers, nothing_else = _answers(wire, message, context.options.max_batch_items)
    for packet in answers:
        socket.messaging.take_answer(packet)
    return nothing_else


def _answers(wire: Wire, message: bytes, max_batch_items: int) -> tuple[list[Packet], bool]:
    """Return the answers in a message, and whether it has nothing else."""
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
