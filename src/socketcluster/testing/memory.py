"""WebSockets in memory: two `Connection`s, a client's and a server's, each the other's peer.

Frames are those of a real connection. The peer receives them in a later loop turn: all frames of
one turn together, as in one TCP segment, within the budget of a turn.

Source: RFC 6455, section 5.5.1 and 7 (closing).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from socketcluster.engines.assembler import CLOSE, TEXT, parse_close
from socketcluster.engines.base import (
    CLOSE_SECONDS,
    Accepted,
    ASGIScope,
    Connection,
    ConnectionHandler,
    Endpoint,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.engines.connector import ConnectRequest
from socketcluster.engines.turn_budget import TURN_BUDGET, turn_cost
from socketcluster.protocol.frames import close_frame, payload_start
from socketcluster.protocol.state import CLOSE_HUNG_UP

_ports = itertools.cycle(range(49152, 65536))


class MemoryConnection:
    """One end of a WebSocket. Its write buffer is the frames that the peer has not read yet.

    Args:
        handler: gets the messages.
        max_payload: bytes in one message.
        max_first_message: bytes in the first message.

    Attributes:
        peer: the other end; deleted when both have lost the connection.
    """

    __slots__ = (
        "_arrived",
        "_broken",
        "_closing",
        "_code",
        "_handler",
        "_inbox",
        "_inbox_size",
        "_later_limit",
        "_limit",
        "_loop",
        "_lost",
        "_paused",
        "_reason",
        "_received",
        "_scheduled",
        "_stalls",
        "_timer",
        "peer",
    )

    peer: MemoryConnection

    def __init__(
        self, handler: ConnectionHandler, max_payload: int, max_first_message: int
    ) -> None:
        self._handler = handler
        self._limit = max_first_message
        self._later_limit = max_payload
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[bytes] = deque()
        self._inbox_size = 0
        self._received = 0
        self._arrived = 0
        self._scheduled = False
        self._paused = False
        self._stalls = 0
        self._closing = False
        self._broken = False
        self._lost = False
        self._code = CLOSE_HUNG_UP
        self._reason = ""
        self._timer: asyncio.TimerHandle | None = None

    # To the peer

    def write(self, frames: Sequence[bytes]) -> int:
        """See `Connection.write`."""
        if not self._closing:
            self.peer._arrive(frames)
        return self.get_write_buffer_size()

    def get_write_buffer_size(self) -> int:
        """See `Connection.get_write_buffer_size`."""
        return 0 if self._lost else self.peer._inbox_size

    def get_bytes_received(self) -> int:
        """See `Connection.get_bytes_received`."""
        return self._received

    def get_activity(self) -> object:
        """See `Connection.get_activity`."""
        return self._arrived

    def get_incomplete_size(self) -> int:
        """See `Connection.get_incomplete_size`."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """See `Connection.close`."""
        if not self._closing:
            self._closing = True
            self._timer = self._loop.call_later(CLOSE_SECONDS, self.abort)
            self.peer._arrive([close_frame(code, reason)])
            self._schedule()

    def abort(self) -> None:
        """See `Connection.abort`. The peer still receives the frames written before."""
        if self._lost:
            return
        self._closing = True
        self._drop_inbox()
        self._loop.call_soon(self._lose)
        self.peer._break()

    def _break(self) -> None:
        self._broken = True
        if self._stalls:
            self._drop_inbox()
        if self._inbox:
            self._schedule()
        else:
            self._loop.call_soon(self._lose)

    # Reading

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        self._paused = True

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        self._paused = False
        self._schedule()

    def stall(self) -> None:
        """Read nothing, even after `resume_reading`, until `unstall` is called as often."""
        self._stalls += 1

    def unstall(self) -> None:
        """Undo `stall`."""
        self._stalls -= 1
        self._schedule()

    @property
    def _reading(self) -> bool:
        return not self._stalls and (self._closing or self._broken or not self._paused)

    def _arrive(self, frames: Sequence[bytes]) -> None:
        if not (self._lost or self._broken):
            self._inbox.extend(frames)
            self._inbox_size += sum(map(len, frames))
            self._schedule()

    def _schedule(self) -> None:
        if self._inbox and self._reading and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        budget = TURN_BUDGET
        while self._inbox and self._reading and budget > 0:
            frame = self._inbox.popleft()
            self._inbox_size -= len(frame)
            self._arrived += len(frame)
            budget -= turn_cost(len(frame))
            self._process(frame[0] & 0x0F, frame[payload_start(frame) :])
        if self._broken and not self._inbox:
            self._lose()
        else:
            self._schedule()

    def _process(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._close_received(payload)
        elif not self._closing:
            self._received += len(payload)
            if len(payload) > self._limit:
                self._code, self._reason = 1009, "Message too big"
                self.close(self._code, self._reason)
                return
            self._limit = self._later_limit
            if opcode == TEXT:
                self._handler.text_received(payload)
            else:
                self._handler.binary_received(payload)

    def _close_received(self, payload: bytes) -> None:
        if self._code == CLOSE_HUNG_UP:
            self._code, self._reason = parse_close(payload)
        if not self._closing:
            self._closing = True
            self.peer._arrive([close_frame(self._code, "")])
        self._loop.call_soon(self._lose)

    def _drop_inbox(self) -> None:
        self._inbox.clear()
        self._inbox_size = 0

    def _lose(self) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._drop_inbox()
            if self._timer is not None:
                self._timer.cancel()
            handler = self._handler
            del self._handler  # So that a reference to the peer does not keep it alive.
            if self.peer._lost:
                del self.peer.peer, self.peer  # So that neither end keeps the other alive.
            handler.connection_lost(self._code, self._reason)


async def join(
    endpoint: Endpoint, request: ConnectRequest, handler: ConnectionHandler
) -> tuple[Accepted, MemoryConnection]:
    """Open a connection to an endpoint.

    Returns the endpoint's answer and the end of `handler`, whose `connection_made` was called. TLS,
    proxies and compression are ignored. Cancelling gives the upgrade up.

    Raises:
        UpgradeRefusedError: the endpoint refused, with its HTTP status and text.
    """
    scope = upgrade_scope(request)
    if scope["path"].rstrip("/") != endpoint.path.rstrip("/"):
        raise UpgradeRefusedError(404, "Not Found")
    accepted = await endpoint.open(UpgradeRequest(scope))
    limits = (endpoint.max_payload, endpoint.max_first_message)
    server_end = MemoryConnection(accepted.handler, *limits)
    client_end = MemoryConnection(handler, request.max_payload, request.max_payload)
    client_end.peer, server_end.peer = server_end, client_end
    accepted.handler.connection_made(server_end)
    handler.connection_made(client_end)
    return accepted, client_end


def upgrade_scope(request: ConnectRequest) -> ASGIScope:
    """The ASGI scope of an upgrade request from this machine."""
    parts = urlsplit(request.uri)
    headers = [("host", parts.netloc), *((n.lower(), v) for n, v in request.headers.items())]
    offered = ",".join(value for name, value in headers if name == "sec-websocket-protocol")
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", next(_ports)),
        "server": (parts.hostname, parts.port),
        "subprotocols": [name for part in offered.split(",") if (name := part.strip())],
        "extensions": {},
        "state": {},
    }


_: type[Connection] = MemoryConnection
