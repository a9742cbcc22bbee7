"""AGClientSocket: the client of one server, over as many connections as it takes.

A thin face over narrow parts: `link` (the present connection), `auth`, `subscribed` (channels),
`calls` (invokes awaiting answers) and `outbox` (what waits for a connection).
"""

from __future__ import annotations

import base64
import logging
import uuid
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

from socketcluster.client.authentication import ClientAuth, ClientAuthMixin
from socketcluster.client.connection import Link
from socketcluster.client.flow_control import Reading
from socketcluster.client.lifecycle import Lifecycle
from socketcluster.client.listeners import ClientListeners
from socketcluster.client.messaging import ClientMessagingMixin
from socketcluster.client.options import ClientOptions
from socketcluster.client.outbox import Outbox
from socketcluster.client.subscriptions import SubscriptionMixin, Subscriptions
from socketcluster.client.token_store import MemoryTokenStore
from socketcluster.codecs.json import JSONCodec
from socketcluster.events import ErrorEvent
from socketcluster.protocol import state as states
from socketcluster.protocol.wire import Wire, largest_uncounted
from socketcluster.runtime.loop_binding import ThreadMixin, binding_of
from socketcluster.runtime.reporting import Reporter, one_line
from socketcluster.sockets.batching import Batching, BatchingMixin
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.streams import PeerStreams, ProcedureMixin, ReceiverMixin
from socketcluster.streams import StreamDemux


