"""AGServerSocket: one client, as the server sees it.

The socket composes its parts, and forwards to them: `inbound` and `outbound` (messages in and out),
`messaging` (events, calls, answers), `auth`, `subscribed` (channels), `streams` (receivers and
procedures), `middleware`, `batching`, `setup` and `closing`. All share its `life`.
"""

from __future__ import annotations

from typing import Final

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.errors import InvalidArgumentsError
from socketcluster.events import ErrorEvent
from socketcluster.literals import SocketState
from socketcluster.middleware import MiddlewareLine
from socketcluster.protocol import state as states
from socketcluster.protocol.frames import may_be_sent
from socketcluster.pubsub.exchange import AGExchange
from socketcluster.server.context import SocketContext
from socketcluster.server.parts.authentication import AuthMixin, SocketAuth
from socketcluster.server.parts.closing import Closing
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.life import Life
from socketcluster.server.parts.messaging import Messaging, MessagingMixin
from socketcluster.server.parts.middleware import SocketMiddleware
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.rate_limits import SocketRates
from socketcluster.server.parts.setup import SetupBarrier
from socketcluster.server.parts.streams import StreamsMixin
from socketcluster.server.parts.subscription_methods import SubscriptionsMixin
from socketcluster.server.parts.subscriptions import Subscriptions
from socketcluster.server.socket_server import SocketServer
from socketcluster.sockets.batching import Batching, BatchingMixin
from socketcluster.sockets.handling import SocketHandling
from socketcluster.sockets.streams import PeerStreams


class AGServerSocket(
    MessagingMixin,
    SubscriptionsMixin,
    AuthMixin,
    BatchingMixin,
    StreamsMixin,
):
    """A connection of one client.

    Attributes:
        id: unique, 20 characters.
        server: the AGServer; `exchange` is its exchange.
        request: the HTTP request that opened it (url, path, headers, scope).
        protocol_version: 1 or 2.

    Events: 'error', 'message', 'raw', 'connect', 'connectAbort', 'disconnect', 'close', 'end',
    'subscribe', 'unsubscribe', 'authStateChange', 'authenticate', 'deauthenticate',
    'badAuthToken', 'authTokenSigned'.

    Source: SocketCluster documentation, AGServerSocket.
    """

    __slots__ = (
        "_reporter",
        "auth",
        "batching",
        "closing",
        "connection",
        "context",
        "handling",
        "id",
        "inbound",
        "life",
        "messaging",
        "middleware",
        "outbound",
        "protocol_version",
        "rates",
        "request",
        "server",
        "setup",
        "streams",
        "subscribed",
    )

    connection: Connection
    request: UpgradeRequest

    CONNECTING: Final = states.CONNECTING
    OPEN: Final = states.OPEN
    CLOSED: Final = states.CLOSED
    AUTHENTICATED: Final = states.AUTHENTICATED
    UNAUTHENTICATED: Final = states.UNAUTHENTICATED

    def __init__(
        self,
        id: str,
        server: SocketServer,
        context: SocketContext,
        connection: Connection,
        request: UpgradeRequest,
        handshake_line: MiddlewareLine | None = None,
    ) -> None:
        super().__init__(context.loop_binding)
        options, ticker = context.options, context.ticker
        self.id: str = id
        self.server: SocketServer = server
        self.context: SocketContext = context
        self.handling: SocketHandling | None = None
        self.connection = connection
        self.request = request
        self.protocol_version: int = options.protocol_version
        self._reporter = context.reporter
        self.life: Life = Life(ticker.now, ticker.time + context.ping_interval / 1000)
        self.closing: Closing = Closing(self, context, self._end)
        self.middleware: SocketMiddleware = SocketMiddleware(self, context, handshake_line)
        self.outbound: Outbound = Outbound(self, connection, context)
        self.batching: Batching = Batching(
            context.loop_binding, options.milliseconds("batch_interval"), self.outbound
        )
        self.messaging: Messaging = Messaging(self, self.life, self.outbound, context)
        self.auth: SocketAuth = SocketAuth(self, context.tokens, context.observer)
        self.inbound: Inbound = Inbound(self, connection, context)
        self.subscribed: Subscriptions = Subscriptions(self, context)
        self.streams: PeerStreams = PeerStreams(
            self.inbound.flow_control, context.loop_binding, context.handling.tables.procedures
        )
        self.setup: SetupBarrier = SetupBarrier(self.streams, context)
        limits = context.rate_limits
        self.rates: SocketRates | None = None
        if limits.size:
            self.rates = SocketRates(self, limits, options.protocol_version)

    @property
    def state(self) -> SocketState:
        """'connecting', 'open' or 'closed'."""
        return self.life.state

    def get_state(self) -> SocketState:
        """`state`."""
        return self.life.state

    @property
    def exchange(self) -> AGExchange:
        """The server's exchange."""
        return self.context.exchange

    def disconnect(self, code: int | None = 1000, reason: str | None = None) -> None:
        """Close with a code and a reason, after the messages sent so far.

        None closes without a code: the events have 1005, and only they have the reason. Stock
        clients then connect again at once; after 1000 they stay away. A closed socket ignores it.

        Raises:
            InvalidArgumentsError: the code is not one that an endpoint may send.
        """
        self.loop_binding.check()
        if code is None:
            code = states.CLOSE_NO_STATUS
        elif type(code) is not int or not may_be_sent(code):
            raise InvalidArgumentsError(
                "The close code must be 1000 to 1014 or 3000 to 4999, or None for a close without "
                f"a code, not {code!r}"
            )
        self.closing.leave(code, reason, reason or "")

    def terminate(self) -> None:
        """Drop the connection without a close frame: code 1006."""
        self.loop_binding.check()
        self.connection.abort()
        self.closing.end(states.CLOSE_HUNG_UP, None)

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error' here and 'warning' on the server."""
        self.emit("error", ErrorEvent(error))
        self.context.emit_warning_about(error, socket=self)

    def _invalid_data(self, error: Exception) -> None:
        self.emit_error(error)
        self.inbound.rejections.count_malformed()

    def _end(self) -> None:
        cleanup_mode = self.context.options.socket_stream_cleanup_mode
        self.context.handling.socket_left(self, cleanup_mode == "kill")
        self._end_streams(cleanup_mode)

    def __repr__(self) -> str:
        return f"<AGServerSocket {self.id} {self.state} from {self.client_address}>"
