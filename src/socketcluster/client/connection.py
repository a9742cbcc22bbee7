"""One connection of a client, from the attempt to the close, with the handshake between.

Source: SocketCluster protocol 2, "Handshake"; npm socketcluster-client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from socketcluster.client.keepalive import CHECKS_PER_TIMEOUT, Keepalive
from socketcluster.client.options import ClientOptions
from socketcluster.client.writer import ClientWriter
from socketcluster.engines.base import Connection, ConnectionHandler, DeflateOptions
from socketcluster.engines.connect_errors import connect_timed_out, not_opened, why
from socketcluster.engines.connector import Connector, ConnectRequest
from socketcluster.errors import SocketProtocolError, hydrate_error
from socketcluster.literals import SocketState
from socketcluster.protocol.packets import BinaryMessage
from socketcluster.protocol.state import (
    CLOSE_CONNECT_TIMEOUT,
    CLOSE_HANDSHAKE_FAILED,
    CLOSE_HUNG_UP,
    CLOSE_PING_TIMEOUT,
    CLOSED,
    CONNECTING,
    CONNECTION_TRANSITIONS,
    OPEN,
    PINGS,
    StateMachine,
)
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.calls import PendingCalls

_MAX_PING_TIMEOUT = 1e12
"""Upper bound in milliseconds for a server's pingTimeout; larger values are ignored."""


@dataclass(frozen=True, slots=True)
class HandshakeStatus:
    """The server's answer to the handshake.

    Attributes:
        id: the server's id for the connection.
        ping_timeout: in milliseconds.
        is_authenticated: whether the server accepted the token.
        auth_error: why it did not.
        token: the token that it was sent.
    """

    id: str | None
    ping_timeout: float | None
    is_authenticated: bool
    auth_error: BaseException | None
    token: str | None

    @classmethod
    def of(cls, status: Any, token: str | None) -> HandshakeStatus:
        """Read the answer; an entry of a wrong type counts as missing."""
        status = status if isinstance(status, dict) else {}
        id, timeout, error = (status.get(name) for name in ("id", "pingTimeout", "authError"))
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        return cls(
            id if isinstance(id, str) else None,
            timeout if is_number and 0 < timeout < _MAX_PING_TIMEOUT else None,
            status.get("isAuthenticated") is True,
            None if error is None else hydrate_error(error),
            token,
        )


class ConnectionOwner(Protocol):
    """The client, as a connection needs it. Nothing is called after `connection_closed`."""

    async def load_token(self) -> str | None:
        """Return the token to send in the handshake. An exception fails the handshake."""

    def connection_opened(self, status: HandshakeStatus) -> None:
        """The handshake is complete."""

    def message_received(self, message: bytes, is_ping: bool) -> None:
        """A message has arrived."""

    def connection_closed(
        self, code: int, reason: str | None, opened: bool, cause: BaseException | None
    ) -> None:
        """The connection is closed, or about to be; its last bytes may still be on their way."""


