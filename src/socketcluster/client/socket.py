"""AGClientSocket: the client of one server, over as many connections as it takes.

A thin face over narrow parts: `link` (the present connection), `auth`, `subscribed` (channels),
`calls` (invokes awaiting answers) and `outbox` (what waits for a connection).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from types import TracebackType
from typing import Any, Self

from socketcluster.batching import Batching
from socketcluster.calling import PendingCalls
from socketcluster.client.authentication import ClientAuth, ClientAuthMethods
from socketcluster.client.dispatch import receive, show_message
from socketcluster.client.link import Link
from socketcluster.client.listening import ClientListeners
from socketcluster.client.messaging import ClientBatchMethods, ClientMessagingMethods
from socketcluster.client.options import ClientOptions
from socketcluster.client.outbox import Outbox
from socketcluster.client.reconnect import ReconnectOptions, Reconnector
from socketcluster.client.subscriptions import SubscriptionMethods, Subscriptions
from socketcluster.client.transport import Connector, PicowsConnector
from socketcluster.codecs.json import JSONCodec
from socketcluster.errors import (
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    BadConnectionError,
    InvalidActionError,
    InvalidArgumentsError,
    SocketProtocolError,
    hydrate_error,
)
from socketcluster.events import (
    CloseEvent,
    ConnectAbortEvent,
    ConnectEvent,
    ConnectingEvent,
    DisconnectEvent,
    ErrorEvent,
)
from socketcluster.protocol import state as states
from socketcluster.protocol.wire import Wire
from socketcluster.streams import Gauge, ProcedureMethods, ReceiverMethods, StreamDemux

logger = logging.getLogger("socketcluster.client")


class AGClientSocket(
    ClientMessagingMethods,
    ClientBatchMethods,
    ClientAuthMethods,
    SubscriptionMethods,
    ReceiverMethods,
    ProcedureMethods,
    ClientListeners,
):
    """A client of a SocketCluster server: `AGClientSocket(hostname="localhost", port=8000)`.

    Give it the options of `ClientOptions` as keywords. With `auto_connect` it must be made in a
    running event loop. It is used from one loop. `async with socket:` connects, waits until the
    connection is open, and disconnects at the end.

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
        super().__init__()
        self._configure(ClientOptions.of(**options))
        self.client_id = self.options.client_id or str(uuid.uuid4())
        self.version = self.options.version
        self.id: str | None = None
        self.state: str = states.CLOSED
        self.ping_timeout = self.options.milliseconds("connect_timeout")
        self.link: Link | None = None
        self.calls = PendingCalls()
        self.auth = ClientAuth(self, self.options.auth_engine)
        self.subscribed = Subscriptions(self)
        gauge = Gauge(self.options.max_inbound_backlog, self._backlog_changed)
        self.receivers = StreamDemux[Any](gauge)
        self.procedures = StreamDemux[Any](gauge)
        self._channel_outputs = StreamDemux[Any](gauge)
        self._channel_listeners = StreamDemux[Any]()
        self._links: set[Link] = set()
        self._backlogged = False
        self.is_batching = False
        self._batching: Batching | None = None
        self._batch_timer: asyncio.TimerHandle | None = None
        if self.options.auto_connect:
            self.connect()

    def _configure(self, options: ClientOptions) -> None:
        self.options = options
        self.wire = Wire(options.codec_engine or JSONCodec())
        self.outbox = Outbox(self.wire, options.max_outbound_buffer)
        again = options.auto_reconnect_options if options.auto_reconnect else None
        assert again is None or isinstance(again, ReconnectOptions)
        self._reconnector = Reconnector(again, self.connect)
        self._connector: Connector = options.connector or PicowsConnector()

    # Figures

    @property
    def auth_token_name(self) -> str:
        """What the token store keeps the token under."""
        return self.options.token_name()

    @property
    def pending_reconnect(self) -> bool:
        """Whether the next attempt to connect is scheduled."""
        return self._reconnector.delay is not None

    @property
    def pending_reconnect_timeout(self) -> int | None:
        """Milliseconds that the scheduled attempt waits in all; None when none is scheduled."""
        return self._reconnector.delay

    @property
    def connect_attempts(self) -> int:
        """How many attempts were scheduled since the last connection."""
        return self._reconnector.attempts

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

    def connect(self, **options: Any) -> None:
        """Connect, unless it is connected or about to be. 'connect' or 'connectAbort' follows.

        With options, which replace those it was made with, it disconnects first.

        Raises:
            InvalidOptionsError: an unknown option or a wrong value.
            InvalidActionError: no event loop is running.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidActionError(
                "A client connects in a running event loop: make it in an async function, or "
                "with auto_connect=False"
            ) from None
        if options:
            changed = ClientOptions.of(**{**_as_given(self.options), **options})
            self.disconnect(
                1000, "Socket was disconnected by the client to initiate a new connection"
            )
            self._configure(changed)
        if self.state == states.CLOSED:
            self._reconnector.cancel()
            self.state = states.CONNECTING
            self.emit("connecting", ConnectingEvent())
            link = self.link = Link(self, self._connector)
            self._links.add(link)
            link.gone.add_done_callback(lambda _: self._links.discard(link))

    def reconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Disconnect and connect again."""
        self.disconnect(code, reason)
        self.connect()

    def disconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection with a code and a reason, after what was sent; give up connecting.

        Codes other than 1000 below 4500 are followed by a reconnection, if that is on.

        Raises:
            InvalidArgumentsError: the code is no close code.
        """
        if type(code) is not int or not 1000 <= code <= 4999:
            raise InvalidArgumentsError(
                f"If specified, the code argument must be a number from 1000 to 4999, not {code!r}"
            )
        self._reconnector.cancel()
        if self.link is not None and self.state != states.CLOSED:
            self.link.close(code, reason)
        elif self.outbox:
            self._give_up("connectAbort", code, reason)

    async def wait_closed(self) -> None:
        """Wait until nothing is left of connections that were closed. Cancelling stops the
        waiting only."""
        closing = [link.gone for link in self._links if link.state == states.CLOSED]
        if closing:
            await asyncio.wait(closing)

    async def __aenter__(self) -> Self:
        """Connect, and wait for the first attempt.

        Raises:
            BadConnectionError: it failed; its cause is the error.
        """
        errors = self.listener("error").create_consumer()
        closed = self.listener("close").create_consumer()
        connected = self.listener("connect").create_consumer()
        self.connect()
        waiting = [asyncio.ensure_future(c.next()) for c in (connected, closed)]
        try:
            if self.state == states.CONNECTING:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self.state == states.OPEN:
                return self
            cause = (await errors.next()).value if errors.get_backpressure() else None
            raise BadConnectionError("The connection could not be made", "connectAbort") from (
                None if cause is None else cause.error
            )
        except BaseException:
            await self._leave()
            raise
        finally:
            for task in waiting:
                task.cancel()
            errors.return_()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self.disconnect()
        await self.wait_closed()

    # For the link

    async def load_token(self) -> str | None:
        """See `LinkOwner`."""
        return await self.auth.load()

    def link_opened(self, status: dict[str, Any], token: str | None) -> None:
        """See `LinkOwner`."""
        self.state = states.OPEN
        self.batch_after_handshake()
        self.subscribed.hold_back()
        self.id = status.get("id")
        timeout = status.get("pingTimeout")
        if isinstance(timeout, int | float):
            self.ping_timeout = timeout
        is_authenticated = status.get("isAuthenticated") is True
        if is_authenticated:
            self.auth.authenticated(token)
        else:
            self.auth.unauthenticated()
        self._reconnector.attempts = 0
        if self.options.auto_subscribe_on_connect:
            self.subscribed.process_pending()
        error = status.get("authError")
        event = ConnectEvent(
            self.id or "",
            self.ping_timeout,
            is_authenticated,
            None if error is None else hydrate_error(error),
            token,
            self.subscribed.process_pending,
        )
        self.emit("connect", event)
        if self.state == states.OPEN:
            self.send_waiting()
        if self._backlogged:
            self._backlog_changed(True)

    def link_received(self, message: bytes, is_ping: bool) -> None:
        """See `LinkOwner`."""
        show_message(self, message)
        if not is_ping:
            receive(self, message)

    def link_closed(
        self, code: int, reason: str | None, opened: bool, cause: BaseException | None
    ) -> None:
        """See `LinkOwner`."""
        reason = reason or SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
        self.state = states.CLOSED
        self.id = None
        failure = "disconnect" if opened else "connectAbort"
        again = self._reconnector.connection_closed(code)
        if again:
            self.calls.abort(failure, code, reason, self.outbox.calls())
        else:
            self._give_up(failure, code, reason)
        self.pause_batching()
        self.subscribed.suspend()
        if opened:
            self.emit("disconnect", DisconnectEvent(code, reason))
        else:
            self.emit("connectAbort", ConnectAbortEvent(code, reason))
        self.emit("close", CloseEvent(code, reason))
        if cause is not None:
            self.emit_error(cause)
        if code not in SOCKET_PROTOCOL_IGNORE_STATUSES and not isinstance(
            cause, SocketProtocolError
        ):
            self.emit_error(states.close_error(code, reason))

    def _give_up(self, failure: str, code: int, reason: str | None) -> None:
        self.calls.abort(failure, code, reason)
        self.give_up_waiting(failure, code, reason)

    # For the parts

    @property
    def _receiver_demux(self) -> StreamDemux[Any]:
        return self.receivers

    @property
    def _procedure_demux(self) -> StreamDemux[Any]:
        return self.procedures

    def has_channel_consumer(self, channel: str) -> bool:
        """Whether anybody consumes a channel."""
        return self._channel_outputs.get_consumer_count(channel) > 0

    def write_channel(self, channel: str, data: Any) -> None:
        """Give a publish to whoever consumes its channel."""
        self._channel_outputs.write(channel, data)

    def emit_channel(self, channel: str, name: str, event: Any) -> None:
        """Emit an event on a channel and on the socket."""
        self._channel_listeners.write(f"{channel}/{name}", event)
        self.emit(name, event)

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error'; without a listener it is logged, in one line."""
        if self.get_listener_consumer_count("error") == 0:
            logger.warning("%s: %s", type(error).__name__, error)
        self.emit("error", ErrorEvent(error))

    def _backlog_changed(self, full: bool) -> None:
        self._backlogged = full
        if self.link is not None:
            if full:
                self.link.pause_reading()
            else:
                self.link.resume_reading()


def _as_given(options: ClientOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ClientOptions.__dataclass_fields__}
