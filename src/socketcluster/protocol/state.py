"""The states of a connection and of its authentication, and what may follow what.

Source: SocketCluster protocol 2, "Handshake"; `AGServerSocket.state` and `authState`.
"""

from __future__ import annotations

from typing import Final

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

CLOSE_PONG_TIMEOUT: Final = 4001
CLOSE_SIGNING_FAILED: Final = 4002
CLOSE_HANDSHAKE_TIMEOUT: Final = 4005
CLOSE_HANDSHAKE_REJECTED: Final = 4008
CLOSE_BEFORE_HANDSHAKE: Final = 4009
