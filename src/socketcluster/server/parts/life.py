"""The life of a server's socket: a table of phases, and the one method that changes the phase.

| phase | public state | meaning |
|---|---|---|
| connecting | connecting | the handshake is not complete |
| leaving | connecting | the connection was lost while the handshake was being decided |
| open | open | the handshake is complete |
| last words | closed | the connection was lost; messages received before are carried out |
| closed | closed | the end |
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from socketcluster.literals import SocketState
from socketcluster.protocol.state import CLOSED, CONNECTING, OPEN, Transitions, checked_transition

LEAVING: Final = "leaving"
LAST_WORDS: Final = "last words"

PHASE_TRANSITIONS: Final[Transitions[str]] = {
    CONNECTING: (OPEN, LEAVING, CLOSED),
    LEAVING: (OPEN, CLOSED),
    OPEN: (LAST_WORDS, CLOSED),
    LAST_WORDS: (CLOSED,),
    CLOSED: (),
}
"""Phase → the phases that may follow it. A handshake that is allowed while the socket leaves opens
it for the events, and its last words follow at once."""

_STATES: Final[dict[str, SocketState]] = {
    CONNECTING: CONNECTING,
    LEAVING: CONNECTING,
    OPEN: OPEN,
    LAST_WORDS: CLOSED,
    CLOSED: CLOSED,
}


class Life:
    """The phase that a socket is in.

    Attributes:
        phase: one of `PHASE_TRANSITIONS`.
        state: the public state: 'connecting', 'open' or 'closed'.
        was_opened: whether the handshake has been completed.
        opened_at: when the connection was made, in seconds on the ticker's clock of silence.
        next_ping: when the next ping is due, in seconds of the loop's time.
        pinged_at: when the last ping was sent, by `perf_counter`, if its pong is to be timed.
    """

    __slots__ = ("next_ping", "opened_at", "phase", "pinged_at", "state", "was_opened")

    def __init__(self, opened_at: float, next_ping: float) -> None:
        self.phase: str = CONNECTING
        self.state: SocketState = CONNECTING
        self.was_opened: bool = False
        self.opened_at: float = opened_at
        self.next_ping: float = next_ping
        self.pinged_at: float | None = None

    def enter(self, phase: str) -> None:
        """Change to another phase.

        Raises:
            InvalidTransitionError: the phase cannot follow the present one, which stays.
        """
        self.phase = checked_transition(PHASE_TRANSITIONS, self.phase, phase)
        self.state = _STATES[phase]
        if phase == OPEN:
            self.was_opened = True

    def take_pong(self, pongs: Callable[[float], None]) -> None:
        """Call `pongs` with the seconds since the ping, if one was sent since the last pong."""
        if self.pinged_at is not None:
            pongs(perf_counter() - self.pinged_at)
            self.pinged_at = None

    @property
    def ended(self) -> bool:
        """Whether the socket is closed and its last words are over."""
        return self.phase == CLOSED
