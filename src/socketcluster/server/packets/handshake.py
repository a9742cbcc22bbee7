"""How a socket comes to be: the upgrade request, then '#handshake'; and '#authenticate'.

Source: SocketCluster protocol 2, "Handshake"; WebSocket origins: RFC 6454.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from socketcluster.engines.base import UpgradeRefusedError, UpgradeRequest
from socketcluster.errors import (
    ServerProtocolError,
    SocketClusterError,
    dehydrate_error,
)
from socketcluster.events import ConnectEvent
from socketcluster.middleware import MIDDLEWARE_HANDSHAKE, Blocked, MiddlewareLine
from socketcluster.middleware.action import AGAction
from socketcluster.protocol.state import AUTHENTICATED, CLOSE_HANDSHAKE_REJECTED, CLOSED, OPEN
from socketcluster.server.events import ConnectionEvent
from socketcluster.server.parts.leaving import abort_undecided, lost_in_handshake

if TYPE_CHECKING:
    from socketcluster.server.server import AGServer
    from socketcluster.server.socket import AGServerSocket

MAX_SHOWN_ORIGIN = 300
"""Characters of a refused origin that the warning and the answer show."""

_TURNS = 3
"""Loop turns that a task started by a handler may need until it listens: one to begin, one more
for a task that it starts itself, one to spare."""


async def admit(server: AGServer, request: UpgradeRequest) -> MiddlewareLine | None:
    """Decide on an upgrade request; returns the middleware that decides on '#handshake' too.

    Raises:
        UpgradeRefusedError: 401 by middleware, 403 for the origin.
    """
    line = None
    function = server.middleware.get(MIDDLEWARE_HANDSHAKE)
    if function is not None:
        line = MiddlewareLine(
            MIDDLEWARE_HANDSHAKE,
            function,
            server.emit_warning,
            server.reporter,
            server.loop_binding,
        )
        try:
            async with asyncio.timeout(server.handshake_timeout / 1000):
                await line.decide(AGAction.HANDSHAKE_WS, request=request)
        except Blocked as blocked:
            line.kill()
            if blocked.for_server is not None and server.options.middleware_emit_failures:
                server.emit_warning(blocked.for_server)
            told = getattr(blocked.for_client, "public_message", None) or str(blocked.for_client)
            raise UpgradeRefusedError(401, told) from None
        except TimeoutError:
            line.report_held("handshake_timeout")
            line.kill()
            raise UpgradeRefusedError(401, "The handshake took too long") from None
        except BaseException:
            line.kill()
            raise
    try:
        check_origin(server, request)
    except UpgradeRefusedError:
        if line is not None:
            line.kill()
        raise
    return line


def check_origin(server: AGServer, request: UpgradeRequest) -> None:
    """Check where the page comes from that opens the connection.

    Raises:
        UpgradeRefusedError: 403.
    """
    if server.allowed_origins.all:
        return
    origin = request.header("origin")
    if not server.allowed_origins.allow(origin):
        shown = "*" if origin is None or origin == "null" else origin[:MAX_SHOWN_ORIGIN]
        error = ServerProtocolError(
            f"Failed to authorize socket handshake - Invalid origin: {shown}"
        )
        server.emit_warning(error)
        raise UpgradeRefusedError(403, str(error))


async def shake_hands(socket: AGServerSocket, request: Any) -> None:
    """Carry out '#handshake'."""
    await socket.introduced()
    if socket.last_words is not None:
        asyncio.get_running_loop().call_soon(abort_undecided, socket)
    data = request.data if isinstance(request.data, dict) else {}
    signed_token = data.get("authToken")
    if signed_token in ("", 0):
        signed_token = None
    info = await socket.auth.verify(signed_token)
    if socket.ended or not await _allowed(socket, request, info):
        return
    auth_error: BaseException | None = None
    try:
        if signed_token is not None or info.auth_token is not None:
            await socket.auth.accept(info)
    except Exception as error:
        if signed_token is not None:
            auth_error = error
    if socket.ended:
        return
    authenticated = socket.auth_state == AUTHENTICATED
    _open(socket, request, auth_error, authenticated)
    timeout = socket.server.ping_timeout
    await settled(
        socket,
        ("connect", ConnectEvent(socket.id, timeout, authenticated, auth_error)),
        (
            "connection",
            ConnectionEvent(socket, socket.id, timeout, authenticated, auth_error),
        ),
    )
    if authenticated and socket.auth_state == AUTHENTICATED:
        socket.auth.trigger_events("unauthenticated")
    if not socket.ended:
        socket.streams.put_call("#handshake", request)


async def _allowed(socket: AGServerSocket, request: Any, info: Any) -> bool:
    if socket.handshake_line is None:
        return True
    try:
        await socket.decide(
            MIDDLEWARE_HANDSHAKE,
            AGAction.HANDSHAKE_SC,
            request=socket.request,
            data=info,
            signed_auth_token=info.signed_auth_token,
            auth_token=info.auth_token,
            auth_token_error=info.auth_token_error,
        )
    except Exception as error:
        if socket.state != CLOSED:
            status = getattr(error, "status_code", None)
            if type(status) is not int or not (3000 <= status <= 4999 or status == 1000):
                status = CLOSE_HANDSHAKE_REJECTED
            with contextlib.suppress(AttributeError):  # An error that takes no attributes.
                error.status_code = status  # type: ignore[attr-defined]
            request.error(error)
            socket.disconnect(status)
        return False
    return not socket.ended


def _open(
    socket: AGServerSocket, request: Any, auth_error: BaseException | None, authenticated: bool
) -> None:
    """The socket is connected: among the clients before anybody hears of it."""
    status: dict[str, Any] = {
        "id": socket.id,
        "pingTimeout": socket.server.ping_timeout,
        "isAuthenticated": authenticated,
    }
    if auth_error is not None:
        status["authError"] = dehydrate_error(auth_error)
    socket.state = OPEN
    socket.was_opened = True
    socket.server.welcome(socket)
    if socket.last_words is not None:
        lost_in_handshake(socket)
    _answer(socket, request, status)
    if auth_error is not None and getattr(auth_error, "is_bad_token", False):
        socket.auth.drop_and_tell()
    if socket.server.options.batch_on_handshake:
        socket.batching.run_for(socket.server.options.milliseconds("batch_on_handshake_duration"))
    if socket.handshake_line is not None:
        socket.handshake_line.close()


def _answer(socket: AGServerSocket, request: Any, data: dict[str, Any]) -> None:
    if socket.state == CLOSED:
        request.sent = True  # The client left, and its last words are being carried out.
    else:
        request.end(data)


async def settled(socket: AGServerSocket, *events: tuple[str, Any]) -> None:
    """Emit events and wait until every consumer has handled them, so that what the handlers set
    up misses nothing of what the client has sent already.

    The first of a pair is emitted on the socket if its name is 'connect', else on the server. A
    consumer has handled an event when it asks for the next one. One that stays with it, as a
    loop over the socket's own streams does, is waited for no longer than `handshake_timeout`,
    and only a moment once it has begun to listen to the socket.
    """
    waiting = sum(_consumers(socket, name) for name, _ in events)
    if not waiting:
        return
    loop = asyncio.get_running_loop()
    handled: asyncio.Future[bool] = loop.create_future()
    left = len(events)

    def done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            finish(handled, True)

    for name, event in events:
        emitter = socket if name == "connect" else socket.server
        emitter.emit_tracked(name, event, done)
    socket.settle(handled)
    seconds = socket.server.handshake_timeout / 1000
    timer = loop.call_later(seconds, finish, handled, False)
    try:
        in_time = await handled
    finally:
        timer.cancel()
        socket.settle(None)
    if not in_time:
        socket.server.emit_warning(
            SocketClusterError(
                f"A listener of '{events[-1][0]}' has been busy with a socket for longer than "
                "handshake_timeout, and what the socket sends could not be held back longer; "
                "handle each socket in a task of its own"
            )
        )
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def finish(handled: asyncio.Future[bool], in_time: bool) -> None:
    """Settle what `settled` waits for, unless it was settled before."""
    if not handled.done():
        handled.set_result(in_time)


def _consumers(socket: AGServerSocket, name: str) -> int:
    emitter = socket if name == "connect" else socket.server
    return emitter.get_listener_consumer_count(name)


async def authenticate(socket: AGServerSocket, request: Any) -> None:
    """Carry out '#authenticate'."""
    old_state = socket.auth_state
    signed_token = request.data
    info = await socket.auth.verify(signed_token)
    if socket.ended:
        return
    try:
        await socket.auth.accept(info)
    except Exception as error:
        if socket.ended:
            return
        if getattr(error, "is_bad_token", False):
            if socket.state != CLOSED:
                request.error(error)
            socket.auth.drop_and_tell()
        else:
            shown = None if signed_token is None else dehydrate_error(error)
            _answer(socket, request, {"isAuthenticated": False, "authError": shown})
    else:
        if socket.ended:
            return
        socket.auth.trigger_events(old_state)
        _answer(socket, request, {"isAuthenticated": True, "authError": None})
    socket.streams.put_call("#authenticate", request)