class ClientConnection:
    """One connection. Its state changes from 'connecting' through 'open' to 'closed', once.

    Attributes:
        writer: writes frames; None until the WebSocket is open.
        opening: done when the handshake is complete, or the connection could not be made.
        ended: done when the transport is closed, or there will be none.
        reading: whether the connection is read from.
    """

    __slots__ = (
        "_calls",
        "_connect_timer",
        "_connection",
        "_connector",
        "_keepalive",
        "_machine",
        "_options",
        "_owner",
        "_ping",
        "_pong",
        "_unanswered_ping",
        "_wire",
        "ended",
        "opening",
        "reading",
        "writer",
    )

    opening: asyncio.Task[None]

    def __init__(
        self,
        owner: ConnectionOwner,
        connector: Connector,
        options: ClientOptions,
        wire: Wire,
        calls: PendingCalls,
    ) -> None:
        ping, pong = PINGS[options.protocol_version]
        self._owner = owner
        self._connector = connector
        self._options = options
        self._wire = wire
        self._calls = calls
        self._machine = StateMachine[SocketState](CONNECTION_TRANSITIONS, CONNECTING)
        self._ping, self._pong = ping, pong.decode()
        self._unanswered_ping = False
        self._connection: Connection | None = None
        self._connect_timer: asyncio.TimerHandle | None = None
        self._keepalive: Keepalive | None = None
        self.reading: bool = True
        self.writer: ClientWriter | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opening = asyncio.ensure_future(self._open())
        self.opening.add_done_callback(self._opening_done)

    @property
    def state(self) -> SocketState:
        """'connecting', 'open' or 'closed'."""
        return self._machine.state

    def _seconds_to_connect(self) -> float:
        return self._options.milliseconds("connect_timeout") / 1000

    # Opening

    async def _open(self) -> None:
        options = self._options
        try:
            async with asyncio.timeout(None) as limit:
                self._expect_connection(limit, CHECKS_PER_TIMEOUT)
                await self._connector.connect(connect_request(options), self)
        except TimeoutError:
            late = connect_timed_out(options.uri(), options.milliseconds("connect_timeout"))
            self.close(CLOSE_CONNECT_TIMEOUT, late.reason, late)
        except SocketProtocolError as error:
            self._closed(CLOSE_HUNG_UP, error.reason, error)
        except Exception as error:  # Of a connector from the options.
            failure = not_opened(options.uri(), why(error))
            failure.__cause__ = error
            self._closed(CLOSE_HUNG_UP, failure.reason, failure)
        else:
            if self.state == CONNECTING:
                await self._shake_hands()

    def _expect_connection(self, limit: asyncio.Timeout, checks: int) -> None:
        # As in `Keepalive`, a stall of this process counts for one check.
        if self.state != CONNECTING or self._connection is not None:
            return
        if checks:
            seconds = self._seconds_to_connect() / CHECKS_PER_TIMEOUT
            loop = asyncio.get_running_loop()
            self._connect_timer = loop.call_later(
                seconds, self._expect_connection, limit, checks - 1
            )
        elif not self.opening.done():
            limit.reschedule(0)

    def _opening_done(self, _: asyncio.Task[None]) -> None:
        # Also of a task that was cancelled before it began.
        if self._connection is None and not self.ended.done():
            self.ended.set_result(None)

    async def _shake_hands(self) -> None:
        event = "#handshake"
        try:
            token = await self._owner.load_token()
            if self.state != CONNECTING:
                return
            status = await self._calls.call(
                event,
                self._options.ack_timeout,
                lambda cid: self._send_now({"event": event, "data": {"authToken": token}}, cid),
            )
        except Exception as error:
            code = getattr(error, "status_code", None)
            usable = type(code) is int and 1000 <= code <= 4999
            self.close(code if usable else CLOSE_HANDSHAKE_FAILED, cause=error)  # type: ignore[arg-type]
            return
        if self.state == CONNECTING:
            self._opened(HandshakeStatus.of(status, token))

    def _opened(self, status: HandshakeStatus) -> None:
        assert self._keepalive is not None
        self._machine.to(OPEN)
        if status.ping_timeout is None:
            self._keepalive.restart(self._keepalive.timeout)
        else:
            self._keepalive.restart(status.ping_timeout / 1000)
        if self._unanswered_ping:
            self._keepalive.answer_ping()
        self._owner.connection_opened(status)

    def _send_now(self, packet: dict[str, Any], cid: int) -> None:
        assert self.writer is not None
        self.writer.send({**packet, "cid": cid})

    # From the engine: it is a ConnectionHandler

    def connection_made(self, connection: Connection) -> None:
        """See `ConnectionHandler`."""
        self._connection = connection
        if self.state == CLOSED:
            connection.abort()
            return
        self._cancel_connect_timer()
        options = self._options
        self.writer = ClientWriter(connection, self._wire, options.max_outbound_buffer)
        on_timeout = None if options.ping_timeout_disabled else self._ping_timeout
        self._keepalive = Keepalive(
            connection, self.writer, self._pong, self._seconds_to_connect(), on_timeout
        )

    def text_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        if self._machine.state == CLOSED:
            return
        is_ping = data == self._ping
        if is_ping:
            if self._machine.state == OPEN and self._keepalive is not None:
                self._keepalive.answer_ping()
            else:  # An npm server that gets a pong before the handshake closes with 4009.
                self._unanswered_ping = True
        self._owner.message_received(data, is_ping)

    def binary_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        if self._machine.state != CLOSED:
            self._owner.message_received(BinaryMessage(data), False)

    def connection_lost(self, code: int, reason: str) -> None:
        """See `ConnectionHandler`."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._closed(code, reason or None, None)

    def _ping_timeout(self) -> None:
        self.close(CLOSE_PING_TIMEOUT)

    # Closing

    def close(
        self, code: int, reason: str | None = None, cause: BaseException | None = None
    ) -> None:
        """Close the connection, after the frames and the batch that wait.

        The owner is notified at once.
        """
        if self.state == CLOSED:
            return
        if self.writer is not None:
            self.writer.flush_batch()
            self.writer.flush()
        connection = self._connection
        self._closed(code, reason, cause)
        if connection is not None:
            connection.close(code, reason or "")

    def _closed(self, code: int, reason: str | None, cause: BaseException | None) -> None:
        if self.state == CLOSED:
            return
        opened = self.state == OPEN
        self._machine.to(CLOSED)
        self._cancel_connect_timer()
        if self._keepalive is not None:
            self._keepalive.stop()
        if self.writer is not None:
            self.writer.close()
        if self.opening is not asyncio.current_task():
            self.opening.cancel()
        self._owner.connection_closed(code, reason, opened, cause)

    def _cancel_connect_timer(self) -> None:
        if self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None

    def read(self, wanted: bool) -> None:
        """Read from the server, or pause."""
        if self._keepalive is None or self.state == CLOSED or wanted == self.reading:
            return
        assert self._connection is not None
        self.reading = wanted
        if wanted:
            self._keepalive.reading_resumed()
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()
            self._keepalive.reading_paused()

    def get_bytes_received(self) -> int:
        """Return the payload bytes received so far."""
        return 0 if self._connection is None else self._connection.get_bytes_received()

    def get_buffer_size(self) -> int:
        """Return the bytes that wait to be sent, those of the transport included."""
        return 0 if self.writer is None else self.writer.get_buffer_size()


def connect_request(options: ClientOptions) -> ConnectRequest:
    """Return the request for a connection made now."""
    ws_options = options.ws_options
    return ConnectRequest(
        uri=options.uri(),
        max_payload=options.max_payload,
        socket_path=options.socket_path,
        ssl=ws_options.get("ssl"),
        headers=ws_options.get("headers") or {},
        proxy=ws_options.get("proxy"),
        deflate=DeflateOptions() if ws_options.get("per_message_deflate") else None,
    )


_: type[ConnectionHandler] = ClientConnection
