"""Middleware before packets: it decides on the action of a packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketcluster.literals import ActionType
from socketcluster.middleware import MIDDLEWARE_INBOUND
from socketcluster.protocol.packets import AnyPacket
from socketcluster.server.packets.replies import answer_error
from socketcluster.server.parts.decision import Decision, Pending
from socketcluster.server.socket import AGServerSocket


def through_middleware(
    socket: AGServerSocket,
    packet: AnyPacket,
    kind: ActionType,
    accept: Callable[[Any], Pending | None],
    **fields: Any,
) -> Decision:
    """Run an action through middleware; call `accept(data)` if it is allowed."""

    def on_verdict(error: BaseException | None, data: Any) -> Pending | None:
        if error is not None:
            answer_error(socket, packet, error)
        elif not socket.life.ended:
            return accept(data)
        return None

    return socket.middleware.put(
        MIDDLEWARE_INBOUND,
        kind,
        on_verdict,
        auth_token_expired_error=socket.auth.check_expiry(),
        **fields,
    )
