"""The states of a connection and of its authentication, and what may follow what.

Source: SocketCluster protocol 2, "Handshake"; `AGServerSocket.state` and `authState`.
"""

from __future__ import annotations

from typing import Final

from socketcluster.errors import SOCKET_PROTOCOL_ERROR_STATUSES, SocketProtocolError

CONNECTING: Final = "connecting"
OPEN: Final = "open"
CLOSED: Final = "closed"

AUTHENTICATED: Final = "authenticated"
UNAUTHENTICATED: Final = "unauthenticated"

PENDING: Final = "pending"
SUBSCRIBED: Final = "subscribed"
UNSUBSCRIBED: Final = "unsubscribed"

TRANSITIONS: Final = {CONNECTING: (OPEN, CLOSED), OPEN: (CLOSED,), CLOSED: ()}
"""Connection state → the states that may follow it."""

PINGS: Final = {1: (b"#1", b"#2"), 2: (b"", b"")}
"""Protocol version → (ping of the server, pong of the client)."""

CLOSE_HUNG_UP: Final = 1006
CLOSE_PING_TIMEOUT: Final = 4000
CLOSE_PONG_TIMEOUT: Final = 4001
CLOSE_SIGNING_FAILED: Final = 4002
CLOSE_HANDSHAKE_FAILED: Final = 4003
CLOSE_HANDSHAKE_TIMEOUT: Final = 4005
CLOSE_CONNECT_TIMEOUT: Final = 4007
CLOSE_HANDSHAKE_REJECTED: Final = 4008
CLOSE_BEFORE_HANDSHAKE: Final = 4009


def close_error(code: int, reason: str | None) -> SocketProtocolError:
    """The error that a connection closed with a code is reported as."""
    message = SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
    if message is None:
        message = f"Socket connection closed with status code {code}"
        if reason is not None:
            message += f" and reason: {reason}"
    elif reason is not None and reason.startswith(f"{message}: "):
        message = reason  # It says more: why the connection hung up.
    error = SocketProtocolError(message, code)
    error.reason = reason
    return error
