"""WebSockets over any ASGI server. Source: ASGI specification, HTTP & WebSocket 2.4."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from socketcluster.engines.base import (
    CLOSE_SECONDS,
    Accepted,
    ASGIApp,
    ASGIReceive,
    ASGIScope,
    ASGISend,
    Connection,
    ConnectionHandler,
    Endpoint,
    ListenAddress,
    Listener,
    UpgradeRefusedError,
    UpgradeRequest,
)
from socketcluster.engines.request_limits import head_too_large
from socketcluster.engines.turn_budget import TURN_BUDGET, turn_cost
from socketcluster.engines.uvicorn_server import UvicornListener
from socketcluster.protocol.frames import cut_reason, frame_payload
from socketcluster.protocol.state import CLOSE_HUNG_UP, CLOSE_NO_STATUS, CLOSE_PONG_TIMEOUT

_logger = logging.getLogger("socketcluster")


class AsgiEngine:
    """The engine of `ws_engine="asgi"`: uvicorn with its own WebSocket implementation."""

    async def listen(self, endpoint: Endpoint, app: ASGIApp, address: ListenAddress) -> Listener:
        """See `Engine.listen`."""
        path = endpoint.path.rstrip("/")

        async def route(scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
            if scope["type"] == "websocket" and scope["path"].rstrip("/") == path:
                await serve_websocket(endpoint, scope, receive, send)
            else:
                await app(scope, receive, send)

        http, ws = _protocols(endpoint)
        listener = UvicornListener(endpoint, route, address, http, ws, set())
        await listener.start()
        return listener


def _protocols(
    endpoint: Endpoint,
) -> tuple[type[asyncio.Protocol] | str, type[asyncio.Protocol] | str]:
    """(HTTP, WebSocket): uvicorn's protocols with this package's limits, where that is possible."""
    try:
        limits = importlib.import_module("socketcluster.engines.uvicorn_limits")
    except ImportError as error:
        _logger.warning(
            "uvicorn's own protocols are used, without limits on the size and time of request "
            "heads and on what a client sends in one go: %s",
            error,
        )
        return "httptools", "websockets-sansio"
    return limits.GuardedHttp, limits.guarded_websocket(endpoint)


async def serve_websocket(
    endpoint: Endpoint, scope: ASGIScope, receive: ASGIReceive, send: ASGISend
) -> None:
    """Serve one WebSocket of an ASGI server. Cancelling drops the connection."""
    await receive()  # websocket.connect
    first = asyncio.ensure_future(receive())
    try:
        accepted = await _open(endpoint, scope, send, first)
    except BaseException:
        first.cancel()
        raise
    if accepted is None:
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        return
    handler = accepted.handler
    try:
        await send({"type": "websocket.accept", "subprotocol": accepted.subprotocol})
    except BaseException as error:
        first.cancel()
        handler.connection_lost(CLOSE_HUNG_UP, "")
        if isinstance(error, Exception):
            return  # The peer left.
        raise
    connection = AsgiConnection(send, endpoint)
    handler.connection_made(connection)
    code, reason = CLOSE_HUNG_UP, ""
    reader = asyncio.ensure_future(_read(handler, connection, endpoint, first, receive))
    try:
        ends: list[asyncio.Future[Any]] = [reader, connection.dropped]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if reader.done():
            code, reason = reader.result()
    finally:
        reader.cancel()
        first.cancel()
        connection.drop()
        handler.connection_lost(code, reason)
        await connection.finish()


async def _read(
    handler: ConnectionHandler,
    connection: AsgiConnection,
    endpoint: Endpoint,
    first: asyncio.Future[Any],
    receive: ASGIReceive,
) -> tuple[int, str]:
    """Deliver messages, within a budget for each loop turn, until (code, reason) of the end."""
    message = await first
    limit, budget = endpoint.max_first_message, TURN_BUDGET
    while message["type"] == "websocket.receive":
        budget -= turn_cost(_deliver(handler, connection, message, limit))
        limit = endpoint.max_payload
        if budget <= 0:
            await asyncio.sleep(0)
            budget = TURN_BUDGET
        if connection.can_read is not None:
            await connection.can_read.wait()
        message = await receive()
    return message.get("code", 1005), message.get("reason") or ""


async def _open(
    endpoint: Endpoint, scope: ASGIScope, send: ASGISend, first: asyncio.Future[Any]
) -> Accepted | None:
    """Ask the endpoint; None if it refused, or the peer left meanwhile.

    `first` is the peer's first message, or its disconnect.
    """
    request = UpgradeRequest(scope)
    try:
        if head_too_large(scope.get("raw_path") or b"", scope["headers"]):
            raise UpgradeRefusedError(431, "Request head too large")
        if not endpoint.pace.take():
            await endpoint.pace.turn()
            if _has_left(first):
                return None
        accepted = endpoint.open_now(request)
    except UpgradeRefusedError as refusal:
        await _refuse(scope, send, refusal)
        return None
    if accepted is not None:
        return accepted
    opening = asyncio.ensure_future(endpoint.open(request))
    try:
        while not opening.done():
            waiting = {opening} if first.done() else {opening, first}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if _has_left(first):
                _give_up(opening)
                return None
    except BaseException:
        _give_up(opening)
        raise
    try:
        return opening.result()
    except UpgradeRefusedError as refusal:
        await _refuse(scope, send, refusal)
        return None


def _has_left(first: asyncio.Future[Any]) -> bool:
    return first.done() and first.result()["type"] == "websocket.disconnect"


def _give_up(opening: asyncio.Task[Accepted]) -> None:
    if not opening.cancel() and not opening.cancelled() and opening.exception() is None:
        opening.result().handler.connection_lost(CLOSE_HUNG_UP, "")


async def _refuse(scope: ASGIScope, send: ASGISend, refusal: UpgradeRefusedError) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    start = {"status": refusal.status, "headers": headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": refusal.message.encode()})


def _deliver(handler: Any, connection: AsgiConnection, message: Any, limit: int) -> int:
    if connection.closing:
        return 0
    text = message.get("text")
    data = message["bytes"] if text is None else text.encode()
    connection.received += len(data)
    if len(data) > limit:
        connection.close(1009, "Message too big")
    elif text is None:
        handler.binary_received(data)
    else:
        handler.text_received(data)
    return len(data)


class AsgiConnection:
    """One WebSocket of an ASGI server. A task sends the messages that wait in a queue.

    Attributes:
        can_read: set when reading may go on; None while it is not paused.
        closing: whether it is closed or aborted.
        dropped: done when the peer's close frame is no longer waited for.
        received: payload bytes received.
    """

    def __init__(self, send: ASGISend, endpoint: Endpoint) -> None:
        self._send = send
        self._endpoint = endpoint
        self._queue: deque[tuple[dict[str, Any], int]] = deque()
        self._size = 0
        self._writer: asyncio.Task[None] | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._finishing = False
        self.can_read: asyncio.Event | None = None
        self.dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.closing: bool = False
        self.received = 0

    def write(self, frames: Sequence[bytes]) -> int:
        """See `Connection.write`."""
        if self.closing:
            return self._size
        for frame in frames:
            is_text, payload = frame_payload(frame)
            body = {"text": payload.decode()} if is_text else {"bytes": payload}
            self._put({"type": "websocket.send", **body}, len(frame))
        return self._size

    def _put(self, message: dict[str, Any], size: int) -> None:
        self._queue.append((message, size))
        self._size += size
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())
        elif self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def _write(self) -> None:
        while self._queue or not self._finishing:
            if not self._queue:
                self._wakeup = asyncio.get_running_loop().create_future()
                await self._wakeup
                continue
            message, size = self._queue[0]
            try:
                await self._send(message)
            except Exception:
                # The peer left. `receive` reports it too, with the code.
                self._queue.clear()
                self._size = 0
                return
            if self._queue:
                self._queue.popleft()
                self._size -= size

    def get_write_buffer_size(self) -> int:
        """See `Connection.get_write_buffer_size`."""
        return self._size

    def get_bytes_received(self) -> int:
        """See `Connection.get_bytes_received`."""
        return self.received

    def get_activity(self) -> object:
        """See `Connection.get_activity`. ASGI shows whole messages only."""
        return self.received

    def get_incomplete_size(self) -> int:
        """See `Connection.get_incomplete_size`. ASGI shows whole messages only."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """See `Connection.close`. A close of ASGI always has a code."""
        if self.closing:
            return
        self.closing = True
        if code == CLOSE_NO_STATUS:
            code, reason = CLOSE_PONG_TIMEOUT, ""
        message = {"type": "websocket.close", "code": code, "reason": cut_reason(reason)}
        self._put(message, 0)
        self.resume_reading()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CLOSE_SECONDS, self.drop)

    def abort(self) -> None:
        """See `Connection.abort`. ASGI has no abort: close, without waiting for the peer."""
        if not self.closing:
            self.close(1011, "")
        self.drop()

    def pause_reading(self) -> None:
        """See `Connection.pause_reading`."""
        if not self.closing and self.can_read is None:
            self.can_read = asyncio.Event()

    def resume_reading(self) -> None:
        """See `Connection.resume_reading`."""
        if self.can_read is not None:
            self.can_read.set()
            self.can_read = None

    def drop(self) -> None:
        """Stop waiting for the peer."""
        self.closing = True
        self.resume_reading()
        if not self.dropped.done():
            self.dropped.set_result(None)

    async def finish(self) -> None:
        """Free everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._finishing = True
        if self._writer is not None:
            if self._wakeup is not None and not self._wakeup.done():
                self._wakeup.set_result(None)
            await asyncio.wait({self._writer}, timeout=0.1)
            self._writer.cancel()
            self._writer = None
        self._queue.clear()


_: type[Connection] = AsgiConnection
