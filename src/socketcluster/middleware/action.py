"""AGAction: one thing that a socket wants to do, for a middleware function to decide on."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from socketcluster.errors import InvalidActionError
from socketcluster.literals import ActionOutcome, ActionType

Outcome = ActionOutcome | Literal["dropped", "ended"]
"""The decision on an action, or the reason why there is none: its function dropped it, or ended."""

UNCHANGED: Any = object()
"""`allow()` without data: the action keeps its own data."""


class OnDecision(Protocol):
    """Receives the decision on an action."""

    def check(self) -> None:
        """Raise UsageError in a thread that must not decide."""

    def __call__(self, outcome: Outcome, value: Any) -> None:
        """Take the outcome, and its data or error."""


class Place(Protocol):
    """A `Position` in the history of a channel."""

    @property
    def epoch(self) -> str: ...
    @property
    def offset(self) -> int: ...


class Recovering:
    """The recovery that a SUBSCRIBE action asks for, which its middleware function may narrow.

    Attributes:
        position: the client receives the publishes behind it; None if it recovers nothing.
        narrowed: whether middleware lets the client receive less than it asked for.
    """

    __slots__ = ("narrowed", "position")

    def __init__(self, position: Any) -> None:
        self.position: Any = position
        self.narrowed: bool = False

    def narrow(self, position: Place | None) -> None:
        """Let the client receive less: the publishes behind a later position, or nothing.

        Raises:
            InvalidActionError: the position is earlier, or in another history.
        """
        own = self.position
        if position is not None and (
            own is None or position.epoch != own.epoch or position.offset < own.offset
        ):
            raise InvalidActionError(
                f"action.recover can only be narrowed: {position!r} is not behind {own!r} in the "
                "same epoch"
            )
        self.narrowed |= position != own
        self.position = position


class AGAction(msgspec.Struct, eq=False):
    """One action of a socket: a middleware function calls `allow` or `block` on it, exactly once.

    `type` is one of the nine constants of this class, and says which attributes are set:

    - `HANDSHAKE_WS`: request
    - `HANDSHAKE_SC`: request, socket, data (signed_auth_token, auth_token_error, auth_token,
      auth_state)
    - `MESSAGE`: socket, data (str or bytes)
    - `TRANSMIT`: socket, receiver, data
    - `INVOKE`: socket, procedure, data
    - `SUBSCRIBE`, `PUBLISH_IN`, `PUBLISH_OUT`: socket, channel, data
    - `AUTHENTICATE`: socket, signed_auth_token, auth_token

    `auth_token_expired_error` is set if the socket's token has expired. `again` is true of a
    `SUBSCRIBE` that asks whether a socket may stay subscribed, after it lost its token or got
    another user's. `presence` is true of a `SUBSCRIBE` to `$presence/<channel>`, which shows the
    members of the channel, and of its `PUBLISH_OUT`. `recover` is the Position behind which a
    `SUBSCRIBE` asks for missed publishes; set it to a later one, or to None for none. `outcome` is
    'allowed' or 'blocked', and None before the decision.

    An action that its function drops without a decision is blocked.

    Source: SocketCluster documentation, "Middleware and authorization".
    """

    # One is made for every message that passes middleware: a msgspec.Struct takes 40 % of
    # the time that a dataclass with slots takes.

    HANDSHAKE_WS: ClassVar[Literal["handshakeWS"]] = "handshakeWS"
    HANDSHAKE_SC: ClassVar[Literal["handshakeSC"]] = "handshakeSC"
    MESSAGE: ClassVar[Literal["message"]] = "message"
    TRANSMIT: ClassVar[Literal["transmit"]] = "transmit"
    INVOKE: ClassVar[Literal["invoke"]] = "invoke"
    SUBSCRIBE: ClassVar[Literal["subscribe"]] = "subscribe"
    PUBLISH_IN: ClassVar[Literal["publishIn"]] = "publishIn"
    PUBLISH_OUT: ClassVar[Literal["publishOut"]] = "publishOut"
    AUTHENTICATE: ClassVar[Literal["authenticate"]] = "authenticate"

    type: ActionType
    socket: Any = None
    request: Any = None
    data: Any = None
    channel: str = ""
    receiver: str = ""
    procedure: str = ""
    signed_auth_token: Any = None
    auth_token: dict[str, Any] | None = None
    auth_token_error: BaseException | None = None
    auth_token_expired_error: BaseException | None = None
    again: bool = False
    presence: bool = False
    outcome: ActionOutcome | None = None
    _on_decision: OnDecision | None = None
    _recovering: Recovering | None = None

    @property
    def recover(self) -> Place | None:
        """The position that the client recovers from; None for any other action.

        Raises on setting:
            InvalidActionError: the position is earlier, or in another history; or the action was
                already allowed or blocked.
        """
        return None if self._recovering is None else self._recovering.position

    @recover.setter
    def recover(self, position: Place | None) -> None:
        if self.outcome is not None:
            raise InvalidActionError(
                f"AGAction {self.type} has already been {self.outcome}; set its recover before"
            )
        recovering = self._recovering or Recovering(None)
        recovering.narrow(position)

    def allow(self, data: Any = UNCHANGED) -> None:
        """Let the action through, with `data` in place of its own if given.

        Raises:
            InvalidActionError: it was already allowed or blocked.
        """
        self._decide("allowed", "allow", self.data if data is UNCHANGED else data)

    def block(self, error: BaseException | str | None = None) -> None:
        """Refuse the action.

        The client receives the error. Without an error, or with one whose `silent` attribute is
        true, it receives only a `SilentMiddlewareBlockedError`. In the handshake the error's
        `status_code` (4008 without one) closes the socket.

        Raises:
            InvalidActionError: it was already allowed or blocked.
        """
        self._decide("blocked", "block", error)

    def on_decision(self, callback: OnDecision) -> None:
        """Call `callback(outcome, data or error)` once.

        That is at the decision, or when the last reference to the action is dropped.
        """
        self._on_decision = callback

    def _decide(self, outcome: ActionOutcome, verb: str, value: Any) -> None:
        if self.outcome is not None:
            raise InvalidActionError(
                f"AGAction {self.type} has already been {self.outcome}; cannot {verb}"
            )
        if self._on_decision is None:
            self.outcome = outcome
        else:
            self._on_decision.check()
            self.outcome = outcome
            self._on_decision(outcome, value)

    def __del__(self) -> None:
        # The middleware function dropped it without a decision.
        if self.outcome is None and self._on_decision is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                self._on_decision("dropped", None)

    def __repr__(self) -> str:
        names = (self.channel, self.receiver, self.procedure)
        name = next((f" {name!r}" for name in names if name), "")
        return f"<AGAction {self.type}{name} {self.outcome or 'undecided'}>"
