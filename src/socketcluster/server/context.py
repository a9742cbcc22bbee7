"""The context of a server's sockets: the objects that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from socketcluster.engines.base import Pace
from socketcluster.literals import MiddlewareType
from socketcluster.middleware import MiddlewareFunction
from socketcluster.protocol.packets import AnyPacket
from socketcluster.protocol.wire import Wire
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.runtime.reporting import Reporter
from socketcluster.server.channel_names import ChannelNames
from socketcluster.server.options import ServerOptions
from socketcluster.server.parts.authentication import AuthObserver
from socketcluster.server.parts.closing import ClosingObserver
from socketcluster.server.parts.counts import Counts
from socketcluster.server.parts.deciders import Deciders
from socketcluster.server.parts.rate_limits import RateLimits
from socketcluster.server.parts.reauthorization import ReauthorizationPace
from socketcluster.server.parts.sequencer import Continuation
from socketcluster.server.parts.setup import TrackingEmitter
from socketcluster.server.parts.stored_channels import StoredChannels
from socketcluster.server.parts.subscriptions import SubscriptionObserver
from socketcluster.server.parts.tokens import Tokens
from socketcluster.server.reporting import ServerReports
from socketcluster.server.ticker import Ticker
from socketcluster.sockets.flusher import Flusher
from socketcluster.sockets.handling import Handling
from socketcluster.sockets.request import AGRequest


class SocketObserver(AuthObserver, SubscriptionObserver, ClosingObserver, Protocol):
    """Receives the sockets' changes, and emits the server's events about them."""

    def opened(self, socket: Any) -> None:
        """Move a socket to the clients, because its handshake is complete."""

    def connection_event(
        self, socket: Any, is_authenticated: bool, auth_error: BaseException | None
    ) -> Any:
        """Make the 'connection' event."""


class ServerSessions(Protocol):
    """The sessions of clients that recover."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many sessions have a connected client, and how many a lost one."""
        ...

    def use(self, shared: StoredChannels) -> None:
        """Begin to serve sessions, because a rule has history."""

    def opened(self, socket: Any) -> None:
        """Take over the session of a socket whose handshake is complete."""

    def pinged(self, socket: Any) -> None:
        """Note a ping, which the caller sends now."""

    def ponged(self, socket: Any) -> None:
        """Take a pong."""


class ServerEmitter(TrackingEmitter, Protocol):
    """Emits the server's events."""

    def emit(self, event: str, data: Any = None) -> None: ...
    def emit_warning(self, warning: BaseException) -> None: ...


