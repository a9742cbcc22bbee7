"""Handshake: carries out the packets '#handshake' and '#authenticate'.

Source: SocketCluster protocol 2, "Handshake".
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

from socketcluster.errors import dehydrate_error
from socketcluster.events import ConnectEvent
from socketcluster.middleware import MIDDLEWARE_HANDSHAKE, AGAction
from socketcluster.protocol.state import AUTHENTICATED, CLOSE_HANDSHAKE_REJECTED, CLOSED, OPEN
from socketcluster.server.parts.tokens import AuthInfo
from socketcluster.server.socket import AGServerSocket


async def shake_hands(socket: AGServerSocket, request: Any) -> None:
    """Carry out '#handshake'."""
    if not socket.context.handshake_pace.take():
        await _wait_for_turn(socket)
    await socket.setup.handshake_handled()
    if socket.closing.last_words is not None:
        asyncio.get_running_loop().call_soon(socket.closing.abort_undecided)
    data = request.data if isinstance(request.data, dict) else {}
    signed_token = data.get("authToken")
    if signed_token in ("", 0):
        signed_token = None
    info = await socket.auth.verify(signed_token)
    if socket.life.ended or not await _allowed(socket, request, info):
        return
    auth_error: BaseException | None = None
    try:
        if signed_token is not None or info.auth_token is not None:
            await socket.auth.accept(info)
    except Exception as error:
        if signed_token is not None:
            auth_error = error
    if socket.life.ended:
        return
    authenticated = socket.auth.state == AUTHENTICATED
    _open(socket, request, auth_error, authenticated)
    context = socket.context
    event = ConnectEvent(socket.id, context.ping_timeout, authenticated, auth_error)
    server_event = context.observer.connection_event(socket, authenticated, auth_error)
    await socket.setup.emit(
        (socket, "connect", event), (context.emitter, "connection", server_event)
    )
    if authenticated and socket.auth.state == AUTHENTICATED:
        socket.auth.emit_authenticated("unauthenticated")
    if not socket.life.ended:
        socket.streams.put_call("#handshake", request)


async def _wait_for_turn(socket: AGServerSocket) -> None:
    """Wait until the pace of handshakes allows one more; `handshake_timeout` begins anew then."""
    life, context = socket.life, socket.context
    life.opened_at = math.inf
    await context.handshake_pace.turn()
    life.opened_at = context.ticker.now


async def _allowed(socket: AGServerSocket, request: Any, info: AuthInfo) -> bool:
    """Run HANDSHAKE_SC middleware, and close a refused socket; return whether it is allowed."""
    if socket.middleware.handshake_line is None:
        return True
    try:
        await socket.middleware.decide(
            MIDDLEWARE_HANDSHAKE,
            AGAction.HANDSHAKE_SC,
            request=socket.request,
            data=info,
            signed_auth_token=info.signed_auth_token,
            auth_token=info.auth_token,
            auth_token_error=info.auth_token_error,
        )
    except Exception as error:
        if socket.life.state != CLOSED:
            status = getattr(error, "status_code", None)
            if type(status) is not int or not (3000 <= status <= 4999 or status == 1000):
                status = CLOSE_HANDSHAKE_REJECTED
            with contextlib.suppress(AttributeError):  # An error without a __dict__.
                error.status_code = status  # type: ignore[attr-defined]
            request.error(error)
            socket.disconnect(status)
        return False
    return not socket.life.ended


def _open(
    socket: AGServerSocket, request: Any, auth_error: BaseException | None, authenticated: bool
) -> None:
    """Open the socket. It becomes one of the server's clients before any handler receives it."""
    options = socket.context.options
    status: dict[str, Any] = {
        "id": socket.id,
        "pingTimeout": socket.context.ping_timeout,
        "isAuthenticated": authenticated,
    }
    if auth_error is not None:
        status["authError"] = dehydrate_error(auth_error)
    socket.life.enter(OPEN)
    socket.context.observer.opened(socket)
    socket.closing.handshake_completed()
    _answer(socket, request, status)
    socket.messaging.unanswered.clear()  # It is empty, but still takes 160 bytes for that call.
    if auth_error is not None and getattr(auth_error, "is_bad_token", False):
        socket.auth.drop_everywhere()
    if options.batch_on_handshake:
        socket.batching.run_for(options.milliseconds("batch_on_handshake_duration"))
    if socket.middleware.handshake_line is not None:
        socket.middleware.handshake_line.close()
    if socket.context.sessions is not None and not socket.life.ended:
        socket.context.sessions.opened(socket)


def _answer(socket: AGServerSocket, request: Any, data: dict[str, Any]) -> None:
    if socket.life.state == CLOSED:
        request.sent = True  # The client left, and its last words are being carried out.
    else:
        request.end(data)


async def authenticate(socket: AGServerSocket, request: Any) -> None:
    """Carry out '#authenticate'."""
    old_state = socket.auth.state
    signed_token = request.data
    info = await socket.auth.verify(signed_token)
    if socket.life.ended:
        return
    try:
        await socket.auth.accept(info)
    except Exception as error:
        if socket.life.ended:
            return
        if getattr(error, "is_bad_token", False):
            if socket.life.state != CLOSED:
                request.error(error)
            socket.auth.drop_everywhere()
        else:
            auth_error = None if signed_token is None else dehydrate_error(error)
            _answer(socket, request, {"isAuthenticated": False, "authError": auth_error})
    else:
        if socket.life.ended:
            return
        socket.auth.emit_authenticated(old_state)
        _answer(socket, request, {"isAuthenticated": True, "authError": None})
    socket.streams.put_call("#authenticate", request)
