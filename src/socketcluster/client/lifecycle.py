"""The lifecycle of a client: connects, disconnects and reconnects.

Source: npm socketcluster-client, AGClientSocket.
"""

from __future__ import annotations

import asyncio

from socketcluster.client.authentication import ClientAuth
from socketcluster.client.connection import ClientConnection, HandshakeStatus
from socketcluster.client.dispatch import Dispatcher
from socketcluster.client.flow_control import FlowControl
from socketcluster.client.handling import ClientHandling
from socketcluster.client.messaging import ClientMessaging
from socketcluster.client.reconnect import ReconnectOptions, Reconnector
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.client.subscriptions import Subscriptions
from socketcluster.client.writer import ClientWriter
from socketcluster.engines.connector import Connector
from socketcluster.engines.picows_client import PicowsConnector
from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    BadConnectionError,
    InvalidActionError,
    InvalidArgumentsError,
    SocketProtocolError,
)
from socketcluster.events import (
    CloseEvent,
    ConnectAbortEvent,
    ConnectEvent,
    ConnectingEvent,
    DisconnectEvent,
)
from socketcluster.literals import SocketState
from socketcluster.protocol.state import CLOSED, CONNECTING, OPEN, StateMachine, close_error
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.sockets.batching import Batching

HAND_OVER_SECONDS = 5.0
"""How long the end of an `async with` block waits for a connection that can send the outbox."""


class Lifecycle:
    """Connects and disconnects one client.

    It alone changes the client's state, and is the `ConnectionOwner` of its connections.

    Attributes:
        connection: the present connection, or the last one.
        id: the server's id for the open connection; None without one.
        ping_timeout: the server's, in milliseconds; `connect_timeout` before the first handshake.
        reconnector: schedules the next attempt.
    """

    __slots__ = (
        "_auth",
        "_batching",
        "_binding",
        "_connections",
        "_connector",
        "_dispatcher",
        "_events",
        "_flow_control",
        "_handlers",
        "_machine",
        "_messaging",
        "_settings",
        "_subscriptions",
        "connection",
        "id",
        "ping_timeout",
        "reconnector",
    )

    reconnector: Reconnector
    _connector: Connector

    def __init__(
        self,
        settings: Settings,
        binding: LoopBinding,
        machine: StateMachine[SocketState],
        messaging: ClientMessaging,
        batching: Batching,
        auth: ClientAuth,
        subscriptions: Subscriptions,
        handlers: ClientHandling,
        flow_control: FlowControl,
        dispatcher: Dispatcher,
        events: Events,
    ) -> None:
        self._settings = settings
        self._binding = binding
        self._machine = machine
        self._messaging = messaging
        self._batching = batching
        self._auth = auth
        self._subscriptions = subscriptions
        self._handlers = handlers
        self._flow_control = flow_control
        self._dispatcher = dispatcher
        self._events = events
        self._connections: set[ClientConnection] = set()
        self.connection: ClientConnection | None = None
        self.id: str | None = None
        self.ping_timeout: float = settings.options.milliseconds("connect_timeout")
        self.configure()

    def configure(self) -> None:
        """Use the connector and the delays of new options."""
        options = self._settings.options
        delays = options.auto_reconnect_options if options.auto_reconnect else None
        assert delays is None or isinstance(delays, ReconnectOptions)
        self.reconnector = Reconnector(delays, self.connect)
        self._connector = options.connector or PicowsConnector()

    @property
    def state(self) -> SocketState:
        """The client's state."""
        return self._machine.state

    @property
    def is_over(self) -> bool:
        """Whether the client is closed and will not connect by itself."""
        return self._machine.state == CLOSED and self.reconnector.delay is None

    def connect(self) -> None:
        """See `AGClientSocket.connect`."""
        self._binding.check()
        try:
            self._binding.bind()
        except RuntimeError:
            raise InvalidActionError(
                "A client connects in a running event loop: make it in an async function, or "
                "with auto_connect=False"
            ) from None
        if self._machine.state == CLOSED:
            self.reconnector.cancel()
            self._machine.to(CONNECTING)
            self._events.emit("connecting", ConnectingEvent())
            settings = self._settings
            connection = self.connection = ClientConnection(
                self, self._connector, settings.options, settings.wire, self._messaging.calls
            )
            self._dispatcher.use(connection)
            self._connections.add(connection)
            connection.ended.add_done_callback(lambda _: self._connections.discard(connection))

    def disconnect(self, code: int, reason: str | None) -> None:
        """See `LifecycleMixin.disconnect`."""
        self._binding.check()
        if type(code) is not int or not 1000 <= code <= 4999:
            raise InvalidArgumentsError(
                f"If specified, the code argument must be a number from 1000 to 4999, not {code!r}"
            )
        self.reconnector.cancel()
        if self.connection is not None and self._machine.state != CLOSED:
            self.connection.close(code, reason)
        else:
            self._messaging.abort("connectAbort", code, reason, keep_waiting=False)
            self._handlers.closed()

    async def connect_once(self) -> None:
        """Connect, and wait for the first attempt.

        Raises:
            BadConnectionError: the attempt failed; the cause is the error.
            UsageError: a handler cannot run; it names the place.
        """
        self._handlers.resolve()
        errors = self._events.listener("error").create_consumer()
        closed = self._events.listener("close").create_consumer()
        self.connect()
        try:
            if self._machine.state == CONNECTING and self.connection is not None:
                await asyncio.wait([self.connection.opening])
            if self._machine.state == OPEN:
                return
            end = (await closed.next()).value
            assert end is not None
            cause = (await errors.next()).value if errors.get_backpressure() else None
            raise BadConnectionError(
                f"The connection could not be made: {end.reason or end.code}",
                "connectAbort",
                end.code,
                end.reason,
            ) from (None if cause is None else cause.error)
        finally:
            errors.return_()
            closed.return_()

    async def wait_sent(self) -> None:
        """Wait until the outbox was sent, if a connection can still send it.

        That is the connection that is being made, or one more attempt, for `HAND_OVER_SECONDS` at
        most.
        """
        if not self._messaging.outbox:
            return
        self.connect()
        assert self.connection is not None
        await asyncio.wait([self.connection.opening], timeout=HAND_OVER_SECONDS)

    async def wait_closed(self) -> None:
        """Wait until the transports of all closed connections have ended."""
        self._binding.check()
        ends = [entry.ended for entry in self._connections if entry.state == CLOSED]
        if ends:
            await asyncio.wait(ends)

    # From the connection: it is its ConnectionOwner

    async def load_token(self) -> str | None:
        """See `ConnectionOwner`."""
        return await self._auth.load()

    def connection_opened(self, status: HandshakeStatus) -> None:
        """See `ConnectionOwner`."""
        assert self.connection is not None
        assert self.connection.writer is not None
        self._machine.to(OPEN)
        self._handlers.token_changed()  # Values may have been made without a connection.
        self._messaging.connected(self.connection.writer)
        self._flow_control.connected(self.connection)
        self._start_batching(self.connection.writer)
        self._subscriptions.hold_back()
        self.id = status.id
        if status.ping_timeout is not None:
            self.ping_timeout = status.ping_timeout
        is_authenticated = status.is_authenticated and not self._auth.removed_since_load
        if is_authenticated:
            self._auth.authenticated(status.token)
        else:
            self._auth.unauthenticated()
        self.reconnector.attempts = 0
        if self._settings.options.auto_subscribe_on_connect:
            self._subscriptions.process_pending()
        event = ConnectEvent(
            self.id or "",
            self.ping_timeout,
            is_authenticated,
            status.auth_error,
            status.token,
            self._subscriptions.process_pending,
        )
        self._events.emit("connect", event)
        self._messaging.send_waiting()
        self._flow_control.update()

    def _start_batching(self, writer: ClientWriter) -> None:
        self._batching.connected(writer)
        options = self._settings.options
        if options.batch_on_handshake:
            self._batching.run_for(options.milliseconds("batch_on_handshake_duration"))

    def message_received(self, message: bytes, is_ping: bool) -> None:
        """See `ConnectionOwner`."""
        self._dispatcher.receive(message, is_ping)

    def connection_closed(
        self, code: int, reason: str | None, opened: bool, cause: BaseException | None
    ) -> None:
        """See `ConnectionOwner`."""
        reason = reason or SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
        self._machine.to(CLOSED)
        self._messaging.disconnected()
        self._flow_control.disconnected()
        self._handlers.connection_lost()
        self.id = None
        failure = "disconnect" if opened else "connectAbort"
        is_scheduled = self.reconnector.connection_closed(code)
        self._messaging.abort(failure, code, reason, keep_waiting=is_scheduled)
        self._batching.disconnected()
        self._subscriptions.suspend()
        if opened:
            self._events.emit("disconnect", DisconnectEvent(code, reason))
        else:
            self._events.emit("connectAbort", ConnectAbortEvent(code, reason))
        self._events.emit("close", CloseEvent(code, reason))
        if cause is not None:
            self._events.emit_error(cause)
        is_reported = isinstance(cause, SocketProtocolError)
        if code not in SOCKET_PROTOCOL_IGNORE_STATUSES and not is_reported:
            self._events.emit_error(close_error(code, reason))
        if self.is_over:
            self._handlers.closed()


