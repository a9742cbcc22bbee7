"""The connections of a client: made, opened, lost, made again.

Source: npm socketcluster-client, AGClientSocket.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socketcluster.client.connection import Link, Opened
from socketcluster.client.dispatch import receive, show_message
from socketcluster.client.options import ClientOptions
from socketcluster.client.reconnect import ReconnectOptions, Reconnector
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
from socketcluster.protocol.state import CLOSED, CONNECTING, OPEN, close_error
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.calls import PendingCalls

if TYPE_CHECKING:
    from socketcluster.client.socket import AGClientSocket

HAND_OVER_SECONDS = 5.0
"""How long the end of a block waits for a connection over which to send what waits for one."""


class Lifecycle:
    """Connects and disconnects one client; it is the `LinkOwner` of its connections.

    Attributes:
        link: the present connection, or the last one.
        reconnector: when it is tried again.
    """

    __slots__ = ("_connector", "_links", "_socket", "link", "reconnector")

    def __init__(self, socket: AGClientSocket) -> None:
        self._socket = socket
        self._links: set[Link] = set()
        self.link: Link | None = None
        self.reconnector: Reconnector
        self._connector: Connector
        self.configure(socket.options)

    def configure(self, options: ClientOptions) -> None:
        """Go by these options from now on."""
        again = options.auto_reconnect_options if options.auto_reconnect else None
        assert again is None or isinstance(again, ReconnectOptions)
        self.reconnector = Reconnector(again, self.connect)
        self._connector = options.connector or PicowsConnector()

    def connect(self) -> None:
        """Connect, unless it is connected or about to be."""
        socket = self._socket
        socket.loop_binding.check()
        try:
            socket.loop_binding.bind()
        except RuntimeError:
            raise InvalidActionError(
                "A client connects in a running event loop: make it in an async function, or "
                "with auto_connect=False"
            ) from None
        if socket.state == CLOSED:
            self.reconnector.cancel()
            socket.state = CONNECTING
            socket.emit("connecting", ConnectingEvent())
            link = self.link = Link(self, self._connector)
            self._links.add(link)
            link.gone.add_done_callback(lambda _: self._links.discard(link))

    def disconnect(self, code: int, reason: str | None) -> None:
        """Close the connection, or give up the attempt that is scheduled."""
        self._socket.loop_binding.check()
        if type(code) is not int or not 1000 <= code <= 4999:
            raise InvalidArgumentsError(
                f"If specified, the code argument must be a number from 1000 to 4999, not {code!r}"
            )
        self.reconnector.cancel()
        if self.link is not None and self._socket.state != CLOSED:
            self.link.close(code, reason)
        else:
            self._give_up("connectAbort", code, reason)

    async def enter(self) -> None:
        """Connect, and wait for the first attempt.

        Raises:
            BadConnectionError: it failed; its cause is the error.
        """
        socket = self._socket
        errors = socket.listener("error").create_consumer()
        closed = socket.listener("close").create_consumer()
        self.connect()
        try:
            if socket.state == CONNECTING and self.link is not None:
                await asyncio.wait([self.link.opening])
            if socket.state == OPEN:
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
        """Wait until what waits for a connection was sent, if it can be: over the connection that
        is being made, or over one more attempt, for a few seconds at most."""
        if not self._socket.outbox:
            return
        self.connect()
        assert self.link is not None
        await asyncio.wait([self.link.opening], timeout=HAND_OVER_SECONDS)

    async def wait_closed(self) -> None:
        """Wait until nothing is left of connections that were closed."""
        self._socket.loop_binding.check()
        closing = [link.gone for link in self._links if link.state == CLOSED]
        if closing:
            await asyncio.wait(closing)

    # LinkOwner

    @property
    def options(self) -> ClientOptions:
        """See `LinkOwner`."""
        return self._socket.options

    @property
    def wire(self) -> Wire:
        """See `LinkOwner`."""
        return self._socket.wire

    @property
    def calls(self) -> PendingCalls:
        """See `LinkOwner`."""
        return self._socket.calls

    async def load_token(self) -> str | None:
        """See `LinkOwner`."""
        return await self._socket.auth.load()

    def link_opened(self, opened: Opened) -> None:
        """See `LinkOwner`."""
        socket = self._socket
        socket.state = OPEN
        self._open_batching()
        socket.subscribed.hold_back()
        socket.id = opened.id
        if opened.ping_timeout is not None:
            socket.ping_timeout = opened.ping_timeout
        is_authenticated = opened.is_authenticated and not socket.auth.given_up
        if is_authenticated:
            socket.auth.authenticated(opened.token)
        else:
            socket.auth.unauthenticated()
        self.reconnector.attempts = 0
        if socket.options.auto_subscribe_on_connect:
            socket.subscribed.process_pending()
        event = ConnectEvent(
            socket.id or "",
            socket.ping_timeout,
            is_authenticated,
            opened.auth_error,
            opened.token,
            socket.subscribed.process_pending,
        )
        socket.emit("connect", event)
        socket.send_waiting()
        socket.reading.update()

    def _open_batching(self) -> None:
        assert self.link is not None
        assert self.link.writer is not None
        socket = self._socket
        socket.batching.connected(self.link.writer)
        if socket.options.batch_on_handshake:
            duration = socket.options.milliseconds("batch_on_handshake_duration")
            socket.batching.run_for(duration)

    def link_received(self, message: bytes, is_ping: bool) -> None:
        """See `LinkOwner`."""
        show_message(self._socket, message)
        if not is_ping:
            receive(self._socket, message)

    def link_closed(
        self, code: int, reason: str | None, opened: bool, cause: BaseException | None
    ) -> None:
        """See `LinkOwner`."""
        socket = self._socket
        reason = reason or SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
        socket.state = CLOSED
        socket.id = None
        failure = "disconnect" if opened else "connectAbort"
        if self.reconnector.connection_closed(code):
            # What was not sent yet can still be.
            socket.calls.abort(failure, code, reason, socket.outbox)
        else:
            self._give_up(failure, code, reason)
        socket.batching.disconnected()
        socket.subscribed.suspend()
        if opened:
            socket.emit("disconnect", DisconnectEvent(code, reason))
        else:
            socket.emit("connectAbort", ConnectAbortEvent(code, reason))
        socket.emit("close", CloseEvent(code, reason))
        if cause is not None:
            socket.emit_error(cause)
        told = isinstance(cause, SocketProtocolError)
        if code not in SOCKET_PROTOCOL_IGNORE_STATUSES and not told:
            socket.emit_error(close_error(code, reason))

    def _give_up(self, failure: str, code: int, reason: str | None) -> None:
        self._socket.calls.abort(failure, code, reason)