class AGClientSocket(
    ClientMessagingMixin,
    BatchingMixin,
    ClientAuthMixin,
    SubscriptionMixin,
    ReceiverMixin,
    ProcedureMixin,
    ThreadMixin,
    ClientListeners,
):
    """A client of a SocketCluster server: `AGClientSocket(hostname="localhost", port=8000)`.

    Give it the options of `ClientOptions` as keywords. With `auto_connect` it must be made in a
    running event loop. It is used from one loop; other threads use `from_thread`. `async with
    socket:` connects, waits until the connection is open, and at the end hands over what was sent
    and disconnects.

    Attributes:
        options: the ClientOptions.
        client_id: stays the same over connections.
        id: the server's id of the present connection; None without one.
        state: 'connecting', 'open' or 'closed'.
        ping_timeout: milliseconds without a ping after which the connection is taken for lost.

    Events: 'error', 'connecting', 'connect', 'connectAbort', 'disconnect', 'close', 'message',
    'raw', 'kickOut', 'subscribe', 'subscribeFail', 'subscribeRequest', 'subscribeStateChange',
    'unsubscribe', 'authStateChange', 'authenticate', 'deauthenticate', 'removeAuthToken'.

    Raises:
        InvalidOptionsError: an unknown option or a wrong value; it names the option.
        InvalidActionError: `auto_connect` without a running event loop.

    Source: SocketCluster documentation, AGClientSocket.
    """

    CONNECTING = states.CONNECTING
    OPEN = states.OPEN
    CLOSED = states.CLOSED
    AUTHENTICATED = states.AUTHENTICATED
    UNAUTHENTICATED = states.UNAUTHENTICATED
    PENDING = states.PENDING
    SUBSCRIBED = states.SUBSCRIBED
    UNSUBSCRIBED = states.UNSUBSCRIBED

    def __init__(self, **options: Any) -> None:
        super().__init__(binding_of("AGClientSocket", "socket"))
        self.reporter = Reporter(logging.getLogger("socketcluster.client"))
        self._configure(ClientOptions.of(**options))
        self.client_id = self.options.client_id or str(uuid.uuid4())
        self.version = self.options.version
        self.id: str | None = None
        self.state: str = states.CLOSED
        self.ping_timeout = self.options.milliseconds("connect_timeout")
        self.calls = PendingCalls()
        self.auth = ClientAuth(self, self.options.auth_engine)
        self.subscribed = Subscriptions(self)
        self.reading = Reading(self, self.options)
        self.streams = PeerStreams(self.reading, self.loop_binding)
        self._channel_outputs = StreamDemux[Any](self.reading.gauge, self.loop_binding)
        self._channel_listeners = StreamDemux[Any](binding=self.loop_binding)
        self.lifecycle = Lifecycle(self)
        self.batching = Batching(self.loop_binding, self.options.milliseconds("batch_interval"))
        if self.options.auto_connect:
            self.connect()

    def _configure(self, options: ClientOptions) -> None:
        self.options = options
        uncounted = largest_uncounted(
            options.max_inbound_backlog, options.max_inbound_backlog_bytes
        )
        self.wire = Wire(options.codec_engine or JSONCodec(), unparsed_above=uncounted)
        self.outbox = Outbox(self.wire, options.max_outbound_buffer)

    # Figures

    @property
    def auth_token_name(self) -> str:
        """What the token store keeps the token under."""
        return self.options.token_name()

    @property
    def pending_reconnect(self) -> bool:
        """Whether the next attempt to connect is scheduled."""
        return self.lifecycle.reconnector.delay is not None

    @property
    def pending_reconnect_timeout(self) -> int | None:
        """Milliseconds that the scheduled attempt waits in all; None when none is scheduled."""
        return self.lifecycle.reconnector.delay

    @property
    def connect_attempts(self) -> int:
        """How many attempts were scheduled since the last connection."""
        return self.lifecycle.reconnector.attempts

    def get_state(self) -> str:
        """`state`."""
        return self.state

    def uri(self) -> str:
        """The URL that a connection made now opens."""
        return self.options.uri()

    def get_backpressure(self) -> int:
        """The highest backpressure of its listeners, receivers, procedures and channels."""
        return max(
            self.get_all_listeners_backpressure(),
            self.get_all_receivers_backpressure(),
            self.get_all_procedures_backpressure(),
            self.get_all_channels_backpressure(),
        )

    @staticmethod
    def encode_base64(text: str) -> str:
        """Base64 of a text's UTF-8."""
        return base64.b64encode(text.encode()).decode()

    @staticmethod
    def decode_base64(encoded: str) -> str:
        """The reverse."""
        return base64.b64decode(encoded).decode()

    # Connecting

    @property
    def link(self) -> Link | None:
        """The present connection, or the last one."""
        return self.lifecycle.link

    def connect(self, **options: Any) -> None:
        """Connect, unless it is connected or about to be. 'connect' or 'connectAbort' follows.

        With options, which replace those it was made with, it disconnects first.

        Raises:
            InvalidOptionsError: an unknown option or a wrong value.
            InvalidActionError: no event loop is running.
        """
        if options:
            known = {f.name: getattr(self.options, f.name) for f in fields(self.options)}
            changed = ClientOptions.of(**{**known, **options})
            reason = "Socket was disconnected by the client to initiate a new connection"
            self.disconnect(1000, reason)
            self._configure(changed)
            self.lifecycle.configure(changed)
            self.reading.configure(changed)
            self.batching.interval = changed.milliseconds("batch_interval")
            if "auth_engine" in options:
                self.auth.store = changed.auth_engine or MemoryTokenStore()
        self.lifecycle.connect()

    def disconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection with a code and a reason, after what was sent; give up connecting.

        An unflushed batch goes out too; `wait_closed` waits for that. What waits for a connection
        is given up, with 'error' events, and calls not answered raise BadConnectionError. Codes
        other than 1000 below 4500 are followed by a reconnection, if that is on.

        Raises:
            InvalidArgumentsError: the code is no close code.
        """
        self.lifecycle.disconnect(code, reason)

    def reconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Disconnect and connect again."""
        self.disconnect(code, reason)
        self.connect()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of connections that were closed: the server has all that was
        sent, or did not read it within 30 seconds. The token store is waited for too, for at most
        `ack_timeout`. A program that ends after `disconnect` should await this. Cancelling stops
        the waiting only."""
        await self.lifecycle.wait_closed()
        await self.auth.settled(self.options.milliseconds("ack_timeout") / 1000)

    async def __aenter__(self) -> Self:
        """Connect, and wait for the first attempt.

        Raises:
            BadConnectionError: it failed; its cause is the error.
        """
        try:
            await self.lifecycle.enter()
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
        """Hand over what was sent in the block, disconnect, and wait for the server's answer.

        What waits for a connection is sent over the next one, if that is open within 5 seconds and
        the block is not left by cancellation. The server has 30 seconds to read what was sent, and
        3 to answer then. Cancelling stops the waiting: the connection is closed then, and what was
        sent goes out while the loop runs.
        """
        try:
            if kind is None or issubclass(kind, Exception):
                await self.lifecycle.wait_sent()
        finally:
            self.disconnect()
        await self.wait_closed()

    # For the parts

    def get_streams_backpressure(self) -> int:
        """The highest backpressure of what the server fills: receivers, procedures, channels."""
        filled = (
            self.streams.receiver_demux,
            self.streams.procedure_demux,
            self._channel_outputs,
        )
        return max(demux.get_backpressure_all() for demux in filled)

    def has_channel_consumer(self, channel: str) -> bool:
        """Whether anybody consumes a channel."""
        return self._channel_outputs.get_consumer_count(channel) > 0

    def emit_channel(self, channel: str, name: str, event: Any) -> None:
        """Emit an event on a channel and on the socket."""
        self._channel_listeners.write(f"{channel}/{name}", event)
        self.emit(name, event)

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error'; without a listener it is logged, in one line."""
        if self.get_listener_consumer_count("error") == 0:
            self.reporter.line(one_line(error), logging.WARNING, type(error).__qualname__)
        self.emit("error", ErrorEvent(error))