class LifecycleMixin:
    """The state of a client and its connections."""

    __slots__ = ()

    _lifecycle: Lifecycle

    @property
    def state(self) -> SocketState:
        """'connecting', 'open' or 'closed'."""
        return self._lifecycle.state

    def get_state(self) -> SocketState:
        """Return `state`."""
        return self._lifecycle.state

    @property
    def id(self) -> str | None:
        """The server's id for the open connection; None without one."""
        return self._lifecycle.id

    @property
    def ping_timeout(self) -> float:
        """Milliseconds of silence after which the connection counts as lost."""
        return self._lifecycle.ping_timeout

    @property
    def pending_reconnect(self) -> bool:
        """Whether the next attempt to connect is scheduled."""
        return self._lifecycle.reconnector.delay is not None

    @property
    def pending_reconnect_timeout(self) -> int | None:
        """The whole delay of the scheduled attempt in milliseconds; None without one."""
        return self._lifecycle.reconnector.delay

    @property
    def connect_attempts(self) -> int:
        """How many attempts were scheduled since the last connection."""
        return self._lifecycle.reconnector.attempts

    def get_bytes_received(self) -> int:
        """Return the payload bytes received over the present connection."""
        connection = self._lifecycle.connection
        return 0 if connection is None else connection.get_bytes_received()

    def get_outbound_buffer_size(self) -> int:
        """Return the bytes that wait to be sent, in the client and in its transport."""
        connection = self._lifecycle.connection
        return 0 if connection is None else connection.get_buffer_size()

    def disconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection with a code and a reason, after queued packets; stop connecting.

        An unflushed batch is sent too; `wait_closed` waits for that. Packets that wait for a
        connection are given up with 'error' events, and unanswered calls raise BadConnectionError.
        After a code other than 1000 and below 4500 the client reconnects, if that is on.

        Raises:
            InvalidArgumentsError: the code is no close code.
        """
        self._lifecycle.disconnect(code, reason)
