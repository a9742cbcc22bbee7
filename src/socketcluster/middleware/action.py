"""AGAction: one thing that a socket wants to do, put before a middleware function."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Protocol

import msgspec

from socketcluster.errors import InvalidActionError

UNCHANGED: Any = object()
"""`allow()` without data: the action's own data stands."""


class Deciding(Protocol):
    """What follows from a decision on an action."""

    def check(self) -> None:
        """Raise UsageError in a thread that may not decide."""

    def __call__(self, outcome: str, value: Any) -> None:
        """It was decided, or nobody can decide it any more."""


class AGAction(msgspec.Struct, eq=False):
    """An action awaiting `allow` or `block`; a middleware function decides each exactly once.

    Which attributes are set depends on `type`, one of the nine constants of this class:

    - `HANDSHAKE_WS`: request
    - `HANDSHAKE_SC`: request, socket, data (signed_auth_token, auth_token_error, auth_token,
      auth_state)
    - `MESSAGE`: socket, data (str or bytes)
    - `TRANSMIT`: socket, receiver, data
    - `INVOKE`: socket, procedure, data
    - `SUBSCRIBE`, `PUBLISH_IN`, `PUBLISH_OUT`: socket, channel, data
    - `AUTHENTICATE`: socket, signed_auth_token, auth_token

    `auth_token_expired_error` is set when the socket's token had expired by then. `again` is true
    of a `SUBSCRIBE` by a socket that lost its token or got another user's: may it stay subscribed?

    It is a msgspec.Struct because one is made for every message that passes middleware.

    Source: SocketCluster documentation, "Middleware and authorization".
    """

    HANDSHAKE_WS: ClassVar = "handshakeWS"
    HANDSHAKE_SC: ClassVar = "handshakeSC"
    MESSAGE: ClassVar = "message"
    TRANSMIT: ClassVar = "transmit"
    INVOKE: ClassVar = "invoke"
    SUBSCRIBE: ClassVar = "subscribe"
    PUBLISH_IN: ClassVar = "publishIn"
    PUBLISH_OUT: ClassVar = "publishOut"
    AUTHENTICATE: ClassVar = "authenticate"

    type: str
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
    outcome: str | None = None
    _decided: Deciding | None = None

    def allow(self, data: Any = UNCHANGED) -> None:
        """Let the action through, with `data` instead of its own if given.

        Raises:
            InvalidActionError: it was already allowed or blocked.
        """
        self._settle("allowed", "allow", self.data if data is UNCHANGED else data)

    def block(self, error: BaseException | str | None = None) -> None:
        """Refuse the action.

        Without an error, or with one whose `silent` attribute is true, the client is told only
        that it was blocked (`SilentMiddlewareBlockedError`). In the handshake the error's
        `status_code` (4008 without one) closes the socket.

        Raises:
            InvalidActionError: it was already allowed or blocked.
        """
        self._settle("blocked", "block", error)

    def on_decided(self, decided: Deciding) -> None:
        """Have `decided(outcome, data or error)` called once, also if nobody can decide now."""
        self._decided = decided

    def _settle(self, outcome: str, verb: str, value: Any) -> None:
        if self.outcome is not None:
            raise InvalidActionError(
                f"AGAction {self.type} has already been {self.outcome}; cannot {verb}"
            )
        if self._decided is None:
            self.outcome = outcome
        else:
            self._decided.check()
            self.outcome = outcome
            self._decided(outcome, value)

    def __del__(self) -> None:
        # Dropped by a middleware function that neither allowed nor blocked it.
        if self.outcome is None and self._decided is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
                self._decided("dropped", None)

    def __repr__(self) -> str:
        return f"<AGAction {self.type} {self.outcome or 'undecided'}>"
