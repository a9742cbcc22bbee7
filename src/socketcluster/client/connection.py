"""One connection of a client, from its first byte to its last: connect, shake hands, hear pings.

Source: SocketCluster protocol 2, "Handshake" and "Pings"; npm socketcluster-client.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import Any, Protocol

from socketcluster.client.options import ClientOptions
from socketcluster.client.writer import ClientWriter
from socketcluster.engines.base import Connection, ConnectionHandler, DeflateOptions
from socketcluster.engines.connect_errors import connect_timed_out, not_opened, why
from socketcluster.engines.connector import Connector, ConnectRequest
from socketcluster.errors import ResourceLimitError, SocketProtocolError, hydrate_error
from socketcluster.protocol.packets import BinaryMessage
from socketcluster.protocol.state import (
    CLOSE_CONNECT_TIMEOUT,
    CLOSE_HANDSHAKE_FAILED,
    CLOSE_HUNG_UP,
    CLOSE_PING_TIMEOUT,
    CLOSED,
    CONNECTING,
    OPEN,
    PINGS,
)
from socketcluster.protocol.wire import Wire
from socketcluster.sockets.calls import PendingCalls, after_reading

_LONGEST = 1e12
"""Milliseconds that no ping timeout can have: it would be some thirty years."""

_LOOKS = 4
"""How often within `ping_timeout` a connection is looked at for signs of life."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the server said of itself and of the client in the handshake; `ping_timeout` in
    milliseconds, `token` is what it was shown."""

    id: str | None
    ping_timeout: float | None
    is_authenticated: bool
    auth_error: BaseException | None
    token: str | None

    @classmethod
    def of(cls, status: Any, token: str | None) -> Opened:
        """From the answer to the handshake; what has a wrong type counts as missing."""
        status = status if isinstance(status, dict) else {}
        id, timeout, error = (status.get(name) for name in ("id", "pingTimeout", "authError"))
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        return cls(
            id if isinstance(id, str) else None,
            timeout if is_number and 0 < timeout < _LONGEST else None,
            status.get("isAuthenticated") is True,
            None if error is None else hydrate_error(error),
            token,
        )


class LinkOwner(Protocol):
    """The client, as its connection sees it. Nothing is called after `link_closed`."""

    @property
    def options(self) -> ClientOptions: ...
    @property
    def wire(self) -> Wire: ...
    @property
    def calls(self) -> PendingCalls: ...

    async def load_token(self) -> str | None:
        """The token to show in the handshake. What it raises fails the handshake."""

    def link_opened(self, opened: Opened) -> None:
        """The handshake is complete."""

    def link_received(self, message: bytes, is_ping: bool) -> None:
        """A message."""

    def link_closed(
        self, code: int, reason: str | None, opened: bool, cause: BaseException | None
    ) -> None:
        """The connection is lost or about to be."""


class Link:
    """One connection; its state goes from 'connecting' over 'open' to 'closed', once.

    Attributes:
        writer: what is still to be written; None until the WebSocket is open.
        opening: done when the connection is open, or could not be opened.
        reading: whether it is read from.
        gone: done when nothing is left of the connection.
    """

    __slots__ = (
        "_activity",
        "_connection",
        "_connector",
        "_last_pong",
        "_look_timer",
        "_owner",
        "_ping",
        "_ping_timeout",
        "_pong",
        "_silence",
        "_unanswered_ping",
        "gone",
        "opening",
        "reading",
        "state",
        "writer",
    )

    def __init__(self, owner: LinkOwner, connector: Connector) -> None:
        ping, pong = PINGS[owner.options.protocol_version]
        self._owner = owner
        self._connector = connector
        self._ping, self._pong = ping, pong
        self._ping_timeout = owner.options.milliseconds("connect_timeout") / 1000
        self._look_timer: asyncio.TimerHandle | None = None
        self._activity: object = None
        self._silence = 0
        self._unanswered_ping = False
        self._last_pong = -math.inf
        self.reading = True
        self._connection: Connection | None = None
        self.state: str = CONNECTING
        self.writer: ClientWriter | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opening = asyncio.ensure_future(self._open())
        self.opening.add_done_callback(self._opening_ended)

    # Opening

    async def _open(self) -> None:
        options = self._owner.options
        try:
            async with asyncio.timeout(None) as limit:
                self._expect_connection(limit, _LOOKS)
                await self._connector.connect(connect_request(options), self)
        except TimeoutError:
            late = connect_timed_out(options.uri(), options.milliseconds("connect_timeout"))
            self.close(CLOSE_CONNECT_TIMEOUT, late.reason, late)
        except SocketProtocolError as error:
            self._closed(CLOSE_HUNG_UP, error.reason, error)
        except Exception as error:  # Of a connector that somebody plugged in.
            failure = not_opened(options.uri(), why(error))
            failure.__cause__ = error
            self._closed(CLOSE_HUNG_UP, failure.reason, failure)
        else:
            if self.state == CONNECTING:
                await self._shake_hands()

    def _expect_connection(self, limit: asyncio.Timeout, looks: int) -> None:
        # As with silence later, a stall of this process counts for one look.
        if self.state != CONNECTING or self._connection is not None:
            return
        if looks:
            loop = asyncio.get_running_loop()
            seconds = self._ping_timeout / _LOOKS
            self._look_timer = loop.call_later(seconds, self._expect_connection, limit, looks - 1)
        elif not self.opening.done():
            limit.reschedule(0)

    def _opening_ended(self, _: asyncio.Task[None]) -> None:
        # Also of a task that was cancelled before it had begun.
        if self._connection is None and not self.gone.done():
            self.gone.set_result(None)

    async def _shake_hands(self) -> None:
        owner = self._owner
        event = "#handshake"
        try:
            token = await owner.load_token()
            if self.state != CONNECTING:
                return
            status = await owner.calls.call(
                event,
                owner.options.ack_timeout,
                lambda cid: self._send_now({"event": event, "data": {"authToken": token}}, cid),
            )
        except Exception as error:
            code = getattr(error, "status_code", None)
            usable = type(code) is int and 1000 <= code <= 4999
            self.close(code if usable else CLOSE_HANDSHAKE_FAILED, cause=error)  # type: ignore[arg-type]
            return
        if self.state == CONNECTING:
            self.state = OPEN
            opened = Opened.of(status, token)
            if opened.ping_timeout is not None:
                self._ping_timeout = opened.ping_timeout / 1000
            self._watch()
            if self._unanswered_ping:
                self._answer_ping()
            owner.link_opened(opened)

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
        self.writer = ClientWriter(
            connection, self._owner.wire, self._owner.options.max_outbound_buffer
        )
        self._watch()

    def text_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        if self.state == CLOSED:
            return
        is_ping = data == self._ping
        if is_ping:
            if self.state == OPEN:
                self._answer_ping()
            else:  # An answer before the handshake is done makes an npm server close with 4009.
                self._unanswered_ping = True
        self._owner.link_received(data, is_ping)

    def binary_received(self, data: bytes) -> None:
        """See `ConnectionHandler`."""
        if self.state != CLOSED:
            self._owner.link_received(BinaryMessage(data), False)

    def connection_lost(self, code: int, reason: str) -> None:
        """See `ConnectionHandler`."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._closed(code, reason or None, None)

    # Signs of life

    def _watch(self) -> None:
        """Expect a sign of life within `ping_timeout` from now on."""
        assert self._connection is not None
        self._activity = self._connection.get_activity()
        self._silence = 0
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._look_timer = loop.call_later(self._ping_timeout / _LOOKS, self._look)

    def _look(self) -> None:
        # Silence is counted in looks, not by the clock: while this process stands still nothing
        # is read, and a stall counts for one look however long it was.
        assert self._connection is not None
        self._arm()
        activity = self._connection.get_activity()
        if not self.reading:
            self._silence = 0
            self._answer_ping()
        elif activity != self._activity:
            self._silence = 0
        else:
            self._silence += 1
            if self._silence >= _LOOKS and not self._owner.options.ping_timeout_disabled:
                after_reading(self._give_up)
        self._activity = activity

    def _give_up(self) -> None:
        if self.state == CLOSED or not self.reading or self._connection is None:
            return
        if self._connection.get_activity() == self._activity:
            self.close(CLOSE_PING_TIMEOUT)

    def _answer_ping(self) -> None:
        assert self.writer is not None
        self._last_pong = asyncio.get_running_loop().time()
        # With a full buffer there is no need to tell the server that this side is alive.
        with contextlib.suppress(ResourceLimitError):
            self.writer.send_message(self._pong.decode())

    # Closing

    def close(
        self, code: int, reason: str | None = None, cause: BaseException | None = None
    ) -> None:
        """Close the connection; the owner hears of it at once."""
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
        self.state = CLOSED
        if self._look_timer is not None:
            self._look_timer.cancel()
        if self.writer is not None:
            self.writer.close()
        if self.opening is not asyncio.current_task():
            self.opening.cancel()
        self._owner.link_closed(code, reason, opened, cause)

    def read(self, wanted: bool) -> None:
        """Read from the server, or do not for now."""
        if self._connection is None or self.state == CLOSED or wanted == self.reading:
            return
        self.reading = wanted
        if wanted:
            self._silence = 0
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()
            # Pings are not read now: at every look the server hears in time what it asks for.
            now = asyncio.get_running_loop().time()
            if self._last_pong + self._ping_timeout / _LOOKS <= now:
                self._answer_ping()

    def get_bytes_received(self) -> int:
        """Payload bytes received so far."""
        return 0 if self._connection is None else self._connection.get_bytes_received()


def connect_request(options: ClientOptions) -> ConnectRequest:
    """What a connection made now is opened with."""
    given = options.ws_options
    return ConnectRequest(
        uri=options.uri(),
        max_payload=options.max_payload,
        socket_path=options.socket_path,
        ssl=given.get("ssl"),
        headers=given.get("headers") or {},
        proxy=given.get("proxy"),
        deflate=DeflateOptions() if given.get("per_message_deflate") else None,
    )


_: type[ConnectionHandler] = Link