@dataclass(slots=True, eq=False)
class SocketContext:
    """The shared environment of a server's sockets.

    Each part of a socket declares a Protocol with the members that it uses.

    Attributes:
        emitter: emits the server's events.
        handling: the handlers that the application has declared.
        observer: receives the sockets' changes.
        subscription_observer: receives the changes of their subscriptions; `observer` by default.
        channel_names: what names of channels mean to clients; None if they have no meaning.
        middleware: from a middleware type to its function.
        make_request: makes an AGRequest of (socket, cid, procedure, data).
        make_call: makes the AGRequest of a call of a procedure; `make_request` by default.
        make_flusher: makes the flusher of an event loop.
        counts: what happened to the sockets.
        pongs: called with the seconds between a ping and its pong, if set.
        deciders: decide on subscriptions and publishes of clients.
        direct: carries out short messages for handlers, by the name in the message.
        dispatch: carries out a packet: (socket, packet, message).
        dispatch_batch: carries out a batch: (socket, batch, message), and a function in place of
            `dispatch` as an option.
        sessions: those of clients that recover; None without the option `recovery`.
        starting: called before each start of the server.
        equip: changes the parts of each new socket; None changes none.
        upgrade_pace, handshake_pace: admit upgrade requests, and '#handshake' packets.
        rate_limits: the rates of messages and packets, and the counts of all limits.
        ack_timeout, handshake_timeout, ping_interval, ping_timeout: milliseconds.
    """

    options: ServerOptions
    loop_binding: LoopBinding
    reporter: Reporter
    reports: ServerReports
    emitter: ServerEmitter
    wire: Wire
    exchange: AGExchange
    channel_names: ChannelNames | None
    middleware: dict[MiddlewareType, MiddlewareFunction]
    tokens: Tokens
    ticker: Ticker
    observer: SocketObserver
    handling: Handling
    dispatch: Callable[[Any, AnyPacket, bytes], Continuation]
    dispatch_batch: Callable[..., Continuation]
    rate_limits: RateLimits

    flusher: Flusher = field(default_factory=Flusher)
    make_flusher: Callable[[], Flusher] = Flusher
    reauthorization_pace: ReauthorizationPace = field(default_factory=ReauthorizationPace)
    starting: list[Callable[[], None]] = field(default_factory=list)
    equip: Callable[[Any], None] | None = None
    subscription_observer: SubscriptionObserver = field(init=False)
    sessions: ServerSessions | None = None
    make_request: Callable[..., Any] = field(init=False)
    make_call: Callable[..., Any] = field(init=False)
    counts: Counts = field(default_factory=Counts)
    pongs: Callable[[float], None] | None = None
    deciders: Deciders = field(init=False)
    direct: Mapping[bytes, Callable[[Any, bytes], bool]] = field(default_factory=dict)
    upgrade_pace: Pace = field(init=False)
    handshake_pace: Pace = field(init=False)
    ack_timeout: float = field(init=False)
    handshake_timeout: float = field(init=False)
    ping_interval: float = field(init=False)
    ping_timeout: float = field(init=False)

    def __post_init__(self) -> None:
        self.subscription_observer = self.observer
        self.make_request = self.make_call = self.options.request_creator or AGRequest
        self.deciders = Deciders(self.handling.start)
        self.upgrade_pace = Pace(self.options.handshakes_per_turn)
        self.handshake_pace = Pace(self.options.handshakes_per_turn)
        milliseconds = self.options.milliseconds
        self.ack_timeout = milliseconds("ack_timeout")
        self.handshake_timeout = milliseconds("handshake_timeout")
        self.ping_interval = milliseconds("ping_interval")
        self.ping_timeout = milliseconds("ping_timeout")

    def restart(self) -> None:
        """Drop what an earlier event loop may have left unfinished."""
        self.flusher = self.make_flusher()
        self.reauthorization_pace = ReauthorizationPace()
        self.exchange.fan_out.use(self.flusher)
        self.upgrade_pace.restart()
        self.handshake_pace.restart()
        for start in self.starting:
            start()

    def emit_warning(self, warning: BaseException) -> None:
        """See `AGServer.emit_warning`, which an application may override."""
        self.emitter.emit_warning(warning)

    def count_failed(self, procedure: str) -> None:
        """Count a call of a loop, or of nothing, that failed; handlers count their own."""
        if self._is_of_loop(procedure):
            self.counts.failed_calls += 1

    def count_abandoned(self, procedure: str) -> None:
        """Count a call of a loop whose client left before the answer."""
        if self._is_of_loop(procedure):
            self.counts.abandoned_calls += 1

    def _is_of_loop(self, procedure: str) -> bool:
        return procedure not in self.handling.procedures and not procedure.startswith("#")

    def emit_warning_about(self, warning: BaseException, **about: Any) -> None:
        """Emit 'warning' about a `socket`, or the `request` of one that does not exist yet."""
        reports = self.reports
        reports.about = about
        try:
            self.emitter.emit_warning(warning)
        finally:
            reports.about = {}

    def report_fault(self, error: BaseException, socket: Any = None) -> None:
        """See `ServerReports.report_fault`."""
        self.reports.report_fault(error, socket)

    def report_broker(self, action: str, error: BaseException, channel: str | None = None) -> None:
        """See `ServerReports.report_broker`."""
        self.reports.report_broker(action, error, channel)
