"""Recovery: the option of a server whose clients recover by a session, and what a session must be.

A session is a secret that a client makes, and sends whenever it connects. Who knows it receives
what its client missed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from socketcluster.errors import InvalidOptionsError
from socketcluster.literals import SessionStore
from socketcluster.options import Duration, invalid_option, milliseconds

WINDOW = 120_000
MAX_WINDOW = 86_400_000
STORES: tuple[str, ...] = get_args(SessionStore)
MAX_SESSION = 256
"""Characters of the longest session."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RANDOM_UUID = re.compile(r".{14}4.{4}[89ab].{16}", re.IGNORECASE)
_TEXT = re.compile(r"[A-Za-z0-9_-]+")
_ALPHABETS = (
    (re.compile(r"[0-9]+"), 37),
    (re.compile(r"[0-9a-f]+|[0-9A-F]+"), 31),
    (re.compile(r"[0-9a-z]+|[0-9A-Z]+"), 24),
)
"""Alphabets, and how many random characters of each have 122 bits."""

_MIN_LENGTH = 22
_MIN_DISTINCT = 8
"""Different characters. Of 10^7 random texts of 31 hexadecimal digits one has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Let stock clients recover what they missed: `AGServer(recovery=Recovery())`.

    A client takes part with one line, `create({query: {session: crypto.randomUUID()}})`. If its
    connection is lost, its next one receives the publishes of channels with history that the former
    one did not confirm with a pong: nothing is lost, and publishes after the last confirmed ping
    may come twice.

    Attributes:
        window: how long the positions of a lost client are kept, in milliseconds or as a timedelta;
            at most a day.
        session: where the session is: "query:NAME" for the query string, "claim:NAME" for a claim
            of the token, or a function that returns the one of a socket, or None. A session is a
            secret of 122 random bits or more: a UUID of version 4, or 22 characters or more of
            base64url. It stands for one connection: a second one takes it over.
        store: "memory" keeps positions in the processes of the application, which hand them to each
            other. "engine" writes them to the broker's backend, too, once per ping interval, so
            that they outlive a process that is killed.

    Raises:
        InvalidOptionsError: a value is wrong.
    """

    window: Duration = WINDOW
    session: str | Callable[[Any], str | None] = "query:session"
    store: SessionStore = "memory"

    def __post_init__(self) -> None:
        window = milliseconds("recovery.window", self.window)
        if not 0 < window <= MAX_WINDOW:
            raise invalid_option("recovery.window", "above 0, at most a day", self.window)
        object.__setattr__(self, "window", window)
        if self.store not in STORES:
            raise invalid_option("recovery.store", "'memory' or 'engine'", self.store)
        if not callable(self.session):
            kind, _, name = str(self.session).partition(":")
            if kind not in ("query", "claim") or not name:
                expected = "'query:NAME', 'claim:NAME' or a function of a socket"
                raise invalid_option("recovery.session", expected, self.session)

    @property
    def seconds(self) -> float:
        """The `window` in seconds."""
        window: Any = self.window
        return float(window) / 1000


def check_recovery(recovery: object, *, has_pings: bool) -> None:
    """Check the option `recovery` of a server.

    Raises:
        InvalidOptionsError: it is no Recovery, or the server sends no pings.
    """
    if recovery is None:
        return
    if not isinstance(recovery, Recovery):
        raise invalid_option("recovery", "Recovery(window=…) or None", recovery)
    if not has_pings:
        raise InvalidOptionsError(
            "The recovery option needs pings, which tell how much a client has received: remove "
            "ping_timeout_disabled",
            "recovery",
        )


def is_secret(session: object) -> bool:
    """Whether a session is a text that may have 122 random bits."""
    if not isinstance(session, str) or not _MIN_LENGTH <= len(session) <= MAX_SESSION:
        return False
    if _UUID.fullmatch(session):
        return _RANDOM_UUID.fullmatch(session) is not None and _is_varied(session)
    if not _TEXT.fullmatch(session) or not _is_varied(session):
        return False
    return all(
        len(session) >= least or not alphabet.fullmatch(session) for alphabet, least in _ALPHABETS
    )


def _is_varied(session: str) -> bool:
    return len(set(session)) >= _MIN_DISTINCT
