"""AGServerSocket: one client, as the server sees it.

A thin face over narrow parts: `inbound` (what comes in), `outbound` (what goes out), `auth`,
`subscribed` (channels) and `calls` (invokes awaiting answers).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from socketcluster.engines.base import Connection, UpgradeRequest
from socketcluster.errors import InvalidArgumentsError
from socketcluster.events import ErrorEvent
from socketcluster.middleware import MiddlewareLine
from socketcluster.protocol import state as states
from socketcluster.protocol.frames import may_be_sent
from socketcluster.server.packets.handshake import finish
from socketcluster.server.parts.authentication import AuthMixin, SocketAuth
from socketcluster.server.parts.inbound import Inbound
from socketcluster.server.parts.last_words import LastWords
from socketcluster.server.parts.leaving import end, give_up, leave
from socketcluster.server.parts.messaging import MessagingMixin
from socketcluster.server.parts.middleware import DecidingMixin
from socketcluster.server.parts.outbound import Outbound
from socketcluster.server.parts.statistics import StatisticsMixin
from socketcluster.server.parts.streams import SocketListeners, StreamMixin
from socketcluster.server.parts.subscriptions import SubscriptionMixin, Subscriptions
from socketcluster.sockets.batching import Batching, BatchingMixin
from socketcluster.sockets.calls import PendingCalls
from socketcluster.sockets.streams import PeerStreams

if TYPE_CHECKING:
    from socketcluster.pubsub.exchange import AGExchange
    from socketcluster.server.server import AGServer

_GRACE_SECONDS = 0.1


class AGServerSocket(
    DecidingMixin,
    MessagingMixin,
    SubscriptionMixin,
    AuthMixin,
    BatchingMixin,
    StreamMixin,
    StatisticsMixin,
    SocketListeners,
):
    """A connection of one client.

    Attributes:
        id: unique, 20 characters.
        server: the AGServer; `exchange` is its exchange.
        state: 'connecting', 'open' or 'closed'.
        request: the HTTP request that opened it (url, path, headers, scope).
        protocol_version: 1 or 2.

    Events: 'error', 'message', 'raw', 'connect', 'connectAbort', 'disconnect', 'close', 'end',
    'subscribe', 'unsubscribe', 'authStateChange', 'authenticate', 'deauthenticate',
    'badAuthToken', 'authTokenSigned'.

    Source: SocketCluster documentation, AGServerSocket.
    """

    __slots__ = (
        "_lines",
        "_settling",
        "auth",
        "batching",
        "calls",
        "connection",
        "handshake_line",
        "id",
        "inbound",
        "introduction",
        "last_words",
        "next_ping",
        "opened_at",
        "outbound",
        "protocol_version",
        "request",
        "server",
        "state",
        "streams",
        "subscribed",
        "unanswered",
        "was_opened",
    )

    CONNECTING = states.CONNECTING
    OPEN = states.OPEN
    CLOSED = states.CLOSED
    AUTHENTICATED = states.AUTHENTICATED
    UNAUTHENTICATED = states.UNAUTHENTICATED

    def __init__(
        self,
        id: str,
        server: AGServer,
        connection: Connection,
        request: UpgradeRequest,
        handshake_line: MiddlewareLine | None = None,
    ) -> None:
        super().__init__(server.loop_binding)
        self.id = id
        self.server = server
        self.connection = connection
        self.request = request
        self.handshake_line = handshake_line
        self.state: str = states.CONNECTING
        self.was_opened = False
        self.protocol_version: int = server.options.protocol_version
        self.auth = SocketAuth(self)
        self.subscribed = Subscriptions(self)
        self.calls: PendingCalls | None = None
        # The calls by their number, with the procedure's name: a call is held by its handler only.
        self.unanswered: dict[int | float, str] = {}
        self.opened_at = server.ticker.now
        self.next_ping = server.ticker.time
        self.inbound = Inbound(self)
        self.outbound = Outbound(
            connection,
            server.wire,
            server.options.max_outbound_buffer,
            self._overflowed,
            partial(give_up, self),
            server.flusher,
            server.exchange.fan_out,
            server.middleware,
            self._decide_publish,
        )
        self.streams = PeerStreams(self.inbound.reading, self.loop_binding)
        self.streams.on_use = self._listened
        self.batching = Batching(
            server.loop_binding, server.options.milliseconds("batch_interval"), self.outbound
        )
        self._lines: dict[str, MiddlewareLine] | None = None
        self._settling: asyncio.Future[bool] | None = None
        self.introduction: asyncio.Future[None] | None = None
        self.last_words: LastWords | None = None

    # Leaving

    def disconnect(self, code: int = 1000, reason: str | None = None) -> None:
        """Close with a code and a reason, after what was sent. A closed socket ignores it.

        Raises:
            InvalidArgumentsError: the code is none that may be sent.
        """
        self.loop_binding.check()
        if type(code) is not int or not may_be_sent(code):
            raise InvalidArgumentsError(
                f"The close code must be 1000 to 1014 or 3000 to 4999, not {code!r}"
            )
        leave(self, code, reason, reason or "")

    def terminate(self) -> None:
        """Drop the connection without a close frame: code 1006."""
        self.loop_binding.check()
        self.connection.abort()
        end(self, 1006, None)

    def _overflowed(self) -> None:
        if self.state != states.CLOSED:
            limit = self.server.options.max_outbound_buffer
            end(self, 1008, f"More than {limit} bytes wait to be sent (max_outbound_buffer)")
            self.connection.abort()

    @property
    def exchange(self) -> AGExchange:
        """The server's exchange."""
        return self.server.exchange

    # For the parts

    @property
    def ended(self) -> bool:
        """Whether it is closed, and nothing that was received is still carried out."""
        return self.state == states.CLOSED and self.last_words is None

    @property
    def busy(self) -> bool:
        """Whether a call is open, either way, or a message is still to be carried out."""
        if self.inbound.busy:
            return True
        return self.state != states.CLOSED and (self.open_requests > 0 or bool(self.calls))

    def has_listener(self, name: str) -> bool:
        """Whether anybody listens to an event."""
        return self.get_listener_consumer_count(name) > 0

    def emit_error(self, error: BaseException) -> None:
        """Emit 'error' here and 'warning' on the server."""
        self.emit("error", ErrorEvent(error))
        self.server.emit_warning(error)

    def ping(self) -> None:
        """Send the protocol's ping; it is counted nowhere."""
        self.outbound.append(self.server.ping_frame)

    async def introduced(self) -> None:
        """Wait until everybody has handled the server's 'handshake' event of this socket."""
        if self.introduction is not None:
            await self.introduction
            self.introduction = None

    def settle(self, handled: asyncio.Future[bool] | None) -> None:
        """Inbound waits for `handled`; a moment after a handler has begun to listen it is done."""
        self._settling = handled

    def _listened(self) -> None:
        if self._settling is not None:
            handled, self._settling = self._settling, None
            if not handled.done():
                handled.get_loop().call_later(_GRACE_SECONDS, finish, handled, True)
