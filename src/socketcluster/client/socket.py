"""AGClientSocket: the client of one server, which reconnects as needed.

The socket makes the parts and forwards to them: `Lifecycle` (connections and the state),
`ClientMessaging`, `ClientBatching`, `ClientAuth` and `Subscriptions`.
"""

from __future__ import annotations

import base64
import logging
import uuid
from dataclasses import fields
from types import TracebackType
from typing import Any, Final, Self, Unpack, cast

from socketcluster.client.authentication import ClientAuth, ClientAuthMixin
from socketcluster.client.channels import SubscriptionMixin
from socketcluster.client.decorators import HandlersMixin
from socketcluster.client.dispatch import Dispatcher
from socketcluster.client.flow_control import FlowControl
from socketcluster.client.handling import ClientHandling, ClientTables, client_sources
from socketcluster.client.history import ClientHistory, HistoryMixin
from socketcluster.client.lifecycle import Lifecycle, LifecycleMixin
from socketcluster.client.messaging import MessagingMixin
from socketcluster.client.option_types import ClientOptionsDict
from socketcluster.client.options import ClientOptions
from socketcluster.client.reporting import Events
from socketcluster.client.settings import Settings
from socketcluster.client.subscriptions import Subscriptions
from socketcluster.client.tracing import messaging_type
from socketcluster.engines.connect_errors import redacted
from socketcluster.handlers.tables import HandlerTables
from socketcluster.literals import AuthenticationState, SocketState
from socketcluster.protocol import state as states
from socketcluster.protocol.state import AUTH_TRANSITIONS, CLIENT_TRANSITIONS, StateMachine
from socketcluster.protocol.wire import Wire
from socketcluster.runtime.loop_binding import ThreadMixin, binding_of
from socketcluster.runtime.reporting import Reporter
from socketcluster.sockets.batching import Batching, BatchingMixin
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.streams import PeerStreams
from socketcluster.streams import StreamDemux


