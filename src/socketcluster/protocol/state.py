"""State machines of sockets, their authentication and their subscriptions.

Each side holds its states in a `StateMachine` over a table of transitions. A change that the table
does not have raises, so that a wrong order of events is reported where it occurs.

Source: SocketCluster protocol 2, "Handshake"; `AGServerSocket.state` and `authState`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from socketcluster.errors import SOCKET_PROTOCOL_ERROR_STATUSES, SocketProtocolError
from socketcluster.literals import AuthenticationState, SocketState, SubscriptionState

CONNECTING: Final = "connecting"
OPEN: Final = "open"
CLOSED: Final = "closed"

AUTHENTICATED: Final = "authenticated"
UNAUTHENTICATED: Final = "unauthenticated"

PENDING: Final = "pending"
SUBSCRIBED: Final = "subscribed"
UNSUBSCRIBED: Final = "unsubscribed"

StateT = TypeVar("StateT", bound=str)

Transitions = Mapping[StateT, tuple[StateT, ...]]
"""State → the states that may follow it."""

CONNECTION_TRANSITIONS: Final[Transitions[SocketState]] = {
    CONNECTING: (OPEN, CLOSED),
    OPEN: (CLOSED,),
    CLOSED: (),
}
"""One connection, and the server's socket over it. 'closed' is final."""

CLIENT_TRANSITIONS: Final[Transitions[SocketState]] = {
    **CONNECTION_TRANSITIONS,
    CLOSED: (CONNECTING,),
}
"""A client, which connects again."""

AUTH_TRANSITIONS: Final[Transitions[AuthenticationState]] = {
    UNAUTHENTICATED: (AUTHENTICATED,),
    AUTHENTICATED: (UNAUTHENTICATED,),
}
"""The authentication of a socket, on either side."""

SUBSCRIPTION_TRANSITIONS: Final[Transitions[SubscriptionState]] = {
    PENDING: (SUBSCRIBED, UNSUBSCRIBED),
    SUBSCRIBED: (PENDING, UNSUBSCRIBED),
    UNSUBSCRIBED: (),
}
"""A client's subscription: pending again when the connection is lost."""

PINGS: Final = {1: (b"#1", b"#2"), 2: (b"", b"")}
"""Protocol version → (ping of the server, pong of the client)."""

CLOSE_NO_STATUS: Final = 1005
CLOSE_HUNG_UP: Final = 1006
CLOSE_PING_TIMEOUT: Final = 4000
CLOSE_PONG_TIMEOUT: Final = 4001
CLOSE_SIGNING_FAILED: Final = 4002
CLOSE_HANDSHAKE_FAILED: Final = 4003
CLOSE_HANDSHAKE_TIMEOUT: Final = 4005
CLOSE_CONNECT_TIMEOUT: Final = 4007
CLOSE_HANDSHAKE_REJECTED: Final = 4008
CLOSE_BEFORE_HANDSHAKE: Final = 4009


class InvalidTransitionError(AssertionError):
    """A state change that the table does not allow: a bug in this package."""


def checked_transition(transitions: Transitions[StateT], old: StateT, new: StateT) -> StateT:
    """Return `new`, for an object that keeps its state in an attribute of its own.

    Raises:
        InvalidTransitionError: `new` may not follow `old`.
    """
    if new not in transitions[old]:
        raise InvalidTransitionError(f"The state {new!r} may not follow {old!r}")
    return new


class StateMachine(Generic[StateT]):
    """A state that changes only as its table of transitions allows.

    Attributes:
        state: the current state. Read it freely; only `to` changes it.
    """

    __slots__ = ("_transitions", "state")

    def __init__(self, transitions: Transitions[StateT], initial: StateT) -> None:
        self._transitions = transitions
        self.state: StateT = initial

    def to(self, new: StateT) -> None:
        """Change to another state.

        Raises:
            InvalidTransitionError: it may not follow the current state, which stays.
        """
        self.state = checked_transition(self._transitions, self.state, new)

    def __repr__(self) -> str:
        return f"<StateMachine {self.state}>"


def close_error(code: int, reason: str | None) -> SocketProtocolError:
    """Create the error that reports the close of a connection with a code."""
    message = SOCKET_PROTOCOL_ERROR_STATUSES.get(code)
    if message is None:
        message = f"Socket connection closed with status code {code}"
        if reason is not None:
            message += f" and reason: {reason}"
    elif reason is not None and reason.startswith(f"{message}: "):
        message = reason  # It also says why the connection hung up.
    error = SocketProtocolError(message, code)
    error.reason = reason
    return error