class AGClientSocket(
    LifecycleMixin,
    MessagingMixin,
    BatchingMixin,
    ClientAuthMixin,
    SubscriptionMixin,
    HistoryMixin,
    HandlersMixin,
    ThreadMixin,
):
    """A client of a SocketCluster server: `AGClientSocket(hostname="localhost", port=8000)`.

    It takes the options of `ClientOptions` as keywords. With `auto_connect` it must be made in a
    running event loop. It is used from one loop; other threads use `from_thread`. `async with
    socket:` connects, waits until the connection is open, and at the end sends the waiting
    packets and disconnects.

    Attributes:
        client_id: stays the same over connections.
        version: the application's version, from the options.
        auth: the token and its store.
        handlers: all that was declared with its decorators.

    Events: 'error', 'connecting', 'connect', 'connectAbort', 'disconnect', 'close', 'message',
    'raw', 'kickOut', 'recoverFail', 'subscribe', 'subscribeFail', 'subscribeRequest',
    'subscribeStateChange', 'unsubscribe', 'authStateChange', 'authenticate', 'deauthenticate',
    'removeAuthToken'.

    Raises:
        InvalidOptionsError: an unknown option or a wrong value; it names the option.
        InvalidActionError: `auto_connect` without a running event loop.

    Source: SocketCluster documentation, AGClientSocket.
    """

    version: Any
    wire: Wire

    CONNECTING: Final = states.CONNECTING
    OPEN: Final = states.OPEN
    CLOSED: Final = states.CLOSED
    AUTHENTICATED: Final = states.AUTHENTICATED
    UNAUTHENTICATED: Final = states.UNAUTHENTICATED
    PENDING: Final = states.PENDING
    SUBSCRIBED: Final = states.SUBSCRIBED
    UNSUBSCRIBED: Final = states.UNSUBSCRIBED

    def __init__(self, **options: Unpack[ClientOptionsDict]) -> None:
        binding = binding_of("AGClientSocket", "socket")
        super().__init__(binding)
        self._reporter = Reporter(logging.getLogger("socketcluster.client"))
        settings = self._settings = Settings(ClientOptions.of(**options))
        machine = StateMachine[SocketState](CLIENT_TRANSITIONS, states.CLOSED)
        auth_machine = StateMachine[AuthenticationState](AUTH_TRANSITIONS, states.UNAUTHENTICATED)
        self._channel_listeners = StreamDemux[Any](binding=binding)
        self.handlers: HandlerTables = ClientTables()
        events = self._events = Events(self, self._channel_listeners, self._reporter)
        calls = PendingCalls()
        flow_control = self._flow_control = FlowControl(
            settings.options, calls, events.emit_error, self._get_streams_backpressure
        )
        self.wire = settings.wire
        self.streams: PeerStreams = PeerStreams(flow_control, binding, self.handlers.procedures)
        sources = client_sources(self, AGClientSocket)
        handlers = self._handlers = ClientHandling(
            self.handlers, sources, self.streams, binding, machine, events
        )
        self._channel_outputs = self.streams.make_demux()
        make_messaging = messaging_type(settings.options.tracing)
        messaging = self._messaging = make_messaging(
            settings, binding, machine, calls, flow_control, events, self.connect
        )
        self.batching: Batching = Batching(binding, settings.options.milliseconds("batch_interval"))
        self._subscriptions = Subscriptions(
            settings, binding, machine, auth_machine, messaging, events
        )
        self._history = ClientHistory(settings, messaging, self._subscriptions)
        self.auth: ClientAuth = ClientAuth(
            settings,
            binding,
            auth_machine,
            machine,
            messaging,
            events,
            self._subscriptions.authenticated,
            handlers.token_changed,
        )
        self._lifecycle = self._make_lifecycle(machine)
        self.client_id: str = self.options.client_id or str(uuid.uuid4())
        self.version = self.options.version
        if self.options.auto_connect:
            self.connect()

    def _make_lifecycle(self, machine: StateMachine[SocketState]) -> Lifecycle:
        dispatcher = Dispatcher(
            self,
            self._settings,
            self.loop_binding,
            self._messaging,
            self.auth,
            self._subscriptions,
            self.streams,
            self._channel_outputs,
            self._handlers,
            self._flow_control,
            self._events,
        )
        return Lifecycle(
            self._settings,
            self.loop_binding,
            machine,
            self._messaging,
            self.batching,
            self.auth,
            self._subscriptions,
            self._handlers,
            self._flow_control,
            dispatcher,
            self._events,
        )

    def __repr__(self) -> str:
        id = "" if self.id is None else f" id={self.id!r}"
        return f"<AGClientSocket {redacted(self.uri())} {self.state}{id}>"

    # Figures

    @property
    def options(self) -> ClientOptions:
        """The options in use; `connect` may replace them."""
        return self._settings.options

    @property
    def auth_token_name(self) -> str:
        """The name under which the token store keeps the token."""
        return self.options.token_name()

    def uri(self) -> str:
        """Return the URL of a connection made now."""
        return self.options.uri()

    def get_backpressure(self) -> int:
        """Return the highest backpressure of its streams and handlers."""
        return max(
            self.get_all_listeners_backpressure(),
            self.get_all_receivers_backpressure(),
            self.get_all_procedures_backpressure(),
            self.get_all_channels_backpressure(),
            self._handlers.backpressure,
        )

    @staticmethod
    def encode_base64(text: str) -> str:
        """Encode a text's UTF-8 as Base64."""
        return base64.b64encode(text.encode()).decode()

    @staticmethod
    def decode_base64(encoded: str) -> str:
        """Decode a text from the Base64 of its UTF-8."""
        return base64.b64decode(encoded).decode()

    # Connecting

    def connect(self, **options: Unpack[ClientOptionsDict]) -> None:
        """Connect, unless it is connected or connecting. 'connect' or 'connectAbort' follows.

        Options replace those that the client was made with; it disconnects first.

        Raises:
            InvalidOptionsError: an unknown option or a wrong value.
            InvalidActionError: no event loop is running.
            UsageError: a handler cannot run; it names the place.
        """
        if options:
            present = {f.name: getattr(self.options, f.name) for f in fields(self.options)}
            merged: ClientOptionsDict = {**cast("ClientOptionsDict", present), **options}
            changed = ClientOptions.of(**merged)
            reason = "Socket was disconnected by the client to initiate a new connection"
            self.disconnect(1000, reason)
            self._settings.use(changed)
            self.wire = self._settings.wire
            self._lifecycle.configure()
            self._flow_control.configure(changed)
            self.batching.interval = changed.milliseconds("batch_interval")
            if "auth_engine" in options:
                self.auth.configure()
        self._handlers.resolve()
        self._lifecycle.connect()

    def reconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Disconnect and connect again."""
        self.disconnect(code, reason)
        self.connect()

    async def wait_closed(self) -> None:
        """Wait until the closed connections have ended, and the token store is written.

        The server has then received all that was sent, or did not read it within 30 seconds. The
        token store is waited for at most `ack_timeout`. Async handlers that still run have three
        seconds, then they are cancelled; after them providers clean up. A program that ends after
        `disconnect` should await this. Canceling is safe: it stops the waiting only.
        """
        await self._lifecycle.wait_closed()
        await self.auth.wait_stored(self.options.milliseconds("ack_timeout") / 1000)
        await self._handlers.wait_ended()

    async def __aenter__(self) -> Self:
        """Connect, and wait for the first attempt.

        Raises:
            BadConnectionError: the attempt failed; the cause is the error.
        """
        try:
            await self._lifecycle.connect_once()
        except BaseException:
            self.disconnect()
            await self.wait_closed()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send waiting packets, disconnect, and wait for the server's answer.

        Packets that wait for a connection are sent over the next one, if it opens within 5 seconds
        and the block does not end by cancellation. The server then has 30 seconds to read
        everything, and 3 to answer. Cancelling stops the waiting: the connection is closed then,
        and packets sent before are written while the loop runs.
        """
        try:
            if kind is None or issubclass(kind, Exception):
                await self._lifecycle.wait_sent()
        finally:
            self.disconnect()
        await self.wait_closed()

    def _invalid_data(self, error: Exception) -> None:
        self._events.emit_error(error)

    def _get_streams_backpressure(self) -> int:
        streams = self.streams
        demuxes = (streams.receiver_demux, streams.procedure_demux, self._channel_outputs)
        waiting = self._handlers.backpressure
        return max(waiting, *(demux.get_backpressure_all() for demux in demuxes))
